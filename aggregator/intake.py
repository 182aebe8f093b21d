"""Session rows, reports and owners' wishes into the fleet's columns, row by row, at the price of a kernel.

Each row is judged by itself; a verdict is an index into the reasons below, TAKEN where nothing is wrong. What the
registry does with verdicts (counting, ordering within a block, names of vehicles) is not known here.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from droop.energy import replaced_kwh
from droop.fleet import FAULT, PLUGGED, SEGMENTS, UNPLUGGED, Column, Fleet, Wish
from droop.numerics import kernel
from droop.plans import PlanKind
from droop.response import Believing, observe
from telemetry.samples import Block

TAKEN: Final = -1
# More than any charger or vehicle has; beyond it float32 sums of the fleet would lose everyone else's power.
POWER_MAX_KW: Final = 1e4
CAPACITY_MAX_KWH: Final = 1e5
# A report far older than its arrival was not buffered: the charger's clock is wrong, and the arrival counts.
CLOCK_WRONG_NS: Final = 60_000_000_000
# No battery that is still one reads outside of this; a sensor that has failed does.
TEMP_MIN_C: Final = -60.0
TEMP_MAX_C: Final = 120.0
# A relative weight: two decades either way of a plain battery's 1 are more than any chemistry is apart.
WEAR_MIN: Final = 0.01
WEAR_MAX: Final = 100.0
# Longest life of a wish: a session hardly lasts longer.
WISH_MAX_NS: Final = 31 * 86_400_000_000_000
# A wish or session stamped further ahead of us comes from a broken clock: taken, it would outdate all that follow it.
AHEAD_NS: Final = 5_000_000_000
WISHES: Final = len(Wish)
PLANS: Final = len(PlanKind)
NO_WISH: Final = int(Wish.NONE)
NEVER: Final = np.iinfo(np.int64).max

REPORT_REASONS: Final = (
    "report_slot", "report_state", "report_session", "report_nan", "report_range", "report_old"
)  # fmt: skip
SESSION_REASONS: Final = ("session_slot", "session_state", "session_nan", "session_range", "session_old")
WISH_REASONS: Final = ("wish_slot", "wish_code", "wish_session", "wish_range", "wish_old")
# Places in REPORT_REASONS; the first two hold for SESSION_REASONS as well.
SLOT, STATE, SESSION_OVER, NOT_A_NUMBER, OUT_OF_RANGE, OLD = range(6)
S_NAN, S_RANGE, S_OLD = 2, 3, 4
W_SLOT, W_CODE, W_SESSION, W_RANGE, W_OLD = range(5)


@kernel
def segment_of(slot: int, rows: int) -> int:
    """The segment of the fleet a slot lies in: the inverse of the engine's floor(segment * rows / SEGMENTS) edges."""
    return ((slot + 1) * SEGMENTS - 1) // rows


@kernel
def leave_alone(fleet: Fleet, i: int, safe_kw: float) -> None:
    """Nobody has told this charger anything yet, or what it was told has ended: it does what it does left alone."""
    fleet.command_kw[i] = fleet.ramp_from_kw[i] = safe_kw
    fleet.past_lo_kw[i] = fleet.past_hi_kw[i] = fleet.from_kw[i] = fleet.told_kw[i] = safe_kw
    fleet.valid_until_ns[i] = fleet.sent_ns[i] = 0
    fleet.misses[i] = 0


@kernel
def plausible(power_kw: float, soc_frac: float, temp_c: float) -> bool:
    """Whether a report's numbers are within what there is; False for NaN and inf, but where no temperature is told."""
    warm = ((temp_c >= TEMP_MIN_C) & (temp_c <= TEMP_MAX_C)) | np.isnan(temp_c)
    return (abs(power_kw) <= POWER_MAX_KW) & (soc_frac >= 0.0) & (soc_frac <= 1.0) & warm


@kernel
def refusal(fleet: Fleet, row: Any, soc_frac: float) -> int:
    """The first reason against a report that is not taken. row : VEHICLE"""
    slot = int(row.slot)
    if slot >= fleet.state.size:
        return SLOT
    if row.state != PLUGGED and row.state != FAULT:
        return STATE
    if fleet.session[slot] != row.session or fleet.state[slot] == UNPLUGGED:
        return SESSION_OVER
    if not (np.isfinite(row.power_kw) and np.isfinite(soc_frac)):
        return NOT_A_NUMBER
    # Overtaken on its way: what it says is no longer so. Or said before: it is not news, nor one more miss.
    return OLD if plausible(row.power_kw, soc_frac, row.temp_c) else OUT_OF_RANGE


