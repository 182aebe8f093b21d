"""An owner's override of a running session: checked, tied to the car that is plugged in now, put on its stream.

The wish names the session, so that it ends with it: the next car at the charger does not inherit it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import structlog
from pydantic import ValidationError
from redis.asyncio import Redis

from aggregator.api.errors import Refusal
from aggregator.api.models import WishAnswer, WishBody
from aggregator.api.publish import Publisher, json_object
from aggregator.api.settings import Settings
from aggregator.views import Rows
from droop.fleet import Wish
from telemetry.samples import WISH, SlotState

log = structlog.get_logger(__name__)

EXAMPLE: Final = '{"wish": "no_discharge", "valid_s": 7200}'
CODES: Final = {wish.name.lower(): int(wish) for wish in Wish}
NONE: Final = "none"
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)


class WishWriter:
    """The one writer of `wishes:{area}:{name}`."""

    def __init__(self, store: Redis, settings: Settings) -> None:
        self._stream = Publisher(store, f"wishes:{settings.area}:{settings.name}")

    async def write(self, vehicle: str, body: WishBody, until_ns: int, rows: Rows, now_ns: int) -> WishAnswer:
        """Put a checked wish on the stream. Raises Refusal 404 where no such vehicle is plugged in, StoreLost.

        rows : FLEETVIEW[n], the fleet as last shown; until_ns : when the wish lapses
        """
        here = find(vehicle, rows)
        block = np.zeros(here.size, WISH)
        block["t_ns"] = block["rx_ns"] = now_ns
        block["until_ns"] = until_ns
        block["slot"], block["session"], block["wish"] = here["slot"], here["session"], CODES[body.wish]
        entry = await self._stream.put(block, now_ns)
        slots = here["slot"].tolist()
        log.info("wish", id=entry, slots=slots, wish=body.wish, until_ns=until_ns)
        return WishAnswer(
            id=entry, stream=self._stream.stream, vehicle=vehicle, slots=slots, wish=body.wish, until_ns=until_ns
        )  # fmt: skip


def find(vehicle: str, rows: Rows) -> Rows:
    """The rows of a vehicle that is plugged in: one, or those of all chargers that give its name.

    Raises Refusal 404. rows : FLEETVIEW[n]
    """
    # A name is compared without the zero bytes at its end: one that has them is nobody's.
    name = vehicle.encode("utf-8", "replace")
    known = name != b"" and b"\0" not in name
    here = rows[(rows["vehicle"] == name) & (rows["state"] != SlotState.UNPLUGGED)] if known else rows[:0]
    if not here.size:
        remedy = "GET /v1/vehicles lists those that are; a wish ends with its session"
        raise Refusal(404, f"no vehicle {vehicle[:40]!r} is plugged in", "vehicle", remedy)
    return here


def parse_wish(data: bytes, now_ns: int, settings: Settings) -> tuple[WishBody, int]:
    """The body of POST /v1/vehicles/{vehicle}/wish, and when it lapses [ns].

    Raises Refusal, 400 for what is no JSON object, 422 for a bad field.
    """
    try:
        body = WishBody.model_validate(json_object(data, EXAMPLE))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0])[:40]
        remedy = "only wish, until and valid_s are known" if first["type"] == "extra_forbidden" else f"send {EXAMPLE}"
        raise Refusal(422, f"{name}: {first['msg']}", name, remedy) from None
    if body.wish == NONE:
        if body.until is not None or body.valid_s is not None:
            raise Refusal(422, "none takes no end", "wish", 'send {"wish": "none"}')
        return body, 0
    if (body.until is None) == (body.valid_s is None):
        given = "both until and valid_s" if body.until is not None else "neither until nor valid_s"
        raise Refusal(422, f"{given} given", "valid_s", f"give one of them; send {EXAMPLE}")
    until_ns = _moment_ns(body.until) if body.until is not None else now_ns + int(1e9 * (body.valid_s or 0.0))
    field = "valid_s" if body.until is None else "until"
    if not now_ns < until_ns <= now_ns + int(settings.wish_valid_max_s * 1e9):
        limit = f"a moment ahead, at most {settings.wish_valid_max_s:g} s from now"
        raise Refusal(422, f"{field} is {getattr(body, field)}", field, limit)
    return body, until_ns


def _moment_ns(text: str) -> int:
    """An ISO 8601 moment with its offset, as ns since 1970. Raises Refusal 422."""
    remedy = "give date, time and offset, as 2026-11-21T18:00:00Z"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Refusal(422, f"until is {text[:40]!r}", "until", remedy) from None
    if moment.tzinfo is None:
        raise Refusal(422, f"until is {text[:40]!r}, in no time zone", "until", remedy)
    return (moment - EPOCH) // MICROSECOND * 1000
