"""When the fleet must leave the grid, and when it may come back: the interconnection's trip limits.

A pure state machine on frequency, and on voltage where that is known. In service the frequency is held against every
trip limit; beyond one without a break for its time, all vehicles cease, discharging and charging alike: a charger's own
protection opens both ways, and a pool that went on charging while its neighbours trip could not be told from a fault.
Nothing else trips, so bands that must be ridden through are ridden through (`droop.promises.Protection` refuses a trip
within one). Service is entered again when frequency and voltage have been within their window for the whole delay, and
in full after a ramp (IEEE 1547-2018 6.5.1, 4.10.2, 4.10.3; EN 50549-1 4.9, 4.10).

Only a usable sample counts: a limit is passed from one sample to another, never by a single one, and a frequency that
is lost neither trips nor lets in. A trip while tripped is none: state and count stay.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.numerics import strict
from droop.promises import Protection

Column = npt.NDArray[Any]

IN_SERVICE: Final = 0
TRIPPED: Final = 1
ENTERING: Final = 2

# The default figures, in per unit of nominal only for voltage.
IEEE_1547: Final = Protection(  # IEEE 1547-2018 tables 18 and 19 (category III bands, the widest), 4.10 [V]
    trips=((62.0, 0.16), (61.2, 300.0), (58.5, 300.0), (56.5, 0.16)),
    ride_through=((58.8, 61.2, 0.0), (57.0, 58.8, 299.0), (61.2, 61.8, 299.0)),
    enter_low_hz=59.5, enter_high_hz=60.1, enter_delay_s=300.0, enter_ramp_s=300.0,
    enter_low_pu=0.917, enter_high_pu=1.05,
)  # fmt: skip
EN_50549: Final = Protection(  # EN 50549-1 4.9.3, 4.10.2: defaults after a trip; 10 % of the power a minute [M]
    trips=((47.5, 0.5), (51.5, 0.5)), ride_through=((49.0, 51.0, 0.0), (47.5, 49.0, 1800.0), (51.0, 51.5, 1800.0)),
    enter_low_hz=49.5, enter_high_hz=50.2, enter_delay_s=60.0, enter_ramp_s=600.0, enter_low_pu=0.85,
    enter_high_pu=1.1,
)  # fmt: skip
G99: Final = Protection(  # GB, EREC G99 10.6.7 [V2 over-frequency, M the rest]
    trips=((47.0, 0.5), (47.5, 20.0), (51.5, 90.0), (52.0, 0.5)), ride_through=((49.0, 51.0, 0.0),),
    enter_low_hz=47.5, enter_high_hz=51.5, enter_delay_s=20.0, enter_ramp_s=0.0,
)  # fmt: skip


class Relay(NamedTuple):
    """The settings as columns; without trip limits there is no protection."""

    trip_hz: Column  # float64[k]
    side: Column  # float64[k]  1: under-frequency, -1: over-frequency
    trip_ns: Column  # int64[k]
    window: Column  # float64[4]  to enter: low and high Hz, low and high voltage in pu; 0: any
    enter_ns: Column  # int64[1]
    ramp_s: Column  # float64[1]


class Guard(NamedTuple):
    """Where the protection stands."""

    beyond_ns: Column  # int64[k]  each limit passed since; 0: it is not
    state: Column  # int64[1]  IN_SERVICE, TRIPPED or ENTERING
    since_ns: Column  # int64[1]  in that state
    within_ns: Column  # int64[1]  within the window to enter since; 0: outside
    share: Column  # float64[1]  of the power that may be given
    trips: Column  # int64[1]  ever


def default(nominal_hz: float, area: str) -> Protection | None:
    """The trip limits usual where a product is sold; None where they are not known."""
    if nominal_hz == 60.0:
        return IEEE_1547
    return {"GB": G99, "CE": EN_50549, "Nordic": EN_50549, "Europe": EN_50549}.get(area)


def relay(protection: Protection | None, nominal_hz: float) -> Relay:
    """The settings of a protection, or of none."""
    if protection is None:
        return Relay(np.zeros(0), np.zeros(0), np.zeros(0, np.int64), np.zeros(4), np.zeros(1, np.int64), np.zeros(1))
    trip_hz = np.array([hz for hz, _ in protection.trips])
    window = (
        protection.enter_low_hz, protection.enter_high_hz, protection.enter_low_pu, protection.enter_high_pu or np.inf,
    )  # fmt: skip
    return Relay(
        trip_hz, np.where(trip_hz < nominal_hz, 1.0, -1.0),
        np.array([round(after_s * 1e9) for _, after_s in protection.trips], np.int64), np.array(window),
        np.array([round(protection.enter_delay_s * 1e9)], np.int64), np.array([protection.enter_ramp_s]),
    )  # fmt: skip


def in_service(relay: Relay) -> Guard:
    """The state of a fleet that never tripped."""
    return Guard(
        np.zeros(relay.trip_hz.size, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64),
        np.ones(1), np.zeros(1, np.int64),
    )  # fmt: skip


@strict
def within(relay: Relay, hz: float, volt_pu: float) -> bool:
    """Whether service may be entered at this frequency and voltage; an unknown voltage (NaN) hinders nothing."""
    low_hz, high_hz, low_pu, high_pu = relay.window[0], relay.window[1], relay.window[2], relay.window[3]
    return low_hz <= hz <= high_hz and not volt_pu < low_pu and not volt_pu > high_pu


@strict
def watch_limits(guard: Guard, relay: Relay, now_ns: int, hz: float) -> bool:
    """Hold a sample against every limit; whether one has been passed for its time."""
    trips = False
    for k in range(relay.trip_hz.size):
        if relay.side[k] * (relay.trip_hz[k] - hz) <= 0.0:
            guard.beyond_ns[k] = 0
        elif guard.beyond_ns[k] == 0:
            guard.beyond_ns[k] = now_ns
        else:
            trips |= now_ns > guard.beyond_ns[k] and now_ns - guard.beyond_ns[k] >= relay.trip_ns[k]
    return trips


@strict
def protect(
    guard: Guard, relay: Relay, now_ns: int, hz: float, volt_pu: float, fresh: bool, lost: bool
) -> None:  # fmt: skip
    """Take one sample, or the lack of one, into account.

    hz, volt_pu : the sample; voltage NaN where unknown
    fresh       : whether there is a usable sample
    lost        : whether none has come for longer than a frequency may be held: what was without a break is broken
    """
    if relay.trip_hz.size == 0:
        return
    if fresh:
        if watch_limits(guard, relay, now_ns, hz) and guard.state[0] != TRIPPED:
            guard.state[0], guard.since_ns[0], guard.within_ns[0] = TRIPPED, now_ns, 0
            guard.share[0] = 0.0
            guard.trips[0] += 1
        if guard.state[0] == TRIPPED:
            enter(guard, relay, now_ns, within(relay, hz, volt_pu))
    elif lost:
        guard.beyond_ns[:] = 0
        guard.within_ns[0] = 0
    if guard.state[0] == ENTERING:
        ramp_ns = relay.ramp_s[0] * 1e9
        gone_ns = now_ns - guard.since_ns[0]
        guard.share[0] = gone_ns / ramp_ns if gone_ns < ramp_ns else 1.0
        guard.state[0] = ENTERING if gone_ns < ramp_ns else IN_SERVICE


@strict
def enter(guard: Guard, relay: Relay, now_ns: int, inside: bool) -> None:
    """Begin to enter service once the window has held for the delay."""
    if not inside:
        guard.within_ns[0] = 0
        return
    if guard.within_ns[0] == 0:
        guard.within_ns[0] = now_ns
    if now_ns - guard.within_ns[0] >= relay.enter_ns[0]:
        guard.state[0], guard.since_ns[0], guard.within_ns[0] = ENTERING, now_ns, 0
