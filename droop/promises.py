"""The parts a product's promise is made of: how it is triggered, what it reserves, how it is traded and measured.

Records only, each a table of the product's file (`droop.tables`). What they mean in motion is said where they are
used: triggers and protection in the engine, reservoirs where capacity is sold, the rest in settlement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

# Longest mean that a mode works with [s], and most criteria of an alert state.
WINDOW_S: Final = 900
CRITERIA: Final = 4


def at_least(item: object, *names: str, least: float = 0.0, above: bool = False) -> None:
    """Refuse figures that are infinite or below `least`; ValueError names the field."""
    for name in names:
        value = getattr(item, name)
        if not math.isfinite(value) or value < least or (above and value <= least):
            raise ValueError(f"field `{name}` takes a number {'above' if above else 'of'} {least:g}"
                             f"{'' if above else ' or more'}")  # fmt: skip


@dataclass(frozen=True)
class Trigger:
    """All or nothing: passed at `hz`, given whole, held, let go (FFR, static FCR-D, ERCOT RRS; rulebook 3.4, 3.8, 5.2).

    hz         : threshold; passed downwards by a product `up`, upwards by one `down`
    steps_hz   : thresholds of the shares of a product that comes in equal steps; empty: all at `hz`
    after_s    : the threshold must be passed for so long
    hold_s     : least time of support, from full activation on (`full_s` of the product after the pull)
    release_hz : support may end when the frequency is back beyond it ...
    release_s  : ... without a break for so long
    pause_hz   : while the frequency is beyond it again, what goes down stands still; 0: never
    fall_pu_s  : fastest way down; inf: at once
    fall_step_pu : largest single step down
    ready_s    : armed again so long after `ready_from`; before that nothing is promised
    ready_from : the moment counted from: the `release` (static FCR-D) or the `activation` (FFR)
    """

    hz: float
    steps_hz: tuple[float, ...] = ()
    after_s: float = 0.0
    hold_s: float = 0.0
    release_hz: float = 0.0
    release_s: float = 0.0
    pause_hz: float = 0.0
    fall_pu_s: float = math.inf
    fall_step_pu: float = 1.0
    ready_s: float = 0.0
    ready_from: Literal["release", "activation"] = "release"

    def __post_init__(self) -> None:
        at_least(self, "hz", above=True)
        if any(not math.isfinite(hz) or hz <= 0 for hz in self.steps_hz):
            raise ValueError("field `steps_hz` takes numbers above 0")
        at_least(self, "after_s", "hold_s", "release_hz", "release_s", "pause_hz", "ready_s")
        if not self.fall_pu_s > 0 or not 0 < self.fall_step_pu <= 1:
            raise ValueError("fields `fall_pu_s` and `fall_step_pu` take a rate above 0 and a share of 0..1")


@dataclass(frozen=True)
class Management:
    """Energy management of a limited reservoir: below a threshold on, above another off (rulebook 3.6).

    on_min, off_min : thresholds, as minutes of full activation left in the reservoir
    share_pu        : charging power while on, of the capacity sold
    window_s        : over which it fades in and out
    """

    on_min: float
    off_min: float
    share_pu: float = 0.0
    window_s: float = 300.0

    def __post_init__(self) -> None:
        at_least(self, "on_min", "off_min", "share_pu")
        at_least(self, "window_s", above=True)
        if self.off_min < self.on_min:
            raise ValueError("field `off_min` must not lie below `on_min`")
        if not 1 <= self.window_s <= WINDOW_S:
            raise ValueError(f"field `window_s` takes 1 to {WINDOW_S} s")


@dataclass(frozen=True)
class Reservoir:
    """What a product reserves of power and energy, per unit of the capacity sold (rulebook 2.2, 3.6, 4.2, 10).

    power_up_pu, power_down_pu   : power to keep free each way
    energy_up_h, energy_down_h   : energy to keep, as hours of full activation
    window_min, restore_h        : full activation that must always be left; full availability again within
    alert                        : (deviation in Hz, for so many s): an alert state begins (SO GL; TenneT NL 3.2.3)
    reserve_min                  : full activation time that the reserve mode covers; 0: there is no reserve mode
    nem, aem                     : Nordic normal and alert energy management
    recovery_frac                : share of the contracted energy that must be restorable per settlement period (NESO)
    """

    power_up_pu: float = 1.0
    power_down_pu: float = 1.0
    energy_up_h: float = 0.0
    energy_down_h: float = 0.0
    window_min: float = 0.0
    restore_h: float = 0.0
    alert: tuple[tuple[float, float], ...] = ()
    reserve_min: float = 0.0
    nem: Management | None = None
    aem: Management | None = None
    recovery_frac: float = 0.0

    def __post_init__(self) -> None:
        at_least(self, "power_up_pu", "power_down_pu", "energy_up_h", "energy_down_h")
        at_least(self, "window_min", "restore_h", "reserve_min", "recovery_frac")
        if len(self.alert) > CRITERIA or any(not hz > 0 or not 0 <= s < math.inf for hz, s in self.alert):
            raise ValueError(f"field `alert` takes at most {CRITERIA} of [deviation above 0 in Hz, time in s]")
        if self.reserve_min * 60 > WINDOW_S:
            raise ValueError(f"field `reserve_min` takes at most {WINDOW_S / 60:g} min")
        if self.reserve_min and not self.alert:
            raise ValueError("field `reserve_min` goes with `alert`: the reserve mode begins in an alert state")
        if self.reserve_min and self.aem:
            raise ValueError("fields `reserve_min` and `aem` are rules of two areas; give one of them")


@dataclass(frozen=True)
class Freedoms:
    """What a provider may do to steer its state of charge (rulebook 2.3); forbidden where not stated.

    overfulfil_max : share of the required power that may be given when it helps
    deadband       : inside the dead band the response may be given when it helps
    speed          : any trajectory between the fastest and the slowest admissible may be chosen
    """

    overfulfil_max: float = 1.0
    deadband: bool = False
    speed: bool = False

    def __post_init__(self) -> None:
        at_least(self, "overfulfil_max", least=1.0)


@dataclass(frozen=True)
class Protection:
    """When a unit must stay connected, trip, and come back (IEEE 1547-2018 6.5, 4.10; rulebook 7).

    trips          : (Hz, s): disconnect when the frequency is beyond it for so long; below nominal: under-frequency
    ride_through   : (low Hz, high Hz, s): stay connected for so long within this band; 0 s: without end
    enter_low_hz, enter_high_hz, enter_delay_s, enter_ramp_s : enter service
    enter_low_pu, enter_high_pu : voltage window of the same
    rocof_hz_s     : stay connected while the frequency changes no faster; 0: nothing is said
    """

    trips: tuple[tuple[float, float], ...]
    enter_low_hz: float
    enter_high_hz: float
    enter_delay_s: float
    enter_ramp_s: float
    ride_through: tuple[tuple[float, float, float], ...] = ()
    enter_low_pu: float = 0.0
    enter_high_pu: float = 0.0
    rocof_hz_s: float = 0.0

    def __post_init__(self) -> None:
        at_least(self, "rocof_hz_s")
        at_least(self, "enter_low_hz", "enter_high_hz", "enter_delay_s", "enter_ramp_s")
        if not self.trips:
            raise ValueError("field `trips` takes at least one [Hz, s]")
        if self.enter_high_hz <= self.enter_low_hz:
            raise ValueError("field `enter_high_hz` must lie above `enter_low_hz`")
        at_least(self, "enter_low_pu", "enter_high_pu")
        for hz, after_s in self.trips:
            if not math.isfinite(hz) or hz <= 0 or not math.isfinite(after_s) or after_s < 0:
                raise ValueError(f"field `trips`: [{hz:g}, {after_s:g}] takes a frequency above 0, a time of 0 or more")
            if self.enter_low_hz < hz < self.enter_high_hz:
                raise ValueError(f"field `trips`: {hz:g} Hz lies in the window in which service is entered")
            self._ride(hz, after_s)

    def _ride(self, hz: float, after_s: float) -> None:
        """Refuse a trip that would cut a must-ride-through band short."""
        under = hz <= self.enter_low_hz
        for low_hz, high_hz, ride_s in self.ride_through:
            if not low_hz < high_hz or not 0 <= ride_s < math.inf:
                raise ValueError("field `ride_through` takes [low Hz, high Hz, s], the lower first; 0 s: without end")
            if after_s < (ride_s or math.inf) and (low_hz < hz if under else hz < high_hz):
                raise ValueError(
                    f"field `trips`: {hz:g} Hz after {after_s:g} s lies in a band that must be ridden through "
                    f"({low_hz:g} to {high_hz:g} Hz, {f'{ride_s:g} s' if ride_s else 'without end'})"
                )


@dataclass(frozen=True)
class Market:
    """How the product is traded.

    block_s          : length of a block of sale; 0: the settlement interval
    min_kw, step_kw  : smallest bid and its steps
    max_indivisible_kw : largest indivisible bid; 0: no limit
    symmetric        : whether up and down are sold together only
    gate             : when bids close, in words and local time
    zone             : IANA name of the zone in which blocks and days are cut
    day_start        : local time at which the market's day begins, "HH:MM"; "23:00" is of the evening before
    currency         : ISO 4217
    price_unit       : what a price is of, e.g. "EUR/MW/h"
    """

    block_s: int = 0
    min_kw: float = 0.0
    step_kw: float = 0.0
    max_indivisible_kw: float = 0.0
    symmetric: bool = False
    gate: str = ""
    zone: str = "UTC"
    day_start: str = "00:00"
    currency: str = ""
    price_unit: str = ""

    def __post_init__(self) -> None:
        at_least(self, "block_s", "min_kw", "step_kw", "max_indivisible_kw")


@dataclass(frozen=True)
class Sampling:
    """What must be measured and kept; 0: the market's text says nothing that we know.

    *_hz : rates; meter_s : slowest admissible refresh of a meter; power_accuracy_frac, hz_accuracy_hz : largest errors
    """

    control_hz: float = 0.0
    test_hz: float = 0.0
    archive_hz: float = 0.0
    telemetry_hz: float = 0.0
    meter_s: float = 0.0
    power_accuracy_frac: float = 0.0
    hz_accuracy_hz: float = 0.0
    decimals: int = 0
    keep_days: int = 0

    def __post_init__(self) -> None:
        at_least(self, "control_hz", "test_hz", "archive_hz", "telemetry_hz", "meter_s")
        at_least(self, "power_accuracy_frac", "hz_accuracy_hz", "decimals", "keep_days")
