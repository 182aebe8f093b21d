"""Whether a command to the fleet's set-point is let in: authority, value, range, age, pace. Pure: time is passed in.

It knows requests and limits, no library and no connection. A refusal carries the AddCause that the utility sees and the
name it is counted by. IEC 61850-7-2 has no AddCause for a value out of range: `inconsistent-parameters` stands for it,
together with the access error `object-value-invalid`.

Sources: IEC 61850-7-2 (AddCause, orCat), IEC 61850-7-3 (origin); AddCause numbers as in IEC 61850-8-1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

S: Final = 1_000_000_000
LAG_NS: Final = 2 * S  # from a command let in to the figures that show it, generously


class AddCause(IntEnum):
    """Why a command is not carried out, as the standard numbers it; those we use."""

    UNKNOWN = 0
    BLOCKED_BY_SWITCHING_HIERARCHY = 2
    SELECT_FAILED = 3
    STEP_LIMIT = 7
    BLOCKED_BY_MODE = 8
    BLOCKED_BY_PROCESS = 9
    BLOCKED_BY_HEALTH = 13
    TIME_LIMIT_OVER = 16
    NO_ACCESS_AUTHORITY = 20
    COMMUNICATION_LOST = 23
    INCONSISTENT_PARAMETERS = 26


class Access(IntEnum):
    """What the write of SBOw or Oper answers: DataAccessError of MMS, and -1 for a command that is let in."""

    ACCEPTED = -1
    FAULT = 1
    UNAVAILABLE = 2
    DENIED = 3
    INVALID = 11


class Category(IntEnum):
    """orCat of an origin: who commands, and from where."""

    NOT_SUPPORTED = 0
    BAY = 1
    STATION = 2
    REMOTE = 3
    AUTOMATIC_BAY = 4
    AUTOMATIC_STATION = 5
    AUTOMATIC_REMOTE = 6
    MAINTENANCE = 7
    PROCESS = 8


class Request(NamedTuple):
    """A select or an operate as it came."""

    select: bool
    power_kw: float  # NaN: there is no number in it
    t_ns: int  # T of the command, the client's clock
    test: bool
    category: int
    ident: bytes  # of the origin, at most 64 octets
    number: int  # ctlNum
    client: str  # name of the certificate's holder
    address: str  # of the connection
    may_operate: bool


class Refusal(NamedTuple):
    """Why not."""

    reason: str  # what it is counted by
    cause: AddCause
    access: Access


@dataclass(frozen=True)
class Limits:
    """What a set-point must keep to.

    most_kw    : largest magnitude
    step_kw    : largest change at once; None: any
    interval_s : between two set-points
    age_s      : of T against our clock, either way
    categories : of origins that may command
    """

    most_kw: float
    step_kw: float | None = None
    interval_s: float = 0.5
    age_s: float = 10.0
    categories: frozenset[int] = frozenset({Category.REMOTE, Category.AUTOMATIC_REMOTE})


AUTHORITY: Final = Refusal("authority", AddCause.NO_ACCESS_AUTHORITY, Access.DENIED)
ORIGIN: Final = Refusal("origin", AddCause.BLOCKED_BY_SWITCHING_HIERARCHY, Access.DENIED)
TEST: Final = Refusal("test", AddCause.BLOCKED_BY_MODE, Access.DENIED)
VALUE: Final = Refusal("value", AddCause.INCONSISTENT_PARAMETERS, Access.INVALID)
RANGE: Final = Refusal("range", AddCause.INCONSISTENT_PARAMETERS, Access.INVALID)
AGE: Final = Refusal("age", AddCause.TIME_LIMIT_OVER, Access.DENIED)
STEP: Final = Refusal("step", AddCause.STEP_LIMIT, Access.INVALID)
PACE: Final = Refusal("pace", AddCause.BLOCKED_BY_PROCESS, Access.UNAVAILABLE)
HEALTH: Final = Refusal("health", AddCause.BLOCKED_BY_HEALTH, Access.UNAVAILABLE)
FAULT: Final = Refusal("fault", AddCause.UNKNOWN, Access.FAULT)


class Judge:
    """The limits, and what was let in last."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._taken: tuple[int, float] | None = None

    def refuse(self, request: Request, now_ns: int, shown_kw: float | None) -> Refusal | None:
        """What stands against a request, the gravest first; None: nothing.

        shown_kw : set-point in force by the fleet's own figures; None: the fleet is not heard, and nothing is let in
        """
        rules: tuple[tuple[Refusal, Callable[[], bool]], ...] = (
            (AUTHORITY, lambda: not request.may_operate),
            (ORIGIN, lambda: request.category not in self.limits.categories),
            # Our Mod is `on`: such a node carries out no command under test (7-4, Mod).
            (TEST, lambda: request.test),
            (VALUE, lambda: not math.isfinite(request.power_kw)),
            (RANGE, lambda: abs(request.power_kw) > self.limits.most_kw),
            (AGE, lambda: abs(now_ns - request.t_ns) > self.limits.age_s * S),
            (HEALTH, lambda: shown_kw is None),
            (STEP, lambda: self._leaps(request.power_kw, now_ns, shown_kw or 0.0)),
            (PACE, lambda: self._hurries(now_ns)),
        )
        return next((refusal for refusal, holds in rules if holds()), None)

    def take(self, power_kw: float, now_ns: int) -> None:
        """A set-point was let in."""
        self._taken = now_ns, power_kw

    def standing_kw(self, now_ns: int, shown_kw: float) -> float:
        """The set-point a step starts from: the fleet's figure, or ours as long as that may lag behind it."""
        if self._taken is not None and 0 <= now_ns - self._taken[0] < LAG_NS:
            return self._taken[1]
        return shown_kw

    def _leaps(self, power_kw: float, now_ns: int, shown_kw: float) -> bool:
        step_kw = self.limits.step_kw
        return step_kw is not None and abs(power_kw - self.standing_kw(now_ns, shown_kw)) > step_kw

    def _hurries(self, now_ns: int) -> bool:
        # A clock set back must not lock the door: only a time that lies behind us counts.
        return self._taken is not None and 0 <= now_ns - self._taken[0] < self.limits.interval_s * S
