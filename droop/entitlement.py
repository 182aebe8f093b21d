"""What products take of a fleet's power and energy, how long it lasts, and what capacity is maintained meanwhile.

Plain figures, for those who sell, watch and settle; nothing here acts. Reservations of products held at once add up
(Nordic requirements, table 10; NESO Response Service Terms: capacity and energy use). Positive power is into the grid;
energies are at the grid, and every magnitude is positive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from droop.capability import Needs
from droop.products import Product

Floats = npt.NDArray[np.float64]
Sold = Sequence[tuple[Product, float]]
"""Products and the kW sold of each."""


class Reserved(NamedTuple):
    """What the products held together keep for themselves."""

    up_kw: float
    down_kw: float
    up_kwh: float
    down_kwh: float


class Shortage(NamedTuple):
    """How much less the fleet has than is reserved; 0: enough."""

    up_kw: float
    down_kw: float
    up_kwh: float
    down_kwh: float


def needs(product: Product) -> Needs:
    """What one kW of a product takes; of one that states no reservoir its curve, for as long as it must last."""
    reservoir = product.reservoir
    if reservoir is not None:
        return Needs(
            reservoir.power_up_pu, reservoir.power_down_pu, reservoir.energy_up_h, reservoir.energy_down_h
        )  # fmt: skip
    up, down = max(*product.curve_frac, 0.0), -min(*product.curve_frac, 0.0)
    hours = product.sustain_min / 60.0
    return Needs(up, down, up * hours, down * hours)


def together(*each: Needs) -> Needs:
    """What one kW of each of several products takes at once, as of Dynamic Containment sold both ways."""
    return Needs(*(math.fsum(column) for column in zip(*each, strict=True)))


def reserve(sold: Sold) -> Reserved:
    """Power and energy to keep for everything sold: the sum over the products [kW, kWh]."""
    each = [[need * kw for need in needs(product)] for product, kw in sold]
    return Reserved(*(math.fsum(column) for column in zip(*each, strict=True))) if each else Reserved(0, 0, 0, 0)


def sustained_for(sold: Sold) -> list[tuple[float, float, float]]:
    """(hours, up kW, down kW) that the fleet must be able to sustain, for each duration that a product asks.

    The mean power over a duration of all products fully activated from its beginning, each until its energy is spent.
    """
    each = [(needs(product), kw) for product, kw in sold]
    hours = sorted({h for need, _ in each for h in (need.up_h, need.down_h) if h > 0.0})
    return [
        (
            h,
            math.fsum(kw * min(need.up_h, h) / h for need, kw in each),
            math.fsum(kw * min(need.down_h, h) / h for need, kw in each),
        )
        for h in hours
    ]


def shortage(reserved: Reserved, up_kw: float, down_kw: float, up_kwh: float, down_kwh: float) -> Shortage:
    """What is missing of a reservation. up_kw .. down_kwh : what there is"""
    have = (up_kw, down_kw, up_kwh, down_kwh)
    return Shortage(*(max(need - there, 0.0) for need, there in zip(reserved, have, strict=True)))


def soe_range_kwh(reserved: Reserved, energy_kwh: float) -> tuple[float, float]:
    """State of energy from which everything sold can be given either way: [REV_low, E - REV_high] [kWh].

    Raises ValueError where the products ask more than there is.
    """
    if reserved.up_kwh + reserved.down_kwh > energy_kwh * (1 + 1e-12):
        raise ValueError(
            f"{energy_kwh:g} kWh cannot hold {reserved.up_kwh:g} kWh up and {reserved.down_kwh:g} kWh down; "
            f"sell at most {energy_kwh / (reserved.up_kwh + reserved.down_kwh):.1%} of it"
        )
    return reserved.up_kwh, energy_kwh - reserved.down_kwh


def endurance_min(
    energy_kwh: float, floor_kwh: float, ceiling_kwh: float, set_kw: float, sold_up_kw: float, sold_down_kw: float,
    inflow_kw: float = 0.0,
) -> tuple[float, float]:  # fmt: skip
    """How long full activation lasts from now on: (up, down) [min]; infinite where the reservoir does not move.

    set_kw    : working point, into the grid [kW]; a reservoir that is charged at it lasts longer upwards
    inflow_kw : what fills the reservoir besides

    Nordic requirements, L_up and L_down. While AEM is on the endurance to report is 0.
    """
    out_kw, in_kw = set_kw + sold_up_kw - inflow_kw, inflow_kw - set_kw + sold_down_kw
    up = max(energy_kwh - floor_kwh, 0.0) / out_kw * 60.0 if out_kw > 0.0 else math.inf
    down = max(ceiling_kwh - energy_kwh, 0.0) / in_kw * 60.0 if in_kw > 0.0 else math.inf
    return up, down


class Maintained(NamedTuple):
    """Nordic capacity that is kept at this moment, as numbers or as columns [kW]."""

    n_kw: Floats
    d_up_kw: Floats
    d_down_kw: Floats


def maintained_nordic(
    max_kw: npt.ArrayLike, min_kw: npt.ArrayLike, baseline_kw: npt.ArrayLike, n_kw: float, d_up_kw: float,
    d_down_kw: float, frr_kw: npt.ArrayLike = 0.0, ffr_kw: npt.ArrayLike = 0.0, n_off: npt.ArrayLike = False,
    d_up_off: npt.ArrayLike = False, d_down_off: npt.ArrayLike = False,
) -> Maintained:  # fmt: skip
    """What is maintained of FCR-N and FCR-D between a unit's limits; in a shortage FCR-D goes first (MC-1).

    max_kw, min_kw, baseline_kw     : furthest powers and baseline, into the grid
    n_kw, d_up_kw, d_down_kw        : capacities sold
    frr_kw, ffr_kw                  : frequency restoration reserve held, and fast reserve, as in the requirements'
                                      formulas
    n_off, d_up_off, d_down_off     : not available whatever the room, as while AEM is on

    N = min(Pmax - Pb - FRR, Pb - FRR - Pmin, C); D up = Pmax - Pb - FRR + FFR - N; D down = Pb - FRR - N - Pmin; each
    within 0 and what is sold.
    """
    most, least, base, frr, ffr = (
        np.asarray(value, np.float64) for value in (max_kw, min_kw, baseline_kw, frr_kw, ffr_kw)
    )
    above, below = most - base - frr, base - frr - least
    n = np.maximum(np.minimum(np.minimum(above, below), n_kw), 0.0)
    n = np.where(n_off, 0.0, n)
    d_up = np.clip(above + ffr - n, 0.0, d_up_kw)
    d_down = np.clip(below - n, 0.0, d_down_kw)
    return Maintained(n, np.where(d_up_off, 0.0, d_up), np.where(d_down_off, 0.0, d_down))


def maintained_kw(
    sold: Sold, room_up_kw: npt.ArrayLike, room_down_kw: npt.ArrayLike, up_kwh: npt.ArrayLike = np.inf,
    down_kwh: npt.ArrayLike = np.inf, off: Sequence[npt.ArrayLike] = (),
) -> list[Floats]:  # fmt: skip
    """Capacity of each product that is maintained, second by second: what availability is settled on [kW].

    room_up_kw, room_down_kw : what the fleet could go beyond its baseline each way
    up_kwh, down_kwh         : energy it has each way
    off                      : for each product whether a mode makes it unavailable; empty: for none

    Products answered from both sides are served first, then those of one: the Nordic order, FCR-D being cut before
    FCR-N. Each takes what full activation takes of power and of energy; what it keeps free besides, for recovery, is a
    condition of sale and not of delivery.
    """
    left = [np.asarray(value, np.float64) for value in (room_up_kw, room_down_kw, up_kwh, down_kwh)]
    left = [np.maximum(value, 0.0) for value in left]
    found: list[Floats] = [np.zeros(0)] * len(sold)
    for k in sorted(range(len(sold)), key=lambda k: sold[k][0].direction != "symmetric"):
        product, kw = sold[k]
        need = needs(product)
        up, down = max(*product.curve_frac, 0.0), -min(*product.curve_frac, 0.0)
        takes = (up, down, need.up_h if up else 0.0, need.down_h if down else 0.0)
        bound = [value / take for value, take in zip(left, takes, strict=True) if take > 0.0]
        kept = np.minimum.reduce(np.broadcast_arrays(*bound, np.float64(kw)))
        kept = np.where(off[k], 0.0, kept) if len(off) else np.asarray(kept)
        left = [value - take * kept if take else value for value, take in zip(left, takes, strict=True)]
        found[k] = kept
    return found
