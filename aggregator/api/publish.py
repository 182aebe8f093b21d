"""Blocks of this process onto a stream of its own: each written once, whatever the store does meanwhile.

One writer a stream, explicit IDs "epoch-counter": a retry after a lost answer gets "equal or smaller" instead of
writing twice. The epoch is the start time in ms, raised above whatever the stream already holds, so that a
clock set back cannot make us write below an older run.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from aggregator.api.errors import Refusal, StoreLost
from aggregator.api.feed import STORE_ERRORS
from telemetry.samples import Block
from telemetry.wire import encode

FIELD: Final = b"b"
KEEP: Final = 100_000  # entries kept, about


def store_at(url: str, timeout_s: float) -> Redis:
    """A client that fails fast and reconnects by itself; one retry, which explicit stream IDs make harmless."""
    store: Redis = Redis.from_url(
        url,
        protocol=3,
        legacy_responses=False,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 1),
    )
    return store


class Publisher:
    """The one writer of `stream`."""

    def __init__(self, store: Redis, stream: str) -> None:
        self._store = store
        self.stream = stream
        self._lock = asyncio.Lock()
        self._epoch = 0
        self._counter = 0

    async def put(self, block: Block, now_ns: int) -> str:
        """Put a block on the stream; the entry's ID. Raises StoreLost; then it may or may not have been written."""
        async with self._lock:
            try:
                return await self._add(encode(block), now_ns)
            except STORE_ERRORS as error:
                # Written or not, we cannot know, and it may still arrive late: the next one takes a new epoch, so that
                # no counter is used twice, none is skipped (a reader would count a loss), and a late one is refused.
                self._epoch = 0
                raise StoreLost() from error

    async def _add(self, payload: bytes, now_ns: int) -> str:
        if not self._epoch:
            self._epoch = max(now_ns // 1_000_000, await self._top_epoch() + 1)
            self._counter = 0
        self._counter += 1
        entry = f"{self._epoch}-{self._counter}"
        try:
            await self._store.xadd(self.stream, {FIELD: payload}, id=entry, maxlen=KEEP, approximate=True)
        except ResponseError:
            if await self._top() != entry:  # equal: the first try of this very call was written
                raise
        return entry

    async def _top(self) -> str | None:
        newest: Any = await self._store.xrevrange(self.stream, count=1)
        return newest[0][0].decode() if newest else None

    async def _top_epoch(self) -> int:
        top = await self._top()
        return int(top.partition("-")[0]) if top else 0


def json_object(data: bytes, example: str) -> dict[str, Any]:
    """The JSON object of a body; whole numbers become floats. Raises Refusal 400."""
    try:
        table = json.loads(data, parse_int=float, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"body is not JSON: {str(error)[:120]}", "body", f"send {example}") from None
    if not isinstance(table, dict):
        raise Refusal(400, "body is not a JSON object", "body", f"send {example}")
    return table


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key given twice: which of two values was meant is not ours to guess."""
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key is given twice")
    return table
