"""How each charger answers: its dead time and its gain, learned from its own reports, and who does not answer.

A command is the power expected at the grid; what the charger is told is the command over its gain, so that power
in flight is counted once, and as what will arrive. Each direction has a gain of its own, learned in that direction
alone: a battery that tapers while it charges gives all it is told while it discharges.

A report is explained by the commands the charger may still be answering, or by a battery that holds it back: one that
does less than it is told, and does it, is no liar, its gain is learned however small. All else is a miss: next to
nothing, more than it is told, the other way. Misses in a row by a vehicle far from all it was told leave it out until
it is tried again.

Numbers in, numbers out: the caller hands over one row's columns and writes back what is returned.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.fleet import PLUGGED, Fleet
from droop.numerics import inner, kernel
from droop.reasons import Reason

Column = npt.NDArray[Any]

STALE: Final = int(Reason.STALE)
REFUSED: Final = int(Reason.REFUSED)
# Bounds of the gain that a set-point makes up for. What a battery holds back is an amount, not a share: told more, at
# part load it gives more, so no more than this is made up for, whatever was learned.
GAIN_LEAST: Final = 0.5
GAIN_MOST: Final = 1.1
# A charger that gives less than this share of what it is told, or next to nothing, gives nothing.
SHARE_LEAST: Final = 0.1
# A gain this near 1 is the meter's class, not the charger's: it counts as 1.
METER_FRAC: Final = 0.02
# Rounding is no reason to pause: a command this near to the least power is as good as it.
SLACK_KW: Final = 1e-3
DEAD_MOST_S: Final = 30.0
# A charger has settled after three times the time to half of a step, and never sooner than this.
SETTLE_LEAST_S: Final = 3.0
# Steps, commands and mismatches below this share of the rating say nothing about a charger.
TELLING_FRAC: Final = 0.2
# Share of a new observation that enters an estimate.
GAIN_STEP: Final = 0.1
DEAD_STEP: Final = 0.2


class Believing(NamedTuple):
    """When a charger is no longer believed to follow.

    tolerance_kw, tolerance_frac : deviation that any charger may have [kW], and of its rating; the larger holds
    misses                       : unexplained reports in a row after which it is left out
    retry_ns                     : time after which it is tried again [ns]
    """

    tolerance_kw: float = 0.3
    tolerance_frac: float = 0.05
    misses: int = 5
    retry_ns: int = 900_000_000_000


@kernel
def commandable(state: int, reason_up: int) -> bool:
    """Whether a vehicle can hear us and is believed."""
    return (state == PLUGGED) & (reason_up != STALE) & (reason_up != REFUSED)


@kernel
def settle_ns(dead_s: float) -> int:
    """Time after which a charger has reached what it was told [ns]."""
    return int(max(3.0 * dead_s, SETTLE_LEAST_S) * 1e9)


@kernel
def counted(gain: float) -> float:
    """The gain that is acted on: 1 within the meter's class, else what was learned within its bounds."""
    return 1.0 if abs(gain - 1.0) <= METER_FRAC else min(max(gain, SHARE_LEAST), GAIN_MOST)


@kernel
def told_over(command_kw: float, gain_up: float, gain_dn: float) -> float:
    """A command over the gain of its direction, as far as a set-point makes up for that [kW]."""
    gain = max(counted(gain_up if command_kw > 0.0 else gain_dn), GAIN_LEAST)
    # Most gains count as 1: nothing has to wait for a division then.
    return command_kw if gain == 1.0 else command_kw / gain


@kernel
def setpoint_kw(
    command_kw: float, gain_up: float, gain_dn: float, charge_max_kw: float, discharge_max_kw: float,
    min_kw: float = 0.0, least_dn_kw: float = np.inf,
) -> np.float32:  # fmt: skip
    """What to tell a charger so that `command_kw` arrives; the command bit for bit where its gain counts as 1 [kW].

    Within the ratings, and 0 or at least `min_kw`: a gain above 1 must not make a charger pause, and one commanded
    less than its least power cannot do it, whatever it is told. But where the car takes less than the charger offers,
    `least_dn_kw`, the least is offered.
    """
    told = np.float32(told_over(command_kw, gain_up, gain_dn))
    least = np.float32(min_kw)
    if abs(told) < least:
        takes = min(least, np.float32(least_dn_kw)) if command_kw < 0.0 else least
        told = np.float32(0.0) if abs(command_kw) < takes - SLACK_KW else (least if command_kw > 0.0 else -least)
        told = told if command_kw != 0.0 else np.float32(0.0)
    return min(max(told, -np.float32(charge_max_kw)), np.float32(discharge_max_kw))


