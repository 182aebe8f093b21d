"""Set-points of a balancing authority: checked, stamped, and put on their stream; shared by every door they come in by.

One writer a door; where there are several doors the newest set-point stands, which is the core's rule.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import structlog
from pydantic import ValidationError
from redis.asyncio import Redis

from aggregator.api.errors import Refusal
from aggregator.api.models import SignalAnswer, SignalBody
from aggregator.api.publish import Publisher, json_object
from aggregator.api.settings import Settings
from telemetry.samples import SIGNAL

log = structlog.get_logger(__name__)

EXAMPLE: Final = '{"power_kw": 250.0, "valid_s": 30}'


class SignalWriter:
    """The one writer of `signal:{area}:{name}`."""

    def __init__(self, store: Redis, area: str, name: str, source: int) -> None:
        """Name the door in the stream's name and, by its number, in each row."""
        self._source = source
        self._stream = Publisher(store, f"signal:{area}:{name}")

    async def write(self, body: SignalBody, now_ns: int) -> SignalAnswer:
        """Put a checked set-point on the stream. Raises StoreLost; then it may or may not have been written."""
        valid_until_ns = now_ns + int(body.valid_s * 1e9)
        row = np.zeros(1, SIGNAL)
        row["t_ns"] = row["rx_ns"] = now_ns
        row["valid_until_ns"] = valid_until_ns
        row["power_kw"] = body.power_kw
        row["source"] = self._source
        entry = await self._stream.put(row, now_ns)
        log.info("signal", id=entry, power_kw=body.power_kw, valid_s=body.valid_s)
        return SignalAnswer(
            id=entry, stream=self._stream.stream, power_kw=body.power_kw, valid_until_ns=valid_until_ns
        )  # fmt: skip


def parse_signal(data: bytes, settings: Settings) -> SignalBody:
    """The body of POST /v1/signal. Raises Refusal, 400 for what is no JSON object, 422 for a bad field."""
    try:
        body = SignalBody.model_validate(json_object(data, EXAMPLE))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0])[:40]
        remedy = "only power_kw and valid_s are known" if first["type"] == "extra_forbidden" else f"send {EXAMPLE}"
        raise Refusal(422, f"{name}: {first['msg']}", name, remedy) from None
    return within(body, settings.signal_max_kw, settings.signal_valid_max_s)


def within(body: SignalBody, most_kw: float, valid_max_s: float) -> SignalBody:
    """The body itself. Raises Refusal 422 for one out of range."""
    if abs(body.power_kw) > most_kw:
        limit = f"at most {most_kw:g} kW either way"
        raise Refusal(422, f"power_kw is {body.power_kw:g}", "power_kw", limit)
    if body.valid_s > valid_max_s:
        limit = f"at most {valid_max_s:g} s; send it again before it expires"
        raise Refusal(422, f"valid_s is {body.valid_s:g}", "valid_s", limit)
    return body
