"""What a compiled stretch of a backtest works with, and the words in which it and Python talk to each other.

`STATE` holds the numbers that live in the objects of `backtest` between stretches, under names of its own; `Desk` the
arrays that are nobody's copy.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.accounting import TURNS
from droop.accounts import LOOK_NS
from droop.response import Believing

Column = npt.NDArray[Any]

# Longest step without a decision: commands would expire, and a gap in the trace is lived through, not jumped.
STEP_MAX_NS: Final = 2_000_000_000
# From one piece of the accounts' turn to the next one's.
APART_NS: Final = LOOK_NS // TURNS

# Why a stretch ended, and where the next one begins.
DONE, GAP, EVENT, LOOK, DECIDE, AFTER = range(6)
COMING, HEARING, DECIDING = range(3)

# Places in `Desk.at`.
(
    STEP, REPORT, TAKE, RECEIVE, BEGIN, RENEW, STAY_STILL, SHUT, CAP, EASE, ARRANGE, FINISH, ARRIVE, DECIDED,
    SHARE,
) = range(15)  # fmt: skip

# Alarms of every decision, as bits; a frequency is not lost where a usable sample has just come.
(
    LOST, DEAD_BUS, BEYOND, SHORT, OVERLOADED, BLIND, SHED, NO_FLEET, ALERT, RESERVE, NEM, AEM,
) = (1 << bit for bit in range(12))  # fmt: skip
CODES: Final = (
    "FREQUENCY_LOST", "DEAD_BUS", "FREQUENCY_OUT_OF_BOUNDS", "SHORTFALL", "SITE_OVERLOADED", "SITE_BLIND", "SITE_SHED",
    "NO_FLEET", "ALERT_STATE", "RESERVE_MODE", "NEM_ACTIVE", "AEM_ACTIVE",
)  # fmt: skip
MODES: Final = ALERT | RESERVE | NEM | AEM

# Numbers that live in the objects of `backtest`, and here while a stretch runs.
STATE: Final = np.dtype(
    [
        # backtest
        ("last_ns", "<i8"),
        ("look_ns", "<i8"),
        ("told", "<i8"),
        ("switches", "<i8"),
        # simulated fleet
        ("fleet_ns", "<i8"),
        ("event_ns", "<i8"),
        ("records", "<i8"),  # whether session records wait
        ("grid_kwh", "<f8"),
        ("losses_kwh", "<f8"),
        ("throughput_kwh", "<f8"),
        ("vanished", "<i8"),
        ("read", "<i8"),  # readings in `Desk.readings`
        ("heard", "<i8"),  # those of them that the core has heard
        ("weak_per_frac", "<f8"),
        ("noise_frac", "<f8"),
        ("soc_step_frac", "<f8"),
        ("salt", "<u8"),
        # core
        ("core_ns", "<i8"),
        ("metered_kw", "<f8"),
        ("meter_ns", "<i8"),
        ("baseline_kw", "<f8"),
        ("signal_kw", "<f8"),
        ("signal_until_ns", "<i8"),
        ("signal_ns", "<i8"),
        ("signal_max_kw", "<f8"),
        ("low_hz", "<f8"),
        ("high_hz", "<f8"),
        ("capped", "<i8"),
        ("ruled", "<i8"),
        ("second", "<i8"),  # whose modes have been told
        ("alarms", "<i8"),
        ("sequence", "<i8"),
        ("entries", "<i8"),
        ("refused_meter", "<i8"),
        ("refused_signal", "<i8"),
        # declared baseline: in force, and as `declared.Standing`
        ("force_from_ns", "<i8"),
        ("force_until_ns", "<i8"),
        ("until_ns", "<i8"),
        ("power_kw", "<f8"),
        ("before_kw", "<f8"),
        ("ramp_ns", "<i8"),
        ("steps", "<i8"),
        # accounting
        ("edge_ns", "<i8"),
        ("turn_ns", "<i8"),
        ("fresh", "<i8"),  # somebody may be without an account
        ("short", "<i8"),  # something may be left to share out
        # sums
        ("ticks", "<i8"),
        ("commands", "<i8"),
        ("all_passes", "<i8"),
        ("violations", "<i8"),
        ("clipped", "<i8"),
        ("requested_up_kwh", "<f8"),
        ("requested_down_kwh", "<f8"),
        ("delivered_up_kwh", "<f8"),
        ("delivered_down_kwh", "<f8"),
        ("unserved_kwh", "<f8"),
        ("error_kw", "<f8"),
        # the last decision, as `Tick`
        ("decided", "<i8"),  # whether there was one yet
        ("row", "<i8"),  # whose it was, of those at hand; -1: none of them
        ("request_kw", "<f8"),
        ("response_kw", "<f8"),
        ("dealt_kw", "<f8"),
        ("commanded_kw", "<f8"),
        ("unserved_kw", "<f8"),
        ("lo_kw", "<f8"),
        ("hi_kw", "<f8"),
        ("lam", "<f8"),
        ("passes", "<i8"),
        ("mode", "<i8"),
        ("broken", "<i8"),
    ]
)


class Desk(NamedTuple):
    """What a stretch works with beside the engine, the accounts and the chargers."""

    state: Column  # STATE[1]
    at: Column  # int64[kernels]  their addresses
    session: Column  # of the simulated chargers, [n] each
    report_ns: Column
    period_ns: Column
    cut_until_ns: Column
    deaf_until_ns: Column
    vehicles: Column  # VEHICLE[n]  scratch
    setpoints: Column  # SETPOINT[n]  scratch
    readings: Column  # POWER[m]  of the meter
    points: Column  # SIGNAL[k]
    modes: Column  # int8[n]  least powers' as they were
    bad: Column  # int64[reasons]  reports refused
    unserved_kwh: Column  # float64[reasons]  what was not served, by the core's reasons
    believing: Believing