@kernel
def outside_kw(measured_kw: float, low_kw: float, high_kw: float, gain_up: float, gain_dn: float) -> float:
    """How far a measurement lies outside what commands from low to high explain, at any gain made up for [kW]."""
    # In set-points first: what was told is the command over the gain it was told with.
    low, high = told_over(low_kw, gain_up, gain_dn), told_over(high_kw, gain_up, gain_dn)
    least = min(low * GAIN_LEAST, low * GAIN_MOST)
    most = max(high * GAIN_LEAST, high * GAIN_MOST)
    return max(least - measured_kw, measured_kw - most, 0.0)


@kernel
def held_back(measured_kw: float, low_kw: float, high_kw: float, nothing_kw: float) -> bool:
    """Whether a charger goes the way of all commands from low to high, and less far than any of them.

    It is no sign of deafness that it went no further, even from where it was: a battery keeps a charger from doing
    more, and nothing but the charger keeps it from doing less or turning round.
    """
    least = max(low_kw, -high_kw)
    done = measured_kw if low_kw > 0.0 else -measured_kw
    return least > 0.0 and max(nothing_kw, SHARE_LEAST * least) < done < least


@kernel
def half_s(
    measured_kw: float, t_ns: int, before_kw: float, before_ns: int, from_kw: float, command_kw: float, sent_ns: int
) -> float:  # fmt: skip
    """Time from the command to half of its step, if it lies between the last report and this; else -1 [s]."""
    step = command_kw - from_kw
    share = (measured_kw - from_kw) / step
    # Before the command it was where the command found it.
    earlier = min(max((before_kw - from_kw) / step, 0.0), 1.0) if before_ns > sent_ns else 0.0
    begun_ns = max(before_ns, sent_ns)
    if earlier >= 0.5 or share < 0.5 or t_ns <= begun_ns:
        return -1.0
    part = (0.5 - earlier) / (min(share, 1.0) - earlier)
    return (begun_ns - sent_ns + part * (t_ns - begun_ns)) / 1e9


@inner
def halfway(
    measured_kw: float, before_kw: float, before_ns: int, from_kw: float, command_kw: float, sent_ns: int
) -> bool:  # fmt: skip
    """Whether half of a step may lie between two reports: what `half_s` answers, without its divisions."""
    step = command_kw - from_kw
    side, half = (1.0 if step > 0.0 else -1.0), 0.5 * abs(step)
    return ((before_ns <= sent_ns) | (side * (before_kw - from_kw) < half)) & (side * (measured_kw - from_kw) >= half)


@inner
def shared(
    measured_kw: float, told_kw: float, gain_up: float, gain_dn: float, teaches: bool
) -> tuple[float, float]:  # fmt: skip
    """(gain_up, gain_dn) after a report; as they were unless it `teaches`."""
    # All is computed and then chosen from: which charger has something to teach comes in no order, and a branch that
    # is guessed wrongly costs as much as all of this.
    up = told_kw > 0.0
    gain = gain_up if up else gain_dn
    counts = counted(gain)
    # Of what it would have been told if all of its gain were made up for.
    asked_kw = told_kw if counts >= GAIN_LEAST else told_kw * (GAIN_LEAST / counts)
    nearer = min(max(gain + GAIN_STEP * (measured_kw / asked_kw - gain), SHARE_LEAST), GAIN_MOST)
    return nearer if teaches & up else gain_up, nearer if teaches & (not up) else gain_dn


