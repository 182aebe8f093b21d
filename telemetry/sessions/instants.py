"""Times as session files write them, as int64 ns since 1970 UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from email.utils import parsedate_to_datetime
from typing import Final

from telemetry.sessions.errors import Fault

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
# Ways of saying that there is nothing.
NOTHING: Final = frozenset({"", "na", "nan", "null", "none", "-"})


def ns_of(moment: datetime) -> int:
    """An aware datetime as ns since 1970 UTC."""
    return (moment - EPOCH) // MICROSECOND * 1000


def iso_ns(text: str, field: str, zone: tzinfo) -> int:
    """ISO date and time; one that names no zone is in `zone`, of an hour that comes twice the first. Raises Fault."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise Fault(field, f"{field}_time", f"{text!r} is no ISO date and time") from None
    return ns_of(moment if moment.tzinfo is not None else moment.replace(tzinfo=zone))


def rfc_ns(text: object, field: str) -> int:
    """RFC 1123 date and time (`Tue, 01 Dec 2020 13:59:06 GMT`). Raises Fault."""
    try:
        moment = parsedate_to_datetime(str(text))
    except (ValueError, TypeError):
        raise Fault(field, f"{field}_time", f"{text!r} is no RFC 1123 date and time") from None
    return ns_of(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))


def number(text: str, field: str, *, comma: bool = False) -> float:
    """A number, with a decimal comma where the format has one. Raises Fault."""
    try:
        return float(text.strip().replace(",", ".") if comma else text)
    except ValueError:
        raise Fault(field, field.removesuffix("_kwh"), f"{text!r} is no number") from None
