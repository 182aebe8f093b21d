"""Rulebook 12, energy and limited reservoirs: each vector with its tolerance, its mark and where it comes from.

V: read in the primary document; V2: in a secondary one; M: from memory; D: derived.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

from droop.alert import counted
from droop.capability import RESERVE_MODE_MIN, offer, soc_window, sustained
from droop.curve import fractions
from droop.dynamics import at_rest, requested_kw, terms
from droop.entitlement import (
    endurance_min,
    maintained_kw,
    maintained_nordic,
    needs,
    reserve,
    soe_range_kwh,
    together,
)
from droop.fleet import allocate
from droop.freedoms import overfulfilled
from droop.management import allowed
from droop.modes import manage
from droop.presence import firm
from droop.products import load, parse, to_table
from droop.promises import Freedoms
from droop.reserve_mode import short_term_hz
from droop.state_of_energy import available, requirement_kwh
from tests import naive

S = 10**9
T0 = 1_700_000_000 * S


class Vector(NamedTuple):
    id: str
    found: Callable[[], Any]
    expected: Any
    tolerance: float
    mark: str
    origin: str


def alerts(*steps):
    """(state, clock of the first criterion [s]) at the end; steps : (deviation [Hz], seconds), a sample a second"""
    since, beyond = np.zeros(3, np.int64), np.array([0.05, 0.1, 0.2])
    for_ns, now, states = np.array([900, 300, 0]) * S, T0, []
    for dev_hz, seconds in steps:
        for _ in range(seconds):
            states.append(counted(since, beyond, for_ns, dev_hz, now))
            now += S
    clock_s = 0 if since[0] == 0 else (now - S - int(since[0])) / S
    return [sum(states), int(states[-1]), clock_s]


def reacted(weight):
    return float(fractions(load("ce_fcr").response, [short_term_hz(-0.080, -0.060, weight)])[0])


def overfulfilment(lean):
    due = float(fractions(load("ce_fcr").response, [-0.05])[0])
    return overfulfilled(due, lean, 1.2)


class Run:
    """One product's modes, a second a call."""

    def __init__(self, name, sold_kw, **reservoir):
        product = load(name)
        if reservoir:
            product = replace(product, reservoir=replace(product.reservoir, **reservoir))
        self.terms, self.motion, self.now = terms([(product, sold_kw)]), at_rest(1), T0

    def seconds(self, count, hz, up_kwh, down_kwh):
        asked = 0.0
        for _ in range(count):
            manage(
                self.motion.modes, self.terms.duties, self.terms.nominal_hz, self.terms.sold_kw, hz, self.now, up_kwh,
                down_kwh, 1e9, 1e9,
            )  # fmt: skip
            asked = requested_kw(self.motion, self.terms, hz, 1.0, True, self.now, 1.0, 0.0, 0)
            self.now += S
        return asked


def thresholds():
    """FCR-N, 1 MW in 2 MWh: states of charge at which AEM and NEM begin and end, to 1 kWh, found by trying."""
    found = []
    for name in ("aem", "nem"):
        for was in (0, -1):
            low, high = 0.0, 0.5
            while high - low > 1e-7:
                soc = (low + high) / 2
                run = Run("nordic_fcr_n", 1000.0)
                getattr(run.motion.modes, name)[0] = was
                run.seconds(1, 50.0, 2000 * soc, 2000 * (1 - soc))
                low, high = (soc, high) if getattr(run.motion.modes, name)[0] == -1 else (low, soc)
            found.append(low)
    return found


def nem_2():
    run = Run("nordic_fcr_n", 1000.0)
    run.seconds(180, 50.0, 1000.0, 1000.0)
    assert allowed(-1, 0.0, 0.1) == -1.0
    asked_kw = run.seconds(120, 50.0, 450.0, 1550.0)
    modes = run.motion.modes
    return [float(modes.past_nem[0, :300].sum()) / 300, asked_kw / 1000]


def nem_3():
    run = Run("nordic_fcr_n", 1000.0, nem=None)
    run.seconds(240, 49.95, 1000.0, 1000.0)
    asked_kw = run.seconds(60, 49.95, 50.0, 1950.0)
    return [50.0 + run.motion.modes.mean_hz[0], asked_kw / 1000]