@kernel
def take_reports(
    held: Any, refreshed_ns: Column, rows: Block, now_ns: int, believing: Believing, bad: Column
) -> int:  # fmt: skip
    """Reports into the fleet's columns; returns how many were refused, and counts them by reason in `bad`.

    Each is held against what the charger was told before: its dead time and its gains are learned here. One with the
    source time of the report that stands, or an older one, is a repeat or was overtaken.

    held : the fleet's handle; rows : VEHICLE[n]
    """
    fleet = held
    state, session, usable_kwh = fleet.state, fleet.session, fleet.usable_kwh
    measured_kw, temp_c = fleet.measured_kw, fleet.temp_c
    source_ns, report_ns = fleet.source_ns, fleet.report_ns
    energy_kwh, energy_ns, moved_kwh, safe_kw = fleet.energy_kwh, fleet.energy_ns, fleet.moved_kwh, fleet.safe_kw
    eta_charge, eta_discharge = fleet.eta_charge, fleet.eta_discharge
    idle_kw, heat_per_kw = fleet.idle_kw, fleet.heat_per_kw
    command_kw, told_kw, from_kw = fleet.command_kw, fleet.told_kw, fleet.from_kw
    past_lo_kw, past_hi_kw, sent_ns = fleet.past_lo_kw, fleet.past_hi_kw, fleet.sent_ns
    valid_until_ns, charge_max_kw, discharge_max_kw = fleet.valid_until_ns, fleet.charge_max_kw, fleet.discharge_max_kw
    gain_up, gain_dn, dead_s = fleet.gain_up, fleet.gain_dn, fleet.dead_s
    misses, refused_ns = fleet.misses, fleet.refused_ns
    n = state.size
    refused = 0
    for k in range(rows.size):
        row = rows[k]
        slot = int(row.slot)
        soc = float(row.soc_frac)
        # A report tells of its own time; a clock ahead of ours must not make it younger than its arrival.
        arrived_ns = min(row.rx_ns, now_ns)
        true_ns = min(row.t_ns, arrived_ns) if row.t_ns > arrived_ns - CLOCK_WRONG_NS else arrived_ns
        # All at once: what is wrong with a row matters when something is.
        if (
            (slot >= n) or not (
                (session[slot] == row.session) & (state[slot] != UNPLUGGED)
                & ((row.state == PLUGGED) | (row.state == FAULT)) & plausible(row.power_kw, soc, row.temp_c)
                & (row.rx_ns >= report_ns[slot]) & (true_ns > source_ns[slot])
            )
        ):  # fmt: skip
            bad[refusal(fleet, row, soc)] += 1
            refused += 1
            continue
        changed = state[slot] != row.state
        if row.state == PLUGGED and not changed:
            # What a charger does with a fault, or came out of one with, is no answer to a command.
            gain_up[slot], gain_dn[slot], dead_s[slot], misses[slot], refused_ns[slot] = observe(
                row.power_kw, true_ns, measured_kw[slot], source_ns[slot], command_kw[slot], told_kw[slot],
                from_kw[slot], past_lo_kw[slot], past_hi_kw[slot], sent_ns[slot], valid_until_ns[slot],
                max(charge_max_kw[slot], discharge_max_kw[slot]), gain_up[slot], gain_dn[slot], dead_s[slot],
                misses[slot], refused_ns[slot], believing,
            )  # fmt: skip
        # One that does not follow, or cannot, did what it measures and not what it was told.
        apart = misses[slot] > 0 or state[slot] == FAULT
        between_kw = 0.5 * (np.float64(measured_kw[slot]) + np.float64(row.power_kw))
        energy_kwh[slot], energy_ns[slot], moved = replaced_kwh(
            soc * usable_kwh[slot], true_ns, energy_kwh[slot], energy_ns[slot], sent_ns[slot],
            between_kw if apart else np.float64(command_kw[slot]), NEVER if apart else valid_until_ns[slot],
            safe_kw[slot], charge_max_kw[slot], discharge_max_kw[slot], eta_charge[slot], eta_discharge[slot],
            usable_kwh[slot], idle_kw[slot], heat_per_kw[slot],
        )  # fmt: skip
        moved_kwh[slot] += moved
        measured_kw[slot] = row.power_kw
        temp_c[slot] = row.temp_c
        source_ns[slot] = true_ns
        report_ns[slot] = arrived_ns
        if changed:
            state[slot] = row.state
            # A fault ends what was commanded; after it the charger has to be told anew.
            leave_alone(fleet, slot, safe_kw[slot])
            segment = segment_of(slot, n)
            refreshed_ns[segment] = min(refreshed_ns[segment], 1)
    return refused


