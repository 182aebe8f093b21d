"""Live figures to many clients: latest wins, nobody waits for anybody.

Each client has its own task that takes the newest frame, sends it, and comes back for the newest again: a slow
client skips frames by itself and holds no queue. One that takes nothing for `websocket_stall_s` is dropped; above
`websockets_max` clients a new one is refused with 503. Clients have nothing to say: what they send is ignored.
"""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import WSCloseCode, web

from aggregator.api.errors import Refusal
from aggregator.api.feed import Feed
from aggregator.api.settings import Settings

PING_S = 20.0


class Hub:
    """The WebSocket clients of this process."""

    def __init__(self, feed: Feed, settings: Settings) -> None:
        self._feed = feed
        self._settings = settings
        self._clients: set[web.WebSocketResponse] = set()

    @property
    def clients(self) -> int:
        """Connected now."""
        return len(self._clients)

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """One client, from handshake to close."""
        if self.clients >= self._settings.websockets_max:
            self._feed.count("ws_refused")
            limit = f"{self._settings.websockets_max} clients are connected"
            raise Refusal(503, limit, "websockets_max", "retry later, or raise websockets_max", {"Retry-After": "10"})
        ws = web.WebSocketResponse(heartbeat=PING_S, compress=False, max_msg_size=1024)
        self._clients.add(ws)  # before the handshake's await: the bound holds for simultaneous ones too
        try:
            await ws.prepare(request)
            sender = asyncio.create_task(self._send(ws, request.transport))
            try:
                async for _ in ws:
                    pass
            finally:
                sender.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await sender
        finally:
            self._clients.discard(ws)
        return ws

    async def close(self) -> None:
        """Say goodbye to all, at shutdown."""
        await asyncio.gather(
            *(ws.close(code=WSCloseCode.GOING_AWAY, message=b"shutting down") for ws in list(self._clients)),
            return_exceptions=True,
        )

    async def _send(self, ws: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        version = 0
        try:
            while not ws.closed:
                version, frame = await self._feed.newer(version)
                await asyncio.wait_for(ws.send_str(frame), self._settings.websocket_stall_s)
                self._feed.count("ws_frames")
        except TimeoutError:
            self._feed.count("ws_dropped")
            if transport is not None:
                transport.abort()  # close() would wait behind the very bytes it does not take
        except ConnectionError:
            pass  # gone; the reading side ends the handler