def table_10():
    sold = [(load("nordic_fcr_n"), 1.0), (load("nordic_fcr_d_up"), 2.0), (load("nordic_fcr_d_down"), 3.0)]
    return list(reserve(sold))


def dynamic(name, points, duration_h):
    """Needs of a British product sold both ways; share kept for the other direction: duration x 0.2 x 2."""
    low = parse(to_table(load("gb_dc_low")) | {"id": f"{name}_low", "curve": points}, "test")
    high = parse(
        to_table(load("gb_dc_high")) | {"id": f"{name}_high", "curve": [[-x, -y] for x, y in reversed(points)]}, "test"
    )
    share = duration_h * 0.2 * 2
    sides = {"low": (low, (1.0, share, duration_h, 0.0)), "high": (high, (share, 1.0, 0.0, duration_h))}
    names = ("power_up_pu", "power_down_pu", "energy_up_h", "energy_down_h")
    return {
        side: replace(product, reservoir=replace(product.reservoir, **dict(zip(names, figures, strict=True))))
        for side, (product, figures) in sides.items()
    }


DC = [[-0.5, 1.0], [-0.2, 0.05], [-0.015, 0.0]]
DM = [[-0.2, 1.0], [-0.1, 0.05], [-0.015, 0.0]]
DR = [[-0.2, 1.0], [-0.015, 0.0]]


def both(*args):
    return together(*(needs(product) for product in dynamic(*args).values()))


def energy_mwh(*args):
    low = dynamic(*args)["low"]
    return float(fractions(low.response, np.full(1800, -0.2)).sum()) / 3600


def one_car():
    car = naive.Car(
        energy_kwh=36.0, usable_kwh=60.0, soc_floor_kwh=18.0, ceiling_kwh=54.0, charge_max_kw=11.0,
        discharge_max_kw=11.0, eta_charge=0.95, eta_discharge=0.95, depart_ns=0, dod_floor_kwh=0.0,
    )  # fmt: skip
    fleet = allocate(1)
    for name in car.__dataclass_fields__:
        getattr(fleet, name)[0] = getattr(car, name)
    return list(sustained(fleet, car.report_ns, 2.0))


def neso_stack():
    """Capacity use: export = sum of Low + sum of r High, import mirrored; energy within [REV_low, E - REV_high]."""
    dc, dr = dynamic("dc", DC, 0.25), dynamic("dr", DR, 1.0)
    kept = reserve([(dc["low"], 10.0), (dc["high"], 5.0), (dr["low"], 4.0), (dr["high"], 2.0)])
    return [*kept, *soe_range_kwh(kept, 20.0)]