@kernel
def sane(row: Any) -> int:
    """Verdict on the numbers of a session that begins. row : SESSION"""
    finite = (
        np.isfinite(row.capacity_kwh) and np.isfinite(row.soh_frac) and np.isfinite(row.soc_frac)
        and np.isfinite(row.soc_min_frac) and np.isfinite(row.soc_max_frac) and np.isfinite(row.dod_max_frac)
        and np.isfinite(row.charge_max_kw) and np.isfinite(row.discharge_max_kw)
        and np.isfinite(row.eta_charge_frac) and np.isfinite(row.eta_discharge_frac)
        and np.isfinite(row.safe_kw) and np.isfinite(row.depart_kwh)
        and np.isfinite(row.min_kw) and np.isfinite(row.ramp_kw_s)
        and np.isfinite(row.budget_kwh) and np.isfinite(row.wear)
    )  # fmt: skip
    if not finite:
        return S_NAN
    fractions = (
        0.0 <= row.soh_frac <= 1.0 and 0.0 <= row.soc_frac <= 1.0 and 0.0 <= row.dod_max_frac <= 1.0
        and 0.0 <= row.soc_min_frac <= row.soc_max_frac <= 1.0
        and 0.0 < row.eta_charge_frac <= 1.0 and 0.0 < row.eta_discharge_frac <= 1.0
    )  # fmt: skip
    amounts = (
        0.0 < row.capacity_kwh <= CAPACITY_MAX_KWH and row.depart_kwh >= 0.0
        and 0.0 <= row.charge_max_kw <= POWER_MAX_KW and 0.0 <= row.discharge_max_kw <= POWER_MAX_KW
        # A safe profile is what a charger does with nobody watching: it never discharges.
        and -row.charge_max_kw <= row.safe_kw <= 0.0
        # A least power above both ratings leaves nothing the charger could do.
        and 0.0 <= row.min_kw <= max(row.charge_max_kw, row.discharge_max_kw)
        and row.ramp_kw_s >= 0.0 and row.budget_kwh >= 0.0
        and (row.wear == 0.0 or WEAR_MIN <= row.wear <= WEAR_MAX)
        and row.plan < PLANS
    )  # fmt: skip
    return TAKEN if fractions and amounts else S_RANGE


@kernel
def judge_sessions(held: Any, told_ns: Column, rows: Block, now_ns: int, verdict: Column) -> int:
    """A verdict for each session row; returns how many are refused. Nothing is written to the fleet.

    held : the fleet's handle; told_ns : int64[n] source time of the row that stands; rows : SESSION[k]
    """
    fleet = held
    state, session = fleet.state, fleet.session
    refused = 0
    for k in range(rows.size):
        row = rows[k]
        slot = int(row.slot)
        why = TAKEN
        if slot >= state.size:
            why = SLOT
        elif row.state > FAULT:
            why = STATE
        elif row.t_ns > now_ns + AHEAD_NS:
            why = S_RANGE
        else:
            if row.state != UNPLUGGED:
                why = sane(row)
            if why == TAKEN:
                # A repeated or overtaken row must not plug a car back in.
                ends = row.state == UNPLUGGED and state[slot] != UNPLUGGED
                later = row.t_ns > told_ns[slot] or (row.t_ns == told_ns[slot] and ends)
                if row.session < session[slot] or (row.session == session[slot] and not later):
                    why = S_OLD
        verdict[k] = why
        refused += 1 if why != TAKEN else 0
    return refused


