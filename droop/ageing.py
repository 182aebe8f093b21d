"""How much capacity a battery has lost to its years and to its cycles, and what a kilowatt-hour through it costs.

The published laws are powers of one stress: q = k x^a, x the time or the cycles at constant conditions. When
conditions change, the battery goes on from the loss it has: as if it had lived for a virtual time under the new
ones. Written as q^(1/a), that continuation is a plain sum, k^(1/a) dx, in which the order of the stresses does
not matter. `Health` keeps the sums, one for the calendar and one for the cycles; a law says how fast each grows
and what loss both come to.

Loss is a fraction of the nominal capacity. The laws are fits to cells in a laboratory: good for comparing one way
of working a fleet with another, no warranty for one car.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from droop.rainflow import Counts

Column = npt.NDArray[Any]
Numbers = Column | float

KELVIN: Final = 273.15
GAS: Final = 8.314462618  # J/(mol K), CODATA 2018
S_PER_DAY: Final = 86_400.0
END_OF_LIFE: Final = 0.2  # loss at which a traction battery is commonly called worn out


class Law(Protocol):
    """What an ageing law answers, for numbers or columns alike. Its arguments are checked by the functions below."""

    def calendar(self, soc: Numbers, temp_c: Numbers) -> Numbers:
        """Growth of the calendar sum [1/s]."""

    def cycle(self, depth: Numbers, mean: Numbers, temp_c: Numbers, c_rate: Numbers) -> Numbers:
        """Growth of the cycle sum with one full cycle of `depth` around the state of charge `mean`."""

    def loss(self, calendar: Numbers, cycle: Numbers) -> Numbers:
        """Loss of capacity both sums come to [fraction]."""

    def cycle_sum(self, loss: float) -> float:
        """Cycle sum of a battery that came to `loss` by cycles alone."""


@dataclass(frozen=True)
class Lfp:
    """Lithium iron phosphate: Naumann et al. 2018 (doi 10.1016/j.est.2018.01.019) for the calendar and 2020
    (doi 10.1016/j.jpowsour.2019.227666) for the cycles, as encoded in the open simulator SimSES of TU Munich.

    Calendar  k_T k_SoC sqrt(t), cycles k_C k_D sqrt(FEC)/100: t in seconds, FEC in full equivalent cycles.
    Fitted to one 3 Ah cell of long life. Cycles know no temperature: the cells were cycled warm, and lithium plating
    in the cold is not in the law. c_rate is the mean of charging and discharging while the battery works [1/h].
    """

    def calendar(self, soc: Numbers, temp_c: Numbers) -> Numbers:
        """(k_T k_SoC)^2, with 17.126 kJ/mol around 25 degC."""
        warmth = 1.2571e-5 * np.exp(-17126.0 / GAS * (1.0 / (np.asarray(temp_c) + KELVIN) - 1.0 / 298.15))
        return (warmth * (2.8575 * (np.asarray(soc) - 0.5) ** 3 + 0.60225)) ** 2

    def cycle(self, depth: Numbers, mean: Numbers, temp_c: Numbers, c_rate: Numbers) -> Numbers:  # noqa: ARG002
        """(k_C k_D / 100)^2 for each full equivalent cycle; one cycle is `depth` of them."""
        rate = 0.0630 * np.asarray(c_rate) + 0.0971
        swing = 4.0253 * (np.asarray(depth) - 0.6) ** 3 + 1.0923
        return (rate * swing / 100.0) ** 2 * depth

    def loss(self, calendar: Numbers, cycle: Numbers) -> Numbers:
        """sqrt + sqrt."""
        return np.sqrt(calendar) + np.sqrt(cycle)

    def cycle_sum(self, loss: float) -> float:
        """The square."""
        return loss**2


@dataclass(frozen=True)
class Nmc:
    """Nickel manganese cobalt (111): Schmalstieg et al. 2014 (doi 10.1016/j.jpowsour.2014.02.012), which needs the
    cell's open-circuit voltage.

    Calendar  (7.543 V - 23.75) 1e6 exp(-6976/T) t^0.75, t in days; below 3.149 V the fit turns negative: no loss.
    Cycles    (7.348e-3 (V_mean - 3.667)^2 + 7.6e-4 + 4.081e-3 depth) sqrt(Ah), Ah through the cell.
    Fitted at 1C and 35 degC: the cycles know neither temperature nor rate. V_mean is read at the mean state of charge.

    ocv_soc, ocv_v : points of the open-circuit voltage over the state of charge, both rising. The default is the
                     paper's own cell, its figure 1 (0 and 10 %: Ecker et al. 2014, doi 10.1016/j.jpowsour.2013.09.143),
                     as digitised in BLAST-Lite (NREL), rounded to 10 mV
    cell_ah        : capacity of the cell that was fitted; published between 2.05 and 2.15 Ah
    """

    ocv_soc: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    ocv_v: tuple[float, ...] = (3.33, 3.49, 3.58, 3.63, 3.66, 3.70, 3.77, 3.87, 3.96, 4.07, 4.16)
    cell_ah: float = 2.05

    def __post_init__(self) -> None:
        soc, volts = np.asarray(self.ocv_soc, np.float64), np.asarray(self.ocv_v, np.float64)
        if soc.ndim != 1 or soc.size < 2 or not (np.diff(soc) > 0.0).all():
            raise ValueError("ocv_soc: takes at least two rising numbers")
        if volts.shape != soc.shape or not (np.isfinite(volts).all() and (np.diff(volts) >= 0.0).all()):
            raise ValueError("ocv_v: takes one voltage for each ocv_soc, none below the one before")
        if not 0.0 < self.cell_ah < np.inf:
            raise ValueError(f"cell_ah: takes a finite number above 0, got {self.cell_ah}")

    def volts(self, soc: Numbers) -> Numbers:
        """Open-circuit voltage [V]."""
        return np.interp(soc, self.ocv_soc, self.ocv_v)

    def calendar(self, soc: Numbers, temp_c: Numbers) -> Numbers:
        """k^(4/3) for each day."""
        slope = np.maximum(7.543 * self.volts(soc) - 23.75, 0.0)
        return (slope * 1e6 * np.exp(-6976.0 / (np.asarray(temp_c) + KELVIN))) ** (4.0 / 3.0) / S_PER_DAY

    def cycle(self, depth: Numbers, mean: Numbers, temp_c: Numbers, c_rate: Numbers) -> Numbers:  # noqa: ARG002
        """k^2 for each Ah; one cycle moves twice its depth."""
        k = 7.348e-3 * (self.volts(mean) - 3.667) ** 2 + 7.6e-4 + 4.081e-3 * np.asarray(depth)
        return k**2 * 2.0 * self.cell_ah * np.asarray(depth)

    def loss(self, calendar: Numbers, cycle: Numbers) -> Numbers:
        """t^0.75 + sqrt."""
        return np.asarray(calendar) ** 0.75 + np.sqrt(cycle)

    def cycle_sum(self, loss: float) -> float:
        """The square."""
        return loss**2


@dataclass(frozen=True)
class Xu:
    """Semi-empirical: Xu et al. 2018 (IEEE Transactions on Smart Grid 9(2), 1131-1140), a fit to LMO cells. Its
    parameters here are quoted from memory: compare with it, conclude nothing from it.

    Both stresses add up to f, and the loss is alpha (1 - exp(-beta f)) + (1 - alpha)(1 - exp(-f)): the first part is
    the film that forms on new electrodes. The temperature factor holds above about 15 degC.
    """

    film: float = 0.0575  # alpha
    film_rate: float = 121.0  # beta

    def _setting(self, soc: Numbers, temp_c: Numbers) -> Numbers:
        """Factors of the state of charge and the temperature, 1 at 50 % and 25 degC."""
        warmth = 6.93e-2 * (np.asarray(temp_c) - 25.0) * 298.15 / (KELVIN + np.asarray(temp_c))
        return np.exp(1.04 * (np.asarray(soc) - 0.5) + warmth)

    def calendar(self, soc: Numbers, temp_c: Numbers) -> Numbers:
        """k_t S_soc S_T."""
        return 4.14e-10 * self._setting(soc, temp_c)

    def cycle(self, depth: Numbers, mean: Numbers, temp_c: Numbers, c_rate: Numbers) -> Numbers:  # noqa: ARG002
        """S_depth S_soc S_T; S_depth = 1 / (1.40e5 depth^-0.501 - 1.23e5), written without the pole at 0."""
        power = np.asarray(depth) ** 0.501
        return power / (1.40e5 - 1.23e5 * power) * self._setting(mean, temp_c)

    def loss(self, calendar: Numbers, cycle: Numbers) -> Numbers:
        """Two exponentials, exact for small sums."""
        f = np.asarray(calendar) + np.asarray(cycle)
        return -self.film * np.expm1(-self.film_rate * f) - (1.0 - self.film) * np.expm1(-f)

    def cycle_sum(self, loss: float) -> float:
        """By bisection: the loss rises with the sum."""
        low, high = 0.0, -np.log1p(-loss)  # without the film it would take this much
        for _ in range(100):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self.loss(0.0, middle) < loss else (low, middle)
        return 0.5 * (low + high)


class Health(NamedTuple):
    """The sums of n batteries. What they mean is the law's business: never mix laws on one state."""

    calendar: Column  # float64[n]
    cycle: Column  # float64[n]


