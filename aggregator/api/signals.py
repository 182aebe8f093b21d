"""Set-points of a balancing authority onto their stream: checked, stamped, written once.

One writer a stream, explicit IDs "epoch-counter": a retry after a lost answer gets "equal or smaller" instead of
writing twice. The epoch is the start time in ms, raised above whatever the stream already holds, so that a
clock set back cannot make us write below an older run.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import numpy as np
import structlog
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from aggregator.api.errors import Refusal, StoreLost
from aggregator.api.feed import STORE_ERRORS
from aggregator.api.models import SignalAnswer, SignalBody
from aggregator.api.settings import Settings
from telemetry.samples import SIGNAL
from telemetry.wire import encode

log = structlog.get_logger(__name__)

FIELD: Final = b"b"
KEEP: Final = 100_000  # entries kept, about
EXAMPLE: Final = '{"power_kw": 250.0, "valid_s": 30}'


class SignalWriter:
    """The one writer of `signal:{area}:{name}`."""

    def __init__(self, store: Redis, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self.stream = f"signal:{settings.area}:{settings.name}"
        self._lock = asyncio.Lock()
        self._epoch = 0
        self._counter = 0

    async def write(self, body: SignalBody, now_ns: int) -> SignalAnswer:
        """Put a checked set-point on the stream. Raises StoreLost; then it may or may not have been written."""
        valid_until_ns = now_ns + int(body.valid_s * 1e9)
        row = np.zeros(1, SIGNAL)
        row["t_ns"] = row["rx_ns"] = now_ns
        row["valid_until_ns"] = valid_until_ns
        row["power_kw"] = body.power_kw
        row["source"] = self._settings.source
        async with self._lock:
            try:
                entry = await self._add(encode(row), now_ns)
            except STORE_ERRORS as error:
                # Written or not, we cannot know, and it may still arrive late: the next one takes a new epoch, so that
                # no counter is used twice, none is skipped (a reader would count a loss), and a late one is refused.
                self._epoch = 0
                raise StoreLost() from error
        log.info("signal", id=entry, power_kw=body.power_kw, valid_s=body.valid_s)
        return SignalAnswer(id=entry, stream=self.stream, power_kw=body.power_kw, valid_until_ns=valid_until_ns)

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


def parse_signal(data: bytes, settings: Settings) -> SignalBody:
    """The body of POST /v1/signal. Raises Refusal, 400 for what is no JSON object, 422 for a bad field."""
    try:
        table = json.loads(data, parse_int=float, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"body is not JSON: {str(error)[:120]}", "body", f"send {EXAMPLE}") from None
    if not isinstance(table, dict):
        raise Refusal(400, "body is not a JSON object", "body", f"send {EXAMPLE}")
    try:
        body = SignalBody.model_validate(table)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0])[:40]
        remedy = "only power_kw and valid_s are known" if first["type"] == "extra_forbidden" else f"send {EXAMPLE}"
        raise Refusal(422, f"{name}: {first['msg']}", name, remedy) from None
    if abs(body.power_kw) > settings.signal_max_kw:
        limit = f"at most {settings.signal_max_kw:g} kW either way"
        raise Refusal(422, f"power_kw is {body.power_kw:g}", "power_kw", limit)
    if body.valid_s > settings.signal_valid_max_s:
        limit = f"at most {settings.signal_valid_max_s:g} s; send it again before it expires"
        raise Refusal(422, f"valid_s is {body.valid_s:g}", "valid_s", limit)
    return body


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key given twice: which of two set-points was meant is not ours to guess."""
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key is given twice")
    return table