@kernel
def place_sessions(
    held: Any, told_ns: Column, wished_ns: Column, refreshed_ns: Column, rows: Block, known: Column, now_ns: int
) -> None:  # fmt: skip
    """Write judged session rows, one a slot, into the fleet's columns; their segments are due at once.

    A row that tells of a running session once more (a gateway that started anew) leaves what was learned of it: its
    throughput, its owner's wish, its charger's response. The day's throughput is the vehicle's: it outlives the
    session, for the same vehicle back at the same charger; midnight ends it there as everywhere.

    wished_ns : int64[n] source time of the wish that stands; rows : SESSION[k]
    known     : bool[k] whether the vehicle is the one that was last at this charger
    """
    fleet = held
    n = fleet.state.size
    for k in range(rows.size):
        row = rows[k]
        i = int(row.slot)
        told_ns[i] = row.t_ns
        fresh = row.session != fleet.session[i] or row.state == UNPLUGGED
        fleet.state[i] = row.state
        fleet.session[i] = row.session
        segment = segment_of(i, n)
        refreshed_ns[segment] = min(refreshed_ns[segment], 1)
        safe_kw = np.float32(0.0) if row.state == UNPLUGGED else row.safe_kw
        fleet.safe_kw[i] = fleet.measured_kw[i] = safe_kw
        leave_alone(fleet, i, fleet.safe_kw[i])
        fleet.source_ns[i] = 0
        fleet.mode[i] = 0
        fleet.owed_kwh[i] = 0.0
        fleet.switched_ns[i] = 0
        if fresh:
            wished_ns[i] = 0
            fleet.wish[i] = NO_WISH
            fleet.wish_until_ns[i] = 0
            fleet.temp_c[i] = np.nan
            fleet.gain_up[i] = fleet.gain_dn[i] = 1.0
            fleet.dead_s[i] = 0.0
            fleet.refused_ns[i] = 0
        if row.state == UNPLUGGED:
            continue
        if fresh and not known[k]:
            fleet.moved_kwh[i] = 0.0
        usable = row.capacity_kwh * np.float64(row.soh_frac)
        energy = np.float64(row.soc_frac) * usable
        fleet.usable_kwh[i] = usable
        fleet.soh_frac[i] = row.soh_frac
        fleet.soc_floor_kwh[i] = row.soc_min_frac * usable
        fleet.ceiling_kwh[i] = row.soc_max_frac * usable
        fleet.dod_floor_kwh[i] = energy - row.dod_max_frac * usable
        fleet.charge_max_kw[i] = row.charge_max_kw
        fleet.discharge_max_kw[i] = row.discharge_max_kw
        fleet.min_kw[i] = row.min_kw
        # On the wire 0 says that there is no such limit.
        fleet.ramp_kw_s[i] = row.ramp_kw_s if row.ramp_kw_s > 0.0 else np.inf
        fleet.budget_kwh[i] = row.budget_kwh if row.budget_kwh > 0.0 else np.inf
        fleet.wear[i] = row.wear if row.wear > 0.0 else 1.0
        fleet.eta_charge[i] = row.eta_charge_frac
        fleet.eta_discharge[i] = row.eta_discharge_frac
        fleet.depart_ns[i] = row.depart_ns
        fleet.depart_kwh[i] = row.depart_kwh
        fleet.plan_kind[i] = row.plan
        fleet.energy_kwh[i] = energy
        fleet.energy_ns[i] = fleet.report_ns[i] = min(max(row.rx_ns, 0), now_ns)


@kernel
def take_wishes(held: Any, wished_ns: Column, refreshed_ns: Column, rows: Block, now_ns: int, bad: Column) -> int:
    """Owners' wishes into the fleet's columns, the newest stands; returns how many were refused, by reason in `bad`.

    held : the fleet's handle; wished_ns : int64[n] source time of the wish that stands; rows : WISH[k]
    """
    fleet = held
    state, session = fleet.state, fleet.session
    n = state.size
    refused = 0
    for k in range(rows.size):
        row = rows[k]
        slot = int(row.slot)
        none = row.wish == NO_WISH
        why = TAKEN
        if slot >= n:
            why = W_SLOT
        elif row.wish >= WISHES:
            why = W_CODE
        elif session[slot] != row.session or state[slot] == UNPLUGGED:
            why = W_SESSION
        # Differences of stamps that may be any 64 bits: each is compared with a sum of ours, which cannot overflow.
        elif row.t_ns <= 0 or row.t_ns > now_ns + AHEAD_NS or (not none and row.until_ns > now_ns + WISH_MAX_NS):
            why = W_RANGE
        elif row.t_ns <= wished_ns[slot] or (not none and row.until_ns <= now_ns):
            # Overtaken, repeated, or lapsed on its way.
            why = W_OLD
        if why != TAKEN:
            bad[why] += 1
            refused += 1
            continue
        wished_ns[slot] = row.t_ns
        fleet.wish[slot] = row.wish
        fleet.wish_until_ns[slot] = 0 if none else row.until_ns
        segment = segment_of(slot, n)
        refreshed_ns[segment] = min(refreshed_ns[segment], 1)
    return refused