def new(n: int) -> Health:
    """Batteries fresh from the factory."""
    return Health(np.zeros(n), np.zeros(n))


def advance(
    health: Health, law: Law, elapsed_s: float, soc: Numbers, temp_c: Numbers, counts: Counts | None = None,
    c_rate: Numbers = 0.5,
) -> None:  # fmt: skip
    """Let `elapsed_s` pass, with what was cycled in that time; the sums are updated in place.

    soc, temp_c : float or float64[n]  means over the time [fraction, degC]
    counts      : cycles closed in this time (`rainflow.read` now, `since` the last one); None: the battery rested
    c_rate      : float or float64[n]  mean power over capacity while working [1/h]

    Raises ValueError naming the argument for what is not finite, negative or of another shape.
    """
    n = health.calendar.size
    elapsed = _checked("elapsed_s", elapsed_s, 0.0, np.inf, 1)
    level, warmth = _checked("soc", soc, 0.0, 1.0, n), _checked("temp_c", temp_c, -60.0, 100.0, n)
    rate = _checked("c_rate", c_rate, 0.0, 100.0, n)
    grown = 0.0 if counts is None else _cycled(law, _counts(counts, n), np.broadcast_to(warmth, n), rate)
    health.calendar[:] += law.calendar(level, warmth) * elapsed
    health.cycle[:] += grown


