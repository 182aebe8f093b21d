"""Ageing laws against their vectors, their closed forms and a twin that carries on by virtual time."""

from __future__ import annotations

import csv
import itertools
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droop import ageing
from droop.ageing import Lfp, Nmc, Xu, advance, cycles_to, loss, new, since, throughput_cost, wear_price
from droop.rainflow import BINS, EDGES, Counts, begin, observe, read
from tests import naive_wear as naive

DATA = Path(os.environ.get("FLYBALL_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
OCV = DATA / "battery" / "simses_cells" / "CLFP_Sony_US26650_OCV.csv"

DAY_S = 86_400.0
YEAR_S = 365 * DAY_S
LAWS = [Lfp(), Nmc(), Xu()]
laws = pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__.lower())

socs, temps = st.floats(0.0, 1.0), st.floats(-20.0, 60.0)
depths, rates = st.floats(0.001, 1.0), st.floats(0.0, 3.0)


def flat(volts):
    """The NMC law of a cell whose voltage is always the same."""
    return Nmc(ocv_soc=(0.0, 1.0), ocv_v=(volts, volts))


def cycled(depth, cycles, mean=0.5):
    """Counts of one vehicle: so many full cycles of one depth."""
    at = max(k for k in range(BINS) if EDGES[k] <= depth)
    halves, size, level = np.zeros((1, BINS), np.uint32), np.zeros((1, BINS)), np.zeros((1, BINS))
    halves[0, at], size[0, at], level[0, at] = round(2 * cycles), cycles * depth, cycles * mean
    return Counts(halves, size, level, np.array([cycles * depth**2]))


def after(law, elapsed_s=0.0, soc=0.5, temp_c=25.0, counts=None, c_rate=0.5):
    health = new(1)
    advance(health, law, elapsed_s, soc, temp_c, counts, c_rate)
    return float(loss(health, law)[0])


class TestVectors:
    """Rulebook 12, to the last digit given there."""

    @pytest.mark.parametrize(("soc", "temp_c", "percent"), [(0.5, 25, 4.2516), (0.9, 25, 5.5426), (0.5, 35, 5.3201)])
    def test_ag_1(self, soc, temp_c, percent):
        assert round(100 * after(Lfp(), YEAR_S, soc, temp_c), 4) == percent

    @pytest.mark.parametrize(("depth", "percent"), [(0.1, 2.3958), (0.8, 4.5730)])
    def test_ag_2(self, depth, percent):
        counts = cycled(depth, 1000 / depth)
        assert round(100 * after(Lfp(), counts=counts, c_rate=0.5), 4) == percent

    def test_ag_3_calendar(self):
        assert round(100 * after(flat(3.67), YEAR_S, temp_c=25.0), 3) == 2.264

    @pytest.mark.parametrize(("depth", "percent"), [(0.1, 3.694), (0.8, 12.728)])
    def test_ag_3_cycles(self, depth, percent):
        """1000 Ah through a cell of 2.0 Ah: 250 full equivalent cycles."""
        law = Nmc(ocv_soc=(0.0, 1.0), ocv_v=(3.667, 3.667), cell_ah=2.0)
        assert round(100 * after(law, counts=cycled(depth, 250 / depth)), 3) == percent

    def test_ag_4(self):
        health = new(1)
        advance(health, Xu(), YEAR_S, 0.5, 25.0, cycled(0.8, 1000))
        assert round(float(health.calendar[0] + health.cycle[0]), 6) == 0.042854
        assert round(100 * float(loss(health, Xu())[0]), 3) == 9.671


@laws
@pytest.mark.parametrize("steps", [1, 7, 365])
def test_steps_of_constant_stress_are_the_closed_form(law, steps):
    health = new(3)
    socs_, temps_ = np.array([0.1, 0.5, 0.9]), np.array([5.0, 25.0, 40.0])
    one = cycled(0.3, 0.5 * 4, 0.6)
    counts = Counts(*(np.repeat(column, 3, axis=0) for column in one))
    for _ in range(steps):
        advance(health, law, 2 * YEAR_S / steps, socs_, temps_, counts, 0.7)
    cycles = 2.0 * steps
    for k in range(3):
        calendar = law.calendar(socs_[k], temps_[k]) * 2 * YEAR_S
        expected = law.loss(calendar, law.cycle(0.3, 0.6, temps_[k], 0.7) * cycles)
        assert loss(health, law)[k] == pytest.approx(float(expected), rel=1e-11)


stresses = st.lists(
    st.tuples(socs, temps, st.floats(0.0, 30 * DAY_S), depths, st.integers(0, 40), socs, rates), min_size=1, max_size=6
)


@settings(max_examples=150, deadline=None)
@given(stresses)
def test_lfp_goes_on_like_the_twin(history):
    """Changing stress: virtual time and virtual cycles."""
    health, calendar, cycle = new(1), 0.0, 0.0
    for soc, temp_c, seconds, depth, cycles, mean, rate in history:
        advance(health, Lfp(), seconds, soc, temp_c, cycled(depth, cycles, mean), rate)
        calendar = naive.onwards(calendar, naive.lfp_calendar_k(soc, temp_c), 0.5, seconds)
        cycle = naive.onwards(cycle, naive.lfp_cycle_k(rate, depth), 0.5, cycles * depth)
    assert loss(health, Lfp())[0] == pytest.approx(calendar + cycle, rel=1e-9, abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(stresses)
def test_nmc_goes_on_like_the_twin(history):
    law = Nmc()
    health, calendar, cycle = new(1), 0.0, 0.0
    for soc, temp_c, seconds, depth, cycles, mean, rate in history:
        advance(health, law, seconds, soc, temp_c, cycled(depth, cycles, mean), rate)
        at, between = (float(np.interp(x, law.ocv_soc, law.ocv_v)) for x in (soc, mean))
        calendar = naive.onwards(calendar, naive.nmc_calendar_k(at, temp_c), 0.75, seconds / DAY_S)
        ampere_hours = 2 * law.cell_ah * cycles * depth
        cycle = naive.onwards(cycle, naive.nmc_cycle_k(between, depth), 0.5, ampere_hours)
    assert loss(health, law)[0] == pytest.approx(calendar + cycle, rel=1e-9, abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(stresses)
def test_xu_adds_up_like_the_twin(history):
    health, f = new(1), 0.0
    for soc, temp_c, seconds, depth, cycles, mean, rate in history:
        advance(health, Xu(), seconds, soc, temp_c, cycled(depth, cycles, mean), rate)
        f += naive.xu_stress(depth, soc, temp_c, 0, seconds) + naive.xu_stress(depth, mean, temp_c, cycles, 0)
    assert loss(health, Xu())[0] == pytest.approx(naive.xu_loss(f), rel=1e-9, abs=1e-12)


@laws
@settings(max_examples=60, deadline=None)
@given(history=stresses)
def test_never_heals_and_the_order_does_not_matter(law, history):
    forth, back, before = new(1), new(1), 0.0
    for entry in history:
        soc, temp_c, seconds, depth, cycles, mean, rate = entry
        advance(forth, law, seconds, soc, temp_c, cycled(depth, cycles, mean), rate)
        now = float(loss(forth, law)[0])
        assert now >= before
        before = now
    for soc, temp_c, seconds, depth, cycles, mean, rate in reversed(history):
        advance(back, law, seconds, soc, temp_c, cycled(depth, cycles, mean), rate)
    assert loss(back, law)[0] == pytest.approx(before, rel=1e-11, abs=1e-15)


@laws
def test_order_of_magnitude(law):
    """A year parked half full at 20 degC and 200 cycles of 60 % lose between half a percent and a seventh."""
    assert 0.005 < after(law, YEAR_S, 0.5, 20.0, cycled(0.6, 200)) < 0.15


@laws
def test_warmer_and_fuller_ages_faster(law):
    by_temp = [after(law, YEAR_S, 0.5, t) for t in (0.0, 10.0, 25.0, 40.0)]
    by_soc = [after(law, YEAR_S, s, 25.0) for s in (0.1, 0.5, 0.7, 1.0)]
    by_depth = [after(law, counts=cycled(d, 100)) for d in (0.01, 0.1, 0.5, 1.0)]
    for losses in (by_temp, by_soc, by_depth):
        assert np.all(np.diff(losses) > 0)


def test_faster_cycles_wear_lfp_more():
    assert after(Lfp(), counts=cycled(0.5, 100), c_rate=2.0) > 1.3 * after(Lfp(), counts=cycled(0.5, 100), c_rate=0.5)


def test_rest_changes_nothing_and_zero_cycles_neither():
    for law in LAWS:
        assert after(law) == after(law, counts=cycled(0.5, 0)) == 0.0


def test_below_the_fit_nmc_does_not_heal():
    assert after(flat(3.1), YEAR_S) == 0.0
    assert after(flat(3.15), YEAR_S) > 0.0


def test_xu_keeps_small_losses():
    """1e-14 of stress: written as 1 - exp it would drown in rounding."""
    assert Xu().loss(1e-14, 0.0) == pytest.approx(1e-14 * (0.0575 * 121 + 1 - 0.0575), rel=1e-9, abs=0)
    assert Xu().cycle(0.0, 0.5, 25.0, 0.5) == 0.0


def test_each_bin_at_its_own_depth():
    """From a counted history: every bin's cycles at their own mean depth, not at an edge."""
    history = [0.5, 0.8, 0.5, 0.8, 0.5, 0.53, 0.5, 0.53, 0.5]
    cycles = begin(history[:1])
    for soc in history:
        observe(cycles, [soc])
    wide, narrow = naive.lfp_cycle_k(0.5, 0.3) ** 2 * 2 * 0.3, naive.lfp_cycle_k(0.5, 0.03) ** 2 * 2 * 0.03
    assert after(Lfp(), counts=read(cycles)) == pytest.approx(math.sqrt(wide + narrow), rel=1e-9)


def test_one_way_is_half_a_cycle():
    cycles = begin([0.2])
    observe(cycles, [0.8])
    half = naive.lfp_cycle_k(0.5, 0.6) * math.sqrt(0.6 / 2)
    assert after(Lfp(), counts=read(cycles)) == pytest.approx(half, rel=1e-9)
    # From 20 to 80 %: the voltage is that of its middle, 3.70 V.
    assert after(Nmc(), counts=read(cycles)) == pytest.approx(
        naive.nmc_cycle_k(3.70, 0.6) * math.sqrt(2 * 2.05 * 0.3), rel=1e-9
    )


def test_closed_in_between():
    """Two stretches counted apart come to the same as both at once."""
    rng = np.random.default_rng(5)
    cycles = begin([0.5, 0.5])
    snapshots = [Counts(*(c.copy() for c in cycles.closed))]
    for _ in range(2):
        for _ in range(300):
            observe(cycles, rng.random(2))
        snapshots.append(Counts(*(c.copy() for c in cycles.closed)))
    apart, once = new(2), new(2)
    for before, now in itertools.pairwise(snapshots):
        advance(apart, Nmc(), 0.0, 0.5, 25.0, since(now, before))
    advance(once, Nmc(), 0.0, 0.5, 25.0, snapshots[-1])
    # Each stretch reads the law at its own bins' means: nearly, not exactly, the same.
    np.testing.assert_allclose(loss(apart, Nmc()), loss(once, Nmc()), rtol=1e-3)


class TestPrice:
    def test_throughput_cost(self):
        """6000 for 60 kWh, 3000 cycles of 80 %: 288 MWh moved."""
        assert throughput_cost(6000.0, 60.0, 3000, 0.8) == pytest.approx(6000 / 288_000, rel=1e-15)

    @laws
    @pytest.mark.parametrize("depth", [0.02, 0.5, 1.0])
    def test_paid_over_its_life_is_the_battery(self, law, depth):
        cycles = cycles_to(law, depth, 0.15, 0.6, 30.0, 0.4)
        reached = float(law.loss(0.0, cycles * law.cycle(depth, 0.6, 30.0, 0.4)))
        assert reached == pytest.approx(0.15, rel=1e-9)
        price = wear_price(law, 5000.0, 50.0, depth, 0.15, 0.6, 30.0, 0.4)
        assert price * 2 * 50.0 * depth * cycles == pytest.approx(5000.0, rel=1e-12)

    def test_deep_cycles_cost_more(self):
        for law in (Lfp(), Nmc()):
            prices = [wear_price(law, 6000.0, 60.0, depth) for depth in (0.05, 0.2, 0.5, 0.9)]
            assert np.all(np.diff(prices) > 0)
        assert wear_price(Nmc(), 6000.0, 60.0, 0.8) > wear_price(Lfp(), 6000.0, 60.0, 0.8)

    @pytest.mark.parametrize(
        ("call", "name"),
        [
            (lambda: throughput_cost(-1.0, 60.0, 3000), "battery_cost"),
            (lambda: throughput_cost(math.nan, 60.0, 3000), "battery_cost"),
            (lambda: throughput_cost(6000.0, 0.0, 3000), "nominal_kwh"),
            (lambda: throughput_cost(6000.0, 60.0, math.inf), "cycles"),
            (lambda: throughput_cost(6000.0, 60.0, 3000, 0.0), "depth"),
            (lambda: cycles_to(Lfp(), 0.0), "depth"),
            (lambda: cycles_to(Lfp(), 1.1), "depth"),
            (lambda: cycles_to(Lfp(), 0.5, end=1.0), "end"),
            (lambda: cycles_to(Lfp(), 0.5, mean=-0.1), "mean"),
            (lambda: cycles_to(Lfp(), 0.5, temp_c=math.nan), "temp_c"),
            (lambda: wear_price(Lfp(), 6000.0, 60.0, 0.5, c_rate=-1.0), "c_rate"),
        ],
    )
    def test_bad_argument_is_named(self, call, name):
        with pytest.raises(ValueError, match=f"^{name}:"):
            call()


class TestDoor:
    good = {"elapsed_s": 60.0, "soc": [0.5, 0.6], "temp_c": 25.0, "c_rate": 0.5}  # noqa: RUF012 - read only

    @pytest.mark.parametrize(
        ("changes", "name"),
        [
            ({"elapsed_s": -1.0}, "elapsed_s"),
            ({"elapsed_s": math.nan}, "elapsed_s"),
            ({"elapsed_s": math.inf}, "elapsed_s"),
            ({"soc": [0.5, math.nan]}, "soc"),
            ({"soc": [0.5, 1.01]}, "soc"),
            ({"soc": -0.1}, "soc"),
            ({"soc": [0.5, 0.5, 0.5]}, "soc"),
            ({"temp_c": math.nan}, "temp_c"),
            ({"temp_c": 298.15}, "temp_c"),
            ({"c_rate": -0.1}, "c_rate"),
            ({"c_rate": [0.1, math.inf]}, "c_rate"),
            ({"counts": cycled(0.5, 3)}, "counts"),
        ],
        ids=str,
    )
    def test_bad_argument_is_named_and_changes_nothing(self, changes, name):
        health = new(2)
        with pytest.raises(ValueError, match=f"^{name}:"):
            advance(health, Lfp(), **{**self.good, **changes})
        assert not health.calendar.any()
        assert not health.cycle.any()

    def test_readings_swapped_are_refused(self):
        less, more = cycled(0.5, 3), cycled(0.5, 5)
        with pytest.raises(ValueError, match=r"^counts:"):
            advance(new(1), Lfp(), 0.0, 0.5, 25.0, since(less, more))

    @pytest.mark.parametrize(
        ("changes", "name"),
        [
            ({"ocv_soc": (0.0, 0.0)}, "ocv_soc"),
            ({"ocv_soc": (0.5,), "ocv_v": (3.6,)}, "ocv_soc"),
            ({"ocv_v": (3.0, 4.0)}, "ocv_v"),
            ({"ocv_soc": (0.0, 1.0), "ocv_v": (4.0, 3.0)}, "ocv_v"),
            ({"ocv_soc": (0.0, 1.0), "ocv_v": (3.0, math.nan)}, "ocv_v"),
            ({"cell_ah": 0.0}, "cell_ah"),
        ],
    )
    def test_a_curve_that_is_none(self, changes, name):
        with pytest.raises(ValueError, match=f"^{name}:"):
            Nmc(**changes)


@pytest.mark.skipif(not OCV.is_file(), reason=f"no measured cell in {OCV}")
def test_a_measured_voltage_curve_fits_in():
    """Any published table of a cell can be the law's voltage."""
    with OCV.open(encoding="utf-8") as file:
        rows = [(float(r["SOC"]), float(r["OCV"])) for r in csv.DictReader(file)]
    law = Nmc(ocv_soc=tuple(r[0] for r in rows), ocv_v=tuple(r[1] for r in rows))
    for soc, volts in rows[:: len(rows) // 10]:
        assert float(law.volts(soc)) == volts


def test_the_default_voltage_crosses_the_laws_optimum_half_full():
    """3.667 V, where cycling wears least, lies near 40 to 45 % of the default cell."""
    soc = np.linspace(0, 1, 1001)
    assert 0.4 <= soc[np.argmin(ageing.Nmc().cycle(0.1, soc, 25.0, 0.5))] <= 0.45