TENNET = "TenneT NL, FCR manual 3.2"
NORDIC = "Nordic TSOs, Technical requirements for FCR, LER"
NESO = "NESO, Response Service Terms"
VECTORS = [
    Vector("LER-1", lambda: soc_window(50e3, 100e3, 15.0), [0.125, 0.875], 1e-12, "D", TENNET),
    Vector("LER-1b", lambda: soc_window(50e3, 100e3, RESERVE_MODE_MIN), [0.041667, 0.958333], 5e-7, "D", TENNET),
    Vector("LER-2", lambda: alerts((-0.06, 899), (-0.04, 1)), [0, 0, 0], 0, "V", TENNET),
    Vector("LER-2b", lambda: alerts((-0.06, 901)), [1, 1, 900], 0, "V", TENNET),
    Vector("LER-2c", lambda: alerts((49.95 - 50.0, 901)), [1, 1, 900], 0, "D", f"{TENNET}: at 49.95 Hz, as reported"),
    Vector("LER-3", lambda: alerts((0.0, 5), (0.201, 1), (0.0, 5)), [1, 0, 0], 0, "V", TENNET),
    Vector("RM-1", lambda: [reacted(1.0), reacted(0.5)], [0.10, 0.25], 1e-12, "M", f"{TENNET}, annex 8.1; weight M"),
    Vector("OF-1", lambda: [overfulfilment(1.0), overfulfilment(-1.0)], [0.30, 0.25], 1e-12, "V2", "German FCR rules"),
    Vector("NEM-1", thresholds, [0.041667, 0.083333, 0.25, 0.479167], 1e-6, "V", NORDIC),
    Vector("NEM-2", nem_2, [-0.4, -0.136], 1e-12, "V", NORDIC),
    Vector("NEM-3", nem_3, [49.99, 0.4], 1e-9, "V", NORDIC),
    Vector("NEM-T10", table_10, [1.34 + 2 + 0.6, 1.34 + 0.4 + 3, 1 + 2 / 3, 1 + 1], 1e-9, "V", f"{NORDIC}, table 10"),
    Vector("END-1", lambda: endurance_min(1.2, 0.2, 2.2, 0.1, 1.0, 1.0), [54.545, 66.667], 5e-4, "V", NORDIC),
    Vector("MC-1", lambda: maintained_nordic(5, -5, 1, 3, 2, 2, 0.5), [3.0, 0.5, 2.0], 1e-12, "V", NORDIC),
    Vector(
        "MC-1b",
        lambda: maintained_kw(
            [(load("nordic_fcr_d_down"), 2.0), (load("nordic_fcr_d_up"), 2.0), (load("nordic_fcr_n"), 3.0)], 3.5, 5.5
        ),
        [2.0, 0.5, 3.0], 1e-12, "D", NORDIC,
    ),
    Vector("SOE-1", lambda: requirement_kwh(50, [2, 0, 0, 0, 0, 0, 0], 0.2), [50, 48, 48, 48, 48, 50, 50, 50], 1e-12,
           "V2", NESO),
    Vector("SOE-2", lambda: available([50, 47.9, 48, 60.1], 100, [50, 48, 48, 48], [40] * 4), [1, 0, 1, 0], 0, "D",
           NESO),
    Vector("REV-1", neso_stack, [10 + 4 + 0.5 + 0.8, 5 + 2 + 1 + 1.6, 2.5 + 4, 1.25 + 2, 6.5, 20 - 3.25], 1e-9, "V2",
           NESO),
    Vector("CAP-1", lambda: [float(offer(11, 11, 18, 18, needs(load("ce_fcr")))),
                             float(offer(11, 11, 18, 18, needs(load("nordic_fcr_n")))),
                             float(offer(11, 11, 18, 18, both("dc", DC, 0.25))),
                             float(offer(11, 11, 18, 18, both("dr", DR, 1.0)))],
           [8.8, 8.209, 10.0, 7.857], 5e-4, "D", "bid sizing from the products' reservations"),
    Vector("CAP-2", one_car, [8.55, 9.474], 5e-4, "D", "endurance of one vehicle"),
    Vector("E-1", lambda: [energy_mwh("dr", DR, 1.0), energy_mwh("dm", DM, 0.5), energy_mwh("dc", DC, 0.25)],
           [0.5, 0.5, 0.025], 1e-9, "V", "NESO, energy of 30 minutes at 49.8 Hz"),
    Vector("ST-1", lambda: [firm(500, 0.6, np.array([7.0]), 0.999, rho, "normal") for rho in (0.0, 0.01)],
           [1863.0, 1520.1], 0.1, "D", "normal quantile of correlated presence"),
]  # fmt: skip


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.id)
def test_vector(vector):
    found = [float(value) for value in vector.found()]
    assert found == pytest.approx(vector.expected, abs=vector.tolerance or 1e-15), f"{vector.mark}: {vector.origin}"
    assert vector.mark in ("V", "V2", "M", "D")


def test_the_dutch_manual_forbids_what_the_german_rules_allow():
    """A product that states no freedom has none: the flag is the product's."""
    plain = load("ce_fcr")
    assert plain.freedoms == Freedoms(1.0, False, False)
    german = replace(plain, freedoms=Freedoms(1.2, True, False))
    for product, expected in ((plain, 0.25), (german, 0.30)):
        table, motion = terms([(product, 1.0)]), at_rest(1)
        args = (motion.modes, table.duties, table.nominal_hz, table.sold_kw, 49.95, T0)
        manage(*args, 900.0, 100.0, 1e9, 1e9)
        assert requested_kw(motion, table, 49.95, 1.0, True, T0, 1.0, 0.0, 0) == pytest.approx(expected)
