"""The simulated chargers' physics: kernels on columns, nothing else.

A charger takes a set-point after its dead time, ramps to it, keeps it until it expires, then follows its safe profile;
the car's battery management narrows both directions near empty and full. A set-point below the charger's least power
is carried out as a pause, and a weak charger delivers a fixed share of what it is told. The battery's temperature
follows its throughput with one time constant. Within a step power is a ramp followed by a
constant, so energy and losses are integrated in closed form and do not depend on how time is cut into steps (the
battery management looks at the SoC once a step: keep steps at a second or less).

Written apart from the engine on purpose: it shares no formula with `droop`. Units: kW, kWh, s; int64 ns.
"""
# mypy: disallow-untyped-decorators=False, warn-return-any=False

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from aggregator.gateways.population import Chargers, mixed
from telemetry.samples import SlotState

# Without nnan and ninf: an infinite ramp and a NaN must stay what they are.
FASTMATH: Final = {"nsz", "arcp", "contract", "afn", "reassoc"}
NEVER: Final = 2**63 - 1
# Charging and discharging end when the tapered power is down to this share: below it the converter would spend more
# than it moves, and never finish.
END_FRAC: Final = 0.03
PLUGGED: Final = int(SlotState.PLUGGED)
# Rounding is no reason to pause: a set-point this near to the least power is as good as it.
SLACK_KW: Final = 1e-3
# A pack takes of the order of an hour to follow its surroundings, and warms by some 20 K at a steady 1C.
WARM_S: Final = 3600.0
WARM_K_PER_C: Final = 20.0

F8 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int64]


class Columns(NamedTuple):
    """State of all chargers, one column each, [n]. `first` acts next, `second` is the latest set-point behind it."""

    plugged: npt.NDArray[np.bool_]
    power_kw: F8  # at the grid side, positive into the grid
    target_kw: F8
    energy_kwh: F8  # in the battery
    per_capacity: F8  # 1 / usable kWh
    taper_per_frac: F8  # 1 / share of the battery below full over which charging fades
    temp_c: F8  # of the battery
    ambient_c: F8
    temp_told: npt.NDArray[np.bool_]
    charge_max_kw: F8
    discharge_max_kw: F8
    s_per_kw: F8  # 1 / ramp; 0 for an immediate one
    loss_fixed_kw: F8
    loss_per_kw: F8  # of the squared power
    safe_kw: F8
    min_kw: F8  # least power above zero; 0: any
    gain: F8  # power delivered over power told
    dead_ns: I8
    next_ns: I8  # when something below is due
    valid_ns: I8  # when the target expires
    first_kw: F8
    first_ns: I8  # when it acts, NEVER if none
    first_valid_ns: I8
    second_kw: F8
    second_ns: I8
    second_valid_ns: I8
    since_ns: I8  # scratch of a step: the last event in it
    own_kws: F8  # and what moved until then, either way
    moved_kwh: F8  # of the car that is here, since it came: moved either way
    lost_kwh: F8
    turns: F8  # changes of the power's sign, see `_turned`


def ns(seconds: F8) -> I8:
    """Seconds as whole ns; NEVER for infinite ones."""
    finite = np.isfinite(seconds)
    return np.where(finite, np.rint(np.where(finite, seconds, 0.0) * 1e9).astype(np.int64), NEVER)


