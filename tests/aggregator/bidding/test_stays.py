"""Availability from stays: against a car followed one slice at a time, and real sessions where they are."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.bidding import recorded, stays
from aggregator.bidding.forecast import by_block
from aggregator.bidding.products import BidError, TooLittle, bundle
from aggregator.bidding.rule import Rule
from aggregator.bidding.stays import Car
from aggregator.bidding.walking import walk
from droop.products import load
from tests import naive_bids as twin
from tests.aggregator.bidding.histories import NS, ce

DATA = Path(os.environ.get("FLYBALL_DATA") or Path(__file__).resolve().parents[3].parent / "shared" / "data")
T0 = 1_790_000_100 * NS
T0 -= T0 % (900 * NS)
H = 3600 * NS
STAY = np.dtype([("arrive_ns", "<i8"), ("leave_ns", "<i8"), ("told_leave_ns", "<i8"), ("energy_kwh", "<f8")])


def table(rows):
    found = np.zeros(len(rows), STAY)
    for k, row in enumerate(rows):
        found[k] = row
    return found


def one_by_one(rows, start_ns, sold, car):
    """What every stay could sell in the slice that begins at start_ns, from the text of `Car` and rulebook 9.1."""
    end_ns, each = start_ns + sold.slice_s * NS, []
    for arrive, leave, told, kwh in rows.tolist():
        if leave == 0 or arrive > start_ns or leave < end_ns:
            continue
        charged = kwh * car.efficiency_frac
        size = max(car.capacity_kwh, charged / (car.left_frac - 0.05))
        end = car.left_frac * size
        aboard = end - charged + charged * (start_ns - arrive) / (leave - arrive)
        floor = car.floor_frac * size
        if told > start_ns:
            later_h = max((told - start_ns) / H - 0.25, 0.0)
            floor = max(floor, end - later_h * car.power_kw * car.efficiency_frac)
        up = max(aboard - floor, 0.0) * car.efficiency_frac
        down = max(car.ceiling_frac * size - aboard, 0.0) / car.efficiency_frac
        each.append(twin.one_vehicle(car.power_kw, car.power_kw, up, down, (1.25, 1.25, 0.25, 0.25)))
    return sorted(kw for kw in each if kw > 0)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 40_000), st.integers(60, 50_000), st.integers(-5_000, 60_000),
                          st.floats(0, 70)), min_size=1, max_size=12))  # fmt: skip
def test_is_the_twin(drawn):
    rows = table([
        (T0 + a * NS, T0 + (a + b) * NS, 0 if c < 0 else T0 + c * NS, kwh) for a, b, c, kwh in drawn
    ])  # fmt: skip
    sold, car = ce(), Car()
    found, unknown = stays.slices(rows, sold, car)
    assert unknown == 0
    assert (np.diff(found["start_ns"]) == 900 * NS).all()
    for row in found:
        each = one_by_one(rows, int(row["start_ns"]), sold, car)
        assert row["present"] == len(each)
        assert row["kw"] == pytest.approx(sum(each), rel=1e-9)
        if each:
            assert row["profile_kw"].mean() == pytest.approx(np.mean(each))
    # Chargers: as many as were ever taken at once up to then.
    together = [
        max(sum(a <= t < a + b for a, b, _, _ in drawn) for t in range(int((row["end_ns"] - T0) // NS) + 1))
        for row in found[:: max(found.size // 3, 1)]
    ] if max(a + b for a, b, _, _ in drawn) < 5000 else []  # fmt: skip
    assert together == found["chargers"][:: max(found.size // 3, 1)].tolist()[: len(together)]
    assert (np.diff(found["chargers"]) >= 0).all()


def test_a_stay_without_a_departure_is_left_out_and_counted():
    rows = table([(T0, T0 + 4 * H, 0, 10.0), (T0, 0, 0, 10.0)])
    found, unknown = stays.slices(rows, ce(), Car())
    assert unknown == 1
    assert found["present"].max() == found["chargers"].max() == 1
    assert stays.slices(rows[1:], ce(), Car())[0].size == 0


def test_cars_that_only_charge_sell_nothing_both_ways_and_something_down():
    rows = table([(T0, T0 + 9 * H, 0, 20.0)])
    one_way = Car(both_ways=False)
    assert stays.slices(rows, ce(), one_way)[0]["kw"].max() == 0.0
    down = bundle([load("nordic_fcr_d_down")])
    found, _ = stays.slices(rows, down, one_way)
    room_kwh = (0.9 * 60 - (0.8 * 60 - 19.0)) / 0.95
    assert found["kw"][0] == pytest.approx(min(11.0, room_kwh / 2.0))


def test_chargers_that_are_too_few_and_stays_that_cannot_be_are_refused():
    rows = table([(T0, T0 + 4 * H, 0, 10.0), (T0, T0 + 4 * H, 0, 10.0)])
    assert stays.slices(rows, ce(), Car(), 5)[0]["chargers"].tolist() == [5] * 16
    with pytest.raises(BidError, match="--chargers 1: 2 cars"):
        stays.slices(rows, ce(), Car(), 1)
    with pytest.raises(BidError, match="energy_kwh"):
        stays.slices(table([(T0, T0 + H, 0, -1.0)]), ce(), Car())
    with pytest.raises(BidError, match="leave_ns"):
        stays.slices(table([(T0, T0 - H, 0, 1.0)]), ce(), Car())
    for wrong in ({"power_kw": 0.0}, {"capacity_kwh": float("nan")}, {"floor_frac": 0.9}, {"efficiency_frac": 0.0}):
        with pytest.raises(BidError, match="--car"):
            Car(**wrong)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no recorded data in {DATA}")
class TestReal:
    """Nobody drew these drivers from a distribution."""

    @staticmethod
    def blocks(folder):
        (path,) = sorted(p for p in (DATA / "ev_sessions" / folder).iterdir() if p.suffix in (".gz", ".json"))
        found = recorded.history([path], ce(), skip_bad=True)
        assert "60 kWh" in found.assumed[0]
        return by_block(found.slices, ce())[0]

    def test_the_rule_keeps_its_word_for_a_year_of_norwegian_sites(self):
        """2019, 11 sites in the making: from one charger in use to dozens."""
        blocks = self.blocks("norway_12_sites")
        year = [date(year, 1, 1).toordinal() for year in (2019, 2020)]
        blocks = blocks[(blocks["day"] >= year[0]) & (blocks["day"] < year[1])]
        for confidence, offered in ((0.9, 0.6), (0.99, 0.4)):
            walked = walk(Rule(confidence), ce(), blocks)
            assert walked.verdict.blocks > 1800
            assert walked.verdict.passed
            assert sum(bid.offer.kw for bid in walked.bids) > offered * sum(walked.available_kw)

    def test_a_small_garage_has_nothing_firm_to_sell_and_says_so(self):
        """Seven cars a day in California, in a year of staying at home."""
        blocks = self.blocks("acn")
        assert blocks.size > 700
        with pytest.raises(TooLittle, match="nothing would have been offered in it"):
            walk(Rule(0.9), ce(), blocks)
