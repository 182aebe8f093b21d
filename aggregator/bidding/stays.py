"""Availability from recorded stays: who was there when, and what of his battery could have been sold.

A record of charging knows times and one energy, rarely a battery and never its state between. So the rest is assumed,
in one place (`Car`), and said with every bid made of it: the car leaves at `left_frac`, came with so much less, and
charged evenly meanwhile. Whether it was there is a fact; what it could sell is an estimate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.bidding.available import SLICE, Slices, profile
from aggregator.bidding.products import BidError, Bundle
from droop.energy import NS_PER_H
from droop.offers import Able, each_kw, power_kw
from settlement.align import NS

Stays = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Car:
    """What a record of stays does not say.

    power_kw                : of charger and car, both ways; `both_ways` off: it charges only
    capacity_kwh            : usable; more where the energy charged would not fit, or where the record says it
    floor_frac, ceiling_frac: window of the state of charge
    left_frac               : state of charge at departure
    """

    power_kw: float = 11.0
    both_ways: bool = True
    capacity_kwh: float = 60.0
    floor_frac: float = 0.3
    ceiling_frac: float = 0.9
    left_frac: float = 0.8
    efficiency_frac: float = 0.95

    def __post_init__(self) -> None:
        for name in ("power_kw", "capacity_kwh"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise BidError(f"--car: {name} takes a number above 0, not {getattr(self, name)}")
        if not 0.0 <= self.floor_frac < self.left_frac <= self.ceiling_frac <= 1.0 or not 0 < self.efficiency_frac <= 1:
            raise BidError("--car: floor, departure and ceiling are shares of 0..1 in this order, efficiency above 0")

    def told(self) -> str:
        """What is assumed, in words."""
        ways = "both ways" if self.both_ways else "charging only"
        return (
            f"each car {self.capacity_kwh:g} kWh, {self.power_kw:g} kW {ways}, SoC {self.floor_frac:g}-"
            f"{self.ceiling_frac:g}, leaves at {self.left_frac:g}, charged evenly over its stay"
        )


class _Batteries(NamedTuple):
    """By stay [kWh, kW]."""

    begin_kwh: npt.NDArray[np.float64]
    charged_kwh: npt.NDArray[np.float64]
    floor_kwh: npt.NDArray[np.float64]
    ceiling_kwh: npt.NDArray[np.float64]
    power_kw: npt.NDArray[np.float64]


def slices(stays: Stays, bundle: Bundle, car: Car, chargers: int | None = None) -> tuple[Slices, int]:
    """SLICE[n] from the first arrival to the last departure, and the number of stays without a departure, left out.

    stays    : rows with arrive_ns, leave_ns (0: unknown), told_leave_ns (0: none given), energy_kwh; where they have
               them also capacity_kwh and power_kw (NaN: unknown)
    chargers : how many there are; None: the most that were ever occupied at once up to then, so that nothing later is
               known

    Raises BidError for stays that end before they begin, and for energies that are negative or not finite.
    """
    unknown = stays["leave_ns"] == 0
    rows = np.sort(stays[~unknown], order="arrive_ns")
    _check(rows)
    if not rows.size:
        return np.zeros(0, SLICE), int(unknown.sum())
    length_ns = bundle.slice_s * NS
    first = -(-rows["arrive_ns"] // length_ns)
    last = rows["leave_ns"] // length_ns
    begin, end = int(first.min()), int(last.max())
    if end <= begin:
        return np.zeros(0, SLICE), int(unknown.sum())
    many = np.maximum(last - first, 0)
    who = np.repeat(np.arange(rows.size), many)
    of = np.arange(who.size) - np.repeat(np.cumsum(many) - many, many) + np.repeat(first, many)
    can = _able(rows, _batteries(rows, car), who, of * length_ns, bundle, car)
    needs, one_way = bundle.needs, bundle.one_way_needs
    each, endless = each_kw(can, needs, one_way), power_kw(can, needs, one_way)
    found = np.zeros(end - begin, SLICE)
    found["start_ns"] = np.arange(begin, end) * length_ns
    found["end_ns"] = found["start_ns"] + length_ns
    place, counts = of - begin, each > 0.0
    found["present"] = np.bincount(place[counts], minlength=found.size)
    for name, value in (("kw", each), ("power_kw", endless), ("up_kwh", can.up_kwh * counts),
                        ("down_kwh", can.down_kwh * counts)):  # fmt: skip
        found[name] = np.bincount(place, value, minlength=found.size)
    order = np.lexsort((each[counts], place[counts]))
    parts = np.split(each[counts][order], np.cumsum(found["present"])[:-1])
    found["profile_kw"] = [profile(part) for part in parts]
    found["chargers"] = np.maximum(_most(rows, found["end_ns"]), found["present"]) if chargers is None else chargers
    if chargers is not None and (found["present"] > chargers).any():
        raise BidError(
            f"--chargers {chargers}: {int(found['present'].max())} cars were there at once; give at least so many"
        )
    return found, int(unknown.sum())


def _check(rows: Stays) -> None:
    bad = ~(np.isfinite(rows["energy_kwh"]) & (rows["energy_kwh"] >= 0.0))
    if bad.any():
        k = int(np.flatnonzero(bad)[0])
        raise BidError(
            f"--history: stay {k}: field `energy_kwh` takes a number of 0 or more, not {rows['energy_kwh'][k]:g}"
        )
    if (rows["leave_ns"] <= rows["arrive_ns"]).any():
        k = int(np.flatnonzero(rows["leave_ns"] <= rows["arrive_ns"])[0])
        raise BidError(f"--history: stay {k}: field `leave_ns` must lie after `arrive_ns`; correct it or leave it out")


def _batteries(rows: Stays, car: Car) -> _Batteries:
    energy = rows["energy_kwh"] * car.efficiency_frac
    least = energy / max(car.left_frac - 0.05, 0.05)
    capacity = np.maximum(_known(rows, "capacity_kwh", car.capacity_kwh), least)
    power = np.minimum(_known(rows, "power_kw", car.power_kw), car.power_kw)
    begin = car.left_frac * capacity - energy
    return _Batteries(begin, energy, car.floor_frac * capacity, car.ceiling_frac * capacity, power)


def _known(rows: Stays, name: str, otherwise: float) -> npt.NDArray[np.float64]:
    if name not in (rows.dtype.names or ()):
        return np.full(rows.size, otherwise)
    return np.where(np.isfinite(rows[name]) & (rows[name] > 0.0), rows[name], otherwise)


def _able(rows: Stays, has: _Batteries, who: Ints, t_ns: Ints, bundle: Bundle, car: Car) -> Able:
    """What each of the stays `who` can do at `t_ns` (rulebook 9.1: floor, and what the departure still wants)."""
    arrive, leave, told = rows["arrive_ns"][who], rows["leave_ns"][who], rows["told_leave_ns"][who]
    aboard = has.begin_kwh[who] + has.charged_kwh[who] * (t_ns - arrive) / (leave - arrive)
    power, hours = has.power_kw[who], max(bundle.needs.up_h, bundle.needs.down_h)
    left_h = np.maximum((told - t_ns) / NS_PER_H - hours, 0.0)
    wanted = has.begin_kwh[who] + has.charged_kwh[who] - car.efficiency_frac * power * left_h
    floor = np.where(told > t_ns, np.maximum(has.floor_kwh[who], wanted), has.floor_kwh[who])
    out = power if car.both_ways else np.zeros(power.size)
    up_kwh = np.maximum(aboard - floor, 0.0) * car.efficiency_frac * car.both_ways
    down_kwh = np.maximum(has.ceiling_kwh[who] - aboard, 0.0) / car.efficiency_frac
    return Able(out, power, up_kwh, down_kwh, np.zeros(power.size))


def _most(rows: Stays, until_ns: Ints) -> Ints:
    """Most cars that were there at once up to each time."""
    times = np.concatenate([rows["arrive_ns"], rows["leave_ns"]])
    steps = np.repeat([1, -1], rows.size)
    order = np.lexsort((steps, times))
    most = np.maximum.accumulate(np.cumsum(steps[order]))
    return np.asarray(most[np.maximum(np.searchsorted(times[order], until_ns, side="right") - 1, 0)], np.int64)