def later(t_ns: int | I8, span_ns: I8) -> I8:
    """t + span, where NEVER stays NEVER."""
    return np.where(span_ns == NEVER, NEVER, t_ns + np.minimum(span_ns, NEVER // 2))


def columns(chargers: Chargers) -> Columns:
    """Free chargers at rest."""
    n = chargers.rating_kw.size
    none, never = np.zeros(n), np.full(n, NEVER)
    return Columns(
        plugged=np.zeros(n, np.bool_),
        power_kw=none.copy(),
        target_kw=none.copy(),
        energy_kwh=none.copy(),
        per_capacity=none.copy(),
        taper_per_frac=none.copy(),
        temp_c=chargers.ambient_c.copy(),
        ambient_c=chargers.ambient_c.copy(),
        temp_told=np.zeros(n, np.bool_),
        charge_max_kw=chargers.rating_kw.copy(),
        discharge_max_kw=chargers.discharge_max_kw.copy(),
        s_per_kw=1.0 / chargers.ramp_kw_s,
        loss_fixed_kw=chargers.loss_fixed_pu * chargers.rating_kw,
        loss_per_kw=chargers.loss_square_pu / chargers.rating_kw,
        safe_kw=chargers.safe_kw.copy(),
        min_kw=chargers.min_kw.copy(),
        gain=chargers.gain.copy(),
        dead_ns=ns(chargers.dead_s),
        next_ns=never.copy(),
        valid_ns=never.copy(),
        first_kw=none.copy(),
        first_ns=never.copy(),
        first_valid_ns=never.copy(),
        second_kw=none.copy(),
        second_ns=never.copy(),
        second_valid_ns=never.copy(),
        since_ns=never.copy(),
        own_kws=none.copy(),
        moved_kwh=none.copy(),
        lost_kwh=none.copy(),
        turns=none.copy(),
    )


@njit(cache=True, fastmath=FASTMATH, error_model="numpy")
def _limited(
    target_kw: float, soc: float, weak_per_frac: float, taper_per_frac: float, charge_kw: float, discharge_kw: float
) -> float:  # fmt: skip
    """The target inside what charger and battery allow now."""
    # Both sides are computed and none is branched upon: set-points of either sign come in no order.
    above = min(1.0, soc * weak_per_frac)
    below = min(1.0, (1.0 - soc) * taper_per_frac)
    above = above if above > END_FRAC else 0.0
    below = below if below > END_FRAC else 0.0
    return max(min(target_kw, discharge_kw * above), -charge_kw * below)


@njit(cache=True, fastmath=FASTMATH, error_model="numpy")
def _run(
    p0: float, goal: float, span_s: float, s_per_kw: float, loss_fixed_kw: float, loss_per_kw: float
) -> tuple[float, float, float]:  # fmt: skip
    """A ramp towards `goal` for a while, then constant: power at the end [kW], energy moved and lost [kWs]."""
    gap = goal - p0
    whole_s = abs(gap) * s_per_kw
    late = whole_s > span_s
    p1 = p0 + gap * (span_s / whole_s) if late else goal
    ramp_s = span_s if late else whole_s
    flat_s = span_s - ramp_s
    moved = 0.5 * (p0 + p1) * ramp_s + p1 * flat_s
    squared = (p0 * p0 + p0 * p1 + p1 * p1) * ramp_s * (1.0 / 3.0) + p1 * p1 * flat_s
    on_s = span_s if p1 != 0.0 else ramp_s  # at rest the converter is off
    return p1, moved, loss_fixed_kw * on_s + loss_per_kw * squared


@njit(cache=True, fastmath=FASTMATH, error_model="numpy", inline="always")
def _turned(turns: float, power_kw: float) -> float:
    """The count of sign changes once the power is this.

    Its magnitude is one more than they are, its sign that of the last power that was not 0; so one column holds both.
    """
    sign = (1.0 if power_kw > 0.0 else 0.0) - (1.0 if power_kw < 0.0 else 0.0)
    first = turns == 0.0
    return sign - turns if (sign * turns < 0.0) | first else turns


@njit(cache=True, fastmath=FASTMATH, error_model="numpy")
def _due(c: Any, i: int, t_ns: int) -> None:
    """Carry out what is due at `t_ns`: expiry first, so that a set-point acting at that moment wins."""
    if c.valid_ns[i] <= t_ns:
        c.target_kw[i] = c.safe_kw[i]
        c.valid_ns[i] = NEVER
    while c.first_ns[i] <= t_ns:
        if c.first_valid_ns[i] > t_ns:
            c.target_kw[i] = c.first_kw[i]
            c.valid_ns[i] = c.first_valid_ns[i]
        c.first_kw[i] = c.second_kw[i]
        c.first_ns[i] = c.second_ns[i]
        c.first_valid_ns[i] = c.second_valid_ns[i]
        c.second_ns[i] = NEVER
    c.next_ns[i] = min(c.valid_ns[i], c.first_ns[i])


@njit(cache=True, fastmath=FASTMATH, error_model="numpy")
def _pass_events(c: Any, i: int, t0_ns: int, t1_ns: int, weak_per_frac: float) -> tuple[float, float]:
    """Let time pass for one charger up to the last event before t1; the energy it moved and lost until then [kWs]."""
    t_ns = t0_ns
    moved_kws = 0.0
    loss_kws = 0.0
    own_kws = 0.0
    while c.next_ns[i] < t1_ns:
        if c.next_ns[i] > t_ns:
            end_ns = c.next_ns[i]
            goal = _limited(
                c.target_kw[i], c.energy_kwh[i] * c.per_capacity[i], weak_per_frac, c.taper_per_frac[i],
                c.charge_max_kw[i], c.discharge_max_kw[i],
            )  # fmt: skip
            c.power_kw[i], moved, lost = _run(
                c.power_kw[i], goal, (end_ns - t_ns) * 1e-9, c.s_per_kw[i], c.loss_fixed_kw[i], c.loss_per_kw[i]
            )  # fmt: skip
            c.energy_kwh[i] -= (moved + lost) * (1.0 / 3600.0)
            c.lost_kwh[i] += lost * (1.0 / 3600.0)
            c.turns[i] = _turned(c.turns[i], c.power_kw[i])
            moved_kws += moved
            own_kws += abs(moved)
            loss_kws += lost
            t_ns = end_ns
        _due(c, i, t_ns)
    c.since_ns[i] = t_ns
    c.own_kws[i] = own_kws
    return moved_kws, loss_kws


@njit(cache=True, fastmath=FASTMATH, error_model="numpy")
def step(c: Any, t0_ns: int, t1_ns: int, weak_per_frac: float) -> tuple[float, float, float, float]:
    """Let time pass from t0 to t1.

    weak_per_frac : 1 / share of the battery above empty over which discharging fades

    Returns the fleet's energy into the grid and its losses over the step, kWh, its power at t1, kW, and the energy
    its cars moved either way, kWh.
    """
    power_kw, target_kw, energy_kwh, per_capacity = c.power_kw, c.target_kw, c.energy_kwh, c.per_capacity
    taper, charge_kw, discharge_kw = c.taper_per_frac, c.charge_max_kw, c.discharge_max_kw
    s_per_kw, fixed_kw, loss_per_kw = c.s_per_kw, c.loss_fixed_kw, c.loss_per_kw
    temp_c, ambient_c, since_ns, own_kws = c.temp_c, c.ambient_c, c.since_ns, c.own_kws
    car_moved_kwh, car_lost_kwh, turns = c.moved_kwh, c.lost_kwh, c.turns
    grid_kws = 0.0
    loss_kws = 0.0
    sum_kw = 0.0
    moved_kws = 0.0
    since_ns[:] = t0_ns
    own_kws[:] = 0.0
    # Those to whom something happens on the way, one by one; the rest of the way, on which nothing does, for all alike.
    for i in range(power_kw.size):
        if c.next_ns[i] < t1_ns:
            moved, lost = _pass_events(c, i, t0_ns, t1_ns, weak_per_frac)
            grid_kws += moved
            loss_kws += lost
    nearer = -np.expm1((t0_ns - t1_ns) * (1e-9 / WARM_S))
    warm_k = nearer * WARM_K_PER_C / max((t1_ns - t0_ns) * 1e-9, 1e-9)
    # Without a branch, so that it runs on whole vectors: a free charger is at rest, and stays so.
    for i in range(power_kw.size):
        before_kw, energy, capacity, temp = power_kw[i], energy_kwh[i], per_capacity[i], temp_c[i]
        goal = _limited(target_kw[i], energy * capacity, weak_per_frac, taper[i], charge_kw[i], discharge_kw[i])
        span_s = (t1_ns - since_ns[i]) * 1e-9
        after_kw, moved, lost = _run(before_kw, goal, span_s, s_per_kw[i], fixed_kw[i], loss_per_kw[i])
        own = own_kws[i] + abs(moved)
        energy_kwh[i] = energy - (moved + lost) * (1.0 / 3600.0)
        power_kw[i] = after_kw
        car_moved_kwh[i] += own * (1.0 / 3600.0)
        car_lost_kwh[i] += lost * (1.0 / 3600.0)
        turns[i] = _turned(turns[i], after_kw)
        temp_c[i] = temp + (nearer * (ambient_c[i] - temp) + warm_k * own * capacity)
        grid_kws += moved
        loss_kws += lost
        sum_kw += after_kw
        moved_kws += own
    return grid_kws / 3600.0, loss_kws / 3600.0, sum_kw, moved_kws / 3600.0


@njit(cache=True, fastmath=FASTMATH, error_model="numpy")
def step_held(held: Any, t0_ns: int, t1_ns: int, weak_per_frac: float) -> tuple[float, float, float, float]:
    """`step` for columns behind a handle."""
    return step(held, t0_ns, t1_ns, weak_per_frac)


@njit(cache=True, inline="always")
def _carried_out(setpoint_kw: float, min_kw: float, gain: float) -> float:
    """What a charger makes of a set-point: below its least power it pauses; a weak one gives a share of it."""
    return 0.0 if abs(setpoint_kw) < min_kw - SLACK_KW else setpoint_kw * gain


@njit(cache=True)
def receive(
    held: Any, sessions: npt.NDArray[np.uint32], deaf_until_ns: I8, cut_until_ns: I8, rows: npt.NDArray[Any],
    valid_until_ns: int, now_ns: int,
) -> tuple[int, int]:  # fmt: skip
    """Hand set-points to the chargers; how many were refused, and how many vanished without a word.

    held : handle of the columns; sessions, deaf_until_ns, cut_until_ns : [n] per charger; rows : SETPOINT[k]

    A set-point acts after the charger's dead time. One that arrives meanwhile waits behind it, and only the latest of
    those is kept: the first is never postponed, and each that acts is exactly one dead time old or older.
    """
    c = held
    refused = 0
    vanished = 0
    for k in range(rows.size):
        i = int(rows[k].slot)
        if i >= sessions.size or not c.plugged[i] or sessions[i] != rows[k].session:
            refused += 1
            continue
        if deaf_until_ns[i] > now_ns or cut_until_ns[i] > now_ns:
            vanished += 1
            continue
        told_kw = _carried_out(np.float64(rows[k].setpoint_kw), c.min_kw[i], c.gain[i])
        if c.first_ns[i] == NEVER:
            c.first_kw[i] = told_kw
            c.first_ns[i] = now_ns + c.dead_ns[i]
            c.first_valid_ns[i] = valid_until_ns
        else:
            c.second_kw[i] = told_kw
            c.second_ns[i] = now_ns + c.dead_ns[i]
            c.second_valid_ns[i] = valid_until_ns
        c.next_ns[i] = min(c.next_ns[i], c.first_ns[i])
    return refused, vanished


@njit(cache=True)
def _noise(salt: int, slot: int, before: int) -> float:
    """About standard normal: four 16-bit uniforms of one hash, summed."""
    x = mixed(slot, before, salt)
    total = 0.0
    for part in range(4):
        total += float((x >> np.uint64(16 * part)) & np.uint64(0xFFFF)) / 65536.0
    return (total - 2.0) * np.sqrt(3.0)


@njit(cache=True)
def report(
    held: Any, sessions: npt.NDArray[np.uint32], due_ns: I8, period_ns: I8, cut_until_ns: I8, now_ns: int, salt: int,
    noise_frac: float, soc_step_frac: float, out: npt.NDArray[Any],
) -> int:  # fmt: skip
    """Write the reports due into `out`, VEHICLE[n]; how many. Chargers without a car or a link skip theirs.

    held : handle of the columns; salt : of the measurement noise's draws
    """
    c = held
    listed = np.empty(due_ns.size, np.int64)
    due = 0
    for i in range(due_ns.size):
        # Written and perhaps written over: cheaper than a branch that nobody can foresee.
        listed[due] = i
        due += 1 if due_ns[i] <= now_ns else 0
    # In a loop of their own, which runs on whole vectors.
    noise = np.empty(due)
    before = now_ns // 1_000_000
    for k in range(due):
        noise[k] = 1.0 + noise_frac * _noise(salt, listed[k], before)
    count = 0
    for k in range(due):
        i = listed[k]
        late_ns = now_ns - due_ns[i]
        due_ns[i] += period_ns[i] if late_ns < period_ns[i] else (late_ns // period_ns[i] + 1) * period_ns[i]
        if not c.plugged[i] or cut_until_ns[i] > now_ns:
            continue
        soc = c.energy_kwh[i] * c.per_capacity[i]
        row = out[count]
        row.t_ns = now_ns
        row.rx_ns = now_ns
        row.slot = i
        row.session = sessions[i]
        row.power_kw = c.power_kw[i] * noise[k]
        row.soc_frac = np.round(soc / soc_step_frac) * soc_step_frac if soc_step_frac > 0.0 else soc
        row.state = PLUGGED
        row.temp_c = c.temp_c[i] if c.temp_told[i] else np.nan
        count += 1
    return count