def _cycled(law: Law, counts: Counts, temp_c: Column, c_rate: Column) -> Column:
    """Growth of the cycle sum: each bin at its own mean depth and mean state of charge."""
    cycles = 0.5 * counts.halves.astype(np.float64)
    each = np.maximum(cycles, 0.5)
    rate = np.broadcast_to(c_rate, temp_c.shape)
    grown = cycles * law.cycle(counts.depth / each, counts.mean / each, temp_c[:, None], rate[:, None])
    return np.asarray(grown).sum(axis=1)


def since(now: Counts, before: Counts) -> Counts:
    """Cycles closed between two readings of the same state (`Cycles.closed`, copied), both without the residue."""
    return Counts(*(a - b for a, b in zip(now, before, strict=True)))


def loss(health: Health, law: Law) -> Column:
    """Capacity lost so far: float64[n], fraction of the nominal."""
    return np.asarray(law.loss(health.calendar, health.cycle))


def cycles_to(
    law: Law, depth: float, end: float = END_OF_LIFE, mean: float = 0.5, temp_c: float = 25.0, c_rate: float = 0.5
) -> float:
    """Full cycles of one depth that bring a new battery to the loss `end`, its calendar left out."""
    _checked("end", end, 0.0, 0.999, 1)
    _checked("mean", mean, 0.0, 1.0, 1)
    _checked("temp_c", temp_c, -60.0, 100.0, 1)
    _checked("c_rate", c_rate, 0.0, 100.0, 1)
    if _checked("depth", depth, 0.0, 1.0, 1) == 0.0:
        raise ValueError("depth: takes a fraction above 0")
    return float(law.cycle_sum(end) / law.cycle(depth, mean, temp_c, c_rate))


def throughput_cost(battery_cost: float, nominal_kwh: float, cycles: float, depth: float = 1.0) -> float:
    """Cost of a kilowatt-hour moved through the battery, in either direction [currency/kWh].

    c = cost / (2 x nominal x cycles x depth): what the battery costs over all it will move until it is worn out,
    if it lives for `cycles` cycles of `depth`. A round trip pays twice.
    """
    _checked("battery_cost", battery_cost, 0.0, np.inf, 1)
    for name, value in (("nominal_kwh", nominal_kwh), ("cycles", cycles), ("depth", depth)):
        if _checked(name, value, 0.0, np.inf, 1) == 0.0:
            raise ValueError(f"{name}: takes a number above 0")
    return battery_cost / (2.0 * nominal_kwh * cycles * depth)


def wear_price(
    law: Law, battery_cost: float, nominal_kwh: float, depth: float, end: float = END_OF_LIFE, mean: float = 0.5,
    temp_c: float = 25.0, c_rate: float = 0.5,
) -> float:  # fmt: skip
    """Price below which a vehicle should rather not move, for the split [currency/kWh moved, either direction].

    The throughput cost over the life the law promises at this depth: the mean over the life, and not the slope of
    the loss today. A square root is infinitely steep on a new battery and flat on an old one; by its slope a fleet
    would wear out its oldest cars first and never touch a new one.

    battery_cost : currency, replacement less what the worn battery still fetches
    depth        : fraction, depth of the cycles the service makes
    """
    return throughput_cost(battery_cost, nominal_kwh, cycles_to(law, depth, end, mean, temp_c, c_rate), depth)


def _checked(name: str, value: Any, low: float, high: float, n: int) -> Column:
    """A number, or a row of n, finite and within low..high; ValueError names it."""
    column = np.asarray(value, np.float64)
    if column.shape not in ((), (n,)):
        raise ValueError(f"{name}: takes a number or a row of {n}, got shape {column.shape}")
    if not (np.isfinite(column) & (column >= low) & (column <= high)).all():
        raise ValueError(f"{name}: takes finite numbers within {low:g}..{high:g}")
    return column


def _counts(counts: Counts, n: int) -> Counts:
    """Counts of n vehicles, none negative: a reading from before and one from after, swapped, would be."""
    if len(counts.depth) != n:
        raise ValueError(f"counts: takes {n} rows, got {len(counts.depth)}")
    # halves are unsigned: a swapped difference shows in the other columns.
    if not (np.isfinite(counts.depth) & (counts.depth >= 0.0) & (counts.mean >= 0.0)).all():
        raise ValueError("counts: takes cycles of a time, not negative")
    return counts