@inner
def observe(
    measured_kw: float, t_ns: int, before_kw: float, before_ns: int, command_kw: float, told_kw: float,
    from_kw: float, past_lo_kw: float, past_hi_kw: float, sent_ns: int, valid_until_ns: int, rating_kw: float,
    gain_up: float, gain_dn: float, dead_s: float, misses: int, refused_ns: int, believing: Believing,
) -> tuple[float, float, float, int, int]:  # fmt: skip
    """One report of one charger; returns its new (gain_up, gain_dn, dead_s, misses, refused_ns).

    measured_kw, t_ns     : the report's power at the grid [kW] and when it was measured [ns]
    before_kw, before_ns  : those of the report before it
    rating_kw             : the larger of its ratings [kW]; the rest are the row's columns
    """
    if refused_ns > 0:
        tried_again = t_ns - refused_ns >= believing.retry_ns
        return gain_up, gain_dn, dead_s, 0 if tried_again else misses, 0 if tried_again else refused_ns
    elapsed_ns = t_ns - sent_ns
    # Without a command, or after its end, a charger does as it likes; a report from before it says nothing of it.
    if (sent_ns == 0) | (elapsed_ns < 0) | (t_ns >= valid_until_ns) | (not rating_kw > 0.0):
        return gain_up, gain_dn, dead_s, misses, refused_ns
    settled = elapsed_ns >= settle_ns(dead_s)
    low = command_kw if settled else min(past_lo_kw, command_kw)
    high = command_kw if settled else max(past_hi_kw, command_kw)
    tolerance = max(believing.tolerance_kw, believing.tolerance_frac * rating_kw)
    outside = outside_kw(measured_kw, low, high, gain_up, gain_dn) > tolerance
    if outside and not held_back(measured_kw, low, high, tolerance):
        misses = min(misses + 1, 255)
        far = max(low - measured_kw, measured_kw - high) > TELLING_FRAC * rating_kw
        return gain_up, gain_dn, dead_s, misses, t_ns if misses >= believing.misses and far else 0
    telling_kw = TELLING_FRAC * rating_kw
    wide = (not outside) & (abs(command_kw - from_kw) > telling_kw)
    if wide & halfway(measured_kw, before_kw, before_ns, from_kw, command_kw, sent_ns):
        seen_s = half_s(measured_kw, t_ns, before_kw, before_ns, from_kw, command_kw, sent_ns)
        if seen_s >= 0.0:
            dead_s = min(dead_s + DEAD_STEP * (seen_s - dead_s) if dead_s > 0.0 else seen_s, DEAD_MOST_S)
    # One that is still on its way has given no share yet.
    steady = abs(measured_kw - before_kw) <= METER_FRAC * rating_kw
    teaches = settled & steady & (abs(told_kw) >= telling_kw)
    gain_up, gain_dn = shared(measured_kw, told_kw, gain_up, gain_dn, teaches)
    return gain_up, gain_dn, dead_s, 0, 0


@kernel
def hear(fleet: Fleet, slots: Column, measured_kw: Column, t_ns: int, believing: Believing) -> None:
    """Learn from one report of each of `slots`, before they are written into the fleet's columns.

    slots : integer[k]; measured_kw : float[k]  power at the grid [kW]; t_ns : when it was measured [ns]
    """
    before_kw, before_ns, command_kw, told_kw = fleet.measured_kw, fleet.source_ns, fleet.command_kw, fleet.told_kw
    from_kw, past_lo_kw, past_hi_kw = fleet.from_kw, fleet.past_lo_kw, fleet.past_hi_kw
    sent_ns, valid_until_ns, dead_s = fleet.sent_ns, fleet.valid_until_ns, fleet.dead_s
    gain_up, gain_dn = fleet.gain_up, fleet.gain_dn
    charge_max_kw, discharge_max_kw = fleet.charge_max_kw, fleet.discharge_max_kw
    misses, refused_ns = fleet.misses, fleet.refused_ns
    for k in range(slots.size):
        i = slots[k]
        gain_up[i], gain_dn[i], dead_s[i], misses[i], refused_ns[i] = observe(
            measured_kw[k], t_ns, before_kw[i], before_ns[i], command_kw[i], told_kw[i], from_kw[i], past_lo_kw[i],
            past_hi_kw[i], sent_ns[i], valid_until_ns[i], max(charge_max_kw[i], discharge_max_kw[i]), gain_up[i],
            gain_dn[i], dead_s[i], misses[i], refused_ns[i], believing,
        )  # fmt: skip


@kernel
def in_flight_kw(fleet: Fleet, now_ns: int) -> float:
    """Power commanded and not yet measured: expected less measured, of commands younger than their dead time [kW]."""
    state, command_kw, measured_kw = fleet.state, fleet.command_kw, fleet.measured_kw
    sent_ns, dead_s = fleet.sent_ns, fleet.dead_s
    total = 0.0
    for i in range(state.size):
        young = (state[i] == PLUGGED) & (now_ns - sent_ns[i] < np.float64(dead_s[i]) * 1e9)
        total += np.float64(command_kw[i]) - np.float64(measured_kw[i]) if young else 0.0
    return total
