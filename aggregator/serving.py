"""The API's process: an event loop around `aggregator.api`, ended by the same signals as every other process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from aiohttp.http_exceptions import BadHttpMessage

from aggregator.api.server import serve as listen
from aggregator.api.settings import Settings
from aggregator.auth import load_token
from aggregator.config import Config
from aggregator.process import Stop, lower_nice

LOOK_S = 0.1


class NoEcho(logging.Filter):
    """A malformed request is one line in the log, without its content: that may hold a token."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true; the record of a malformed request is cut."""
        if record.exc_info and isinstance(record.exc_info[1], BadHttpMessage):
            record.msg, record.args, record.exc_info = "malformed request refused", (), None
        return True


def settings(config: Config, url: str, token: str, sold_kw: float, history: Path | None = None) -> Settings:
    """The API's settings from the configuration. history : the run's folder"""
    api = config.api
    limit = sold_kw if api.signal_max_kw is None else api.signal_max_kw
    return Settings(
        redis_url=url, token=token, area=config.area, host=api.host, port=api.port, cert=api.cert, key=api.key,
        allowed_hosts=api.allowed_hosts, signal_max_kw=limit, history=history,
    )  # fmt: skip


def serve(config: Config, url: str, keys: Path, sold_kw: float, stop: Stop) -> None:
    """Listen until told to stop. keys : folder of the token's file"""
    lower_nice(5)
    logging.getLogger("aiohttp.server").addFilter(NoEcho())
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.install()
    asyncio.run(_run(settings(config, url, load_token(keys / "api.token"), sold_kw, keys.parent), stop))


async def _run(api: Settings, stop: Stop) -> None:
    ended = asyncio.Event()

    async def look() -> None:
        # Signals set `stop` from a handler or a thread; the loop learns of it here.
        while not stop:
            await asyncio.sleep(LOOK_S)
        ended.set()

    watching = asyncio.create_task(look())
    await listen(api, ended)
    await watching
