"""A backtest that sells by the rule: what is sold of each block is what is asked, settled and told."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import orjson
import pytest

from aggregator import backtesting
from aggregator.backtest import Backtest
from aggregator.backtesting import recorded_gate, run
from aggregator.bidding import available, recorded
from aggregator.bidding.available import FILE, SLICE
from aggregator.bidding.forecast import by_block
from aggregator.bidding.products import bundle
from aggregator.bidding.rule import Rule, bids
from aggregator.bidding.selling import Seller
from aggregator.contracts import Contract, CoreSettings
from aggregator.results import comparing
from aggregator.signal_file import Recorded
from aggregator.wanted import Wanted
from droop.products import load
from settlement import calendar
from telemetry.traces import open_trace
from tests.aggregator.bidding.histories import NS, product
from tests.aggregator.test_backtesting import START, StopAfter, settings_of, written

QUARTER = 900 * NS
BEGIN_NS = int(START.timestamp()) * NS  # 02:00 in Brussels


def fcr():
    """FCR in blocks of a quarter of an hour, in steps of 1 kW."""
    return product(block_s=900, step_kw=1.0, min_kw=1.0)


def history(days=20, seed=3, until_ns=BEGIN_NS):
    rng = np.random.default_rng(seed)
    rows = np.zeros(96 * days, SLICE)
    rows["start_ns"] = until_ns - np.arange(rows.size, 0, -1) * QUARTER
    rows["end_ns"] = rows["start_ns"] + QUARTER
    rows["chargers"], rows["present"] = 12, rng.binomial(12, 0.75, rows.size)
    rows["kw"] = rows["power_kw"] = rows["present"] * 6.0
    rows["profile_kw"] = 6.0
    rows["up_kwh"] = rows["down_kwh"] = rows["present"] * 20.0
    return rows


def settings(*products):
    return CoreSettings("ce", 12, tuple(Contract(found, 0.0) for found in products), signal_max_kw=1e9)


def seller(confidence=0.9, before=None, *products):
    return Seller(Rule(confidence), bundle(products or [fcr()]), history() if before is None else before)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """An hour and a half; the result and its folder."""
    out = tmp_path_factory.mktemp("sold")
    path = written(out / "day.csv", 5400)
    found = run(
        Wanted([open_trace(path)], settings(fcr()), recorded_gate(50.0), seed=1, seller=seller()), out=out / "run"
    )
    return found, out / "run", path


def test_each_block_is_settled_with_what_was_sold_in_it(ran):
    found, out, _ = ran
    blocks, statements = found["bids"]["blocks"], orjson.loads((out / "statements.json").read_bytes())
    assert len(blocks) == len(statements) == 6
    assert len({row["offer_kw"] for row in blocks}) > 2
    for row, statement in zip(blocks, statements, strict=True):
        assert statement["start_ns"] == row["start_ns"]
        assert statement["sold_kw"] == row["offer_kw"] > 0.0
        assert statement["score"] > 0.95
    assert found["products"] == [{"id": "ce_fcr", "sold_kw": pytest.approx(np.mean([r["offer_kw"] for r in blocks]))}]


def test_what_is_sold_is_what_the_rule_says_of_what_was_known(ran):
    found, *_ = ran
    expected, _ = bids(Rule(0.9), bundle([fcr()]), by_block(history(), bundle([fcr()]))[0],
                       calendar.day_of(BEGIN_NS, fcr().market))  # fmt: skip
    by_start = {bid.block.start_ns: bid.offer.kw for bid in expected}
    assert [row["offer_kw"] for row in found["bids"]["blocks"]] == [
        by_start[row["start_ns"]] for row in found["bids"]["blocks"]
    ]


def test_what_was_available_is_told_and_kept(ran):
    found, out, _ = ran
    blocks = found["bids"]["blocks"]
    # The fleet has been living for some seconds when the first slice begins; the last one has no end.
    assert [row["available_kw"] is None for row in blocks] == [False, False, False, False, False, True]
    kept = available.read(out / FILE, bundle([fcr()]))
    assert kept["kw"].tolist() == [row["available_kw"] for row in blocks[:5]]
    assert found["bids"]["verdict"]["blocks"] == 5
    assert found["bids"]["verdict"]["exceeded"] == sum(row["available_kw"] < row["firm_kw"] for row in blocks[:5])


@pytest.mark.parametrize("looks", [2, 4])
def test_a_stopped_run_goes_on_to_the_same_bytes(ran, tmp_path, monkeypatch, looks):
    _, whole, path = ran
    monkeypatch.setattr(backtesting, "CHUNK", 700)
    more = {"out": tmp_path / "parts"}
    asked = [open_trace(path)], settings(fcr()), recorded_gate(50.0)
    assert run(Wanted(*asked, seller=seller()), progress=StopAfter(looks), **more) is None
    assert run(Wanted(*asked, seller=seller()), resume=True, **more) is not None
    for name in ("result.json", "statements.json", FILE):
        assert (tmp_path / "parts" / name).read_bytes() == (whole / name).read_bytes(), name
    with pytest.raises(backtesting.BacktestError, match="no checkpoint"):
        run(Wanted(*asked, seller=seller(0.8)), resume=True, **more)


def test_runs_by_another_rule_are_told_apart(ran, tmp_path):
    _, out, path = ran
    asked = [open_trace(path)], settings(fcr()), recorded_gate(50.0)
    run(Wanted(*asked, seed=1, seller=seller(0.8)), out=tmp_path)
    found = comparing.compare(comparing.load(out), comparing.load(tmp_path))
    assert found["asked"] == [{"name": "bids.confidence", "a": 0.9, "b": 0.8}]


def test_another_question_is_not_gone_on_with(ran, tmp_path):
    _, _, path = ran
    asked = [open_trace(path)], settings(fcr()), recorded_gate(50.0)
    assert run(Wanted(*asked, seed=1, seller=seller()), out=tmp_path, progress=StopAfter(1)) is None
    for other in (seller(0.8), seller(0.9, history(seed=4)), None):
        with pytest.raises(backtesting.BacktestError, match="something else"):
            run(Wanted(*asked, seed=1, seller=other), out=tmp_path, resume=True)


def test_before_enough_is_known_nothing_is_sold_and_nothing_settled(tmp_path):
    path = written(tmp_path / "day.csv", 2000)
    found = run(
        Wanted([open_trace(path)], settings(fcr()), recorded_gate(50.0), seed=1, seller=seller(0.9, history(5)))
    )
    assert found["bids"]["unsold_blocks"] == 3
    assert found["bids"]["blocks"] == []
    assert found["requested_up_kwh"] == found["requested_down_kwh"] == 0.0
    assert found["score"] is None


def test_a_block_that_the_run_begins_in_is_not_sold(tmp_path):
    begin = START + timedelta(seconds=300)
    path = written(tmp_path / "day.csv", 1800, begin)
    found = run(Wanted([open_trace(path)], settings(fcr()), recorded_gate(50.0), seed=1, seller=seller()))
    assert found["bids"]["unsold_blocks"] == 1
    assert [row["start_ns"] - BEGIN_NS for row in found["bids"]["blocks"]] == [QUARTER, 2 * QUARTER]


def test_what_lies_in_the_run_is_not_known_to_it(tmp_path):
    """A history that goes on through the run, and says something else there, changes nothing."""
    path = written(tmp_path / "day.csv", 2800)
    later = history(1, until_ns=BEGIN_NS + 96 * QUARTER)
    later["kw"] = later["power_kw"] = 1000.0
    asked = [open_trace(path)], settings(fcr()), recorded_gate(50.0)
    one = run(Wanted(*asked, seed=1, seller=seller()))
    other = run(Wanted(*asked, seed=1, seller=seller(0.9, np.concatenate([history(), later]))))
    assert one == other


def test_a_gap_across_edges_sells_each_block_and_invents_no_availability(tmp_path):
    """Half an hour without a row: what was sold stands, the fleet lives on and is looked at."""

    def cut(rows):
        del rows[1500:3300]

    path = written(tmp_path / "day.csv", 4500, change=cut)
    found = run(Wanted([open_trace(path)], settings(fcr()), recorded_gate(50.0), seed=1, seller=seller()))
    assert found["gap_s"] == 1800.0
    assert [(row["start_ns"] - BEGIN_NS) // QUARTER for row in found["bids"]["blocks"]] == [0, 1, 2, 3, 4]


def test_a_signals_set_points_are_of_what_is_sold_then(tmp_path):
    """A signal alone drives the run; each set-point is its share of what is sold when it is said."""
    up = replace(load("afrr_up"), market=product("afrr_up", step_kw=1.0, min_kw=1.0).market)
    recorded_signal = Recorded(BEGIN_NS + np.arange(900) * 4 * NS, np.full(900, 0.5))
    test = Backtest(settings(up), recorded_gate(50.0), BEGIN_NS, 1, signal=recorded_signal,
                    seller=Seller(Rule(0.9), bundle([up]), history()))  # fmt: skip
    test.follow(900)
    sold = [kw for _, (kw,) in test.sales]
    assert len(sold) == 4
    assert len(set(sold)) > 1
    assert test.points["power_kw"].reshape(4, 225)[:, 1:] == pytest.approx(0.5 * np.repeat(sold, 224).reshape(4, 224))
    assert [item.sold_kw for item in test.statements()] == sold
    assert test.core.sums.clipped == 0


def test_products_that_are_sold_together_keep_their_proportion(tmp_path):
    up, down = (product(name, block_s=1800, step_kw=1.0, min_kw=0.0) for name in ("gb_dc_low", "gb_dc_high"))
    both = bundle([up, down], [1.0, 0.5])
    path = written(tmp_path / "day.csv", 3700)
    rows = history()
    rows["end_ns"] = rows["start_ns"] + 1800 * NS
    seller = Seller(Rule(0.9), both, rows[1::2])
    found = run(Wanted([open_trace(path)], settings(up, down), recorded_gate(50.0), seller=seller))
    low, high = (item["sold_kw"] for item in found["products"])
    assert low == pytest.approx(2.0 * high)
    assert low > 0.0


def test_every_backtest_keeps_what_its_fleet_had_to_sell(tmp_path):
    out = tmp_path / "run"
    path = written(tmp_path / "day.csv", 3700)
    run(Wanted([open_trace(path)], settings_of(), recorded_gate(50.0), seed=1), out=out)
    rows = recorded.history([out], bundle([load("ce_fcr")])).slices
    assert ((rows["start_ns"] - BEGIN_NS) // QUARTER).tolist() == [0, 1, 2, 3]
    assert (rows["kw"] > 0.0).all()
    assert (rows["present"] <= 12).all()


def test_a_perfect_fleet_that_never_leaves_is_available_to_the_last_kw(tmp_path):
    """All twelve are there, and each can sell the least of its power and energy over the product's factors."""
    test = Backtest(settings_of(), recorded_gate(50.0), BEGIN_NS, 1, perfect=True)
    test.feed(open_trace(written(tmp_path / "day.csv", 1900)).read_all())
    fleet, (row,) = test.core.engine.fleet, test.watcher.rows
    assert row["present"] <= row["chargers"] == 12
    assert row["power_kw"] <= np.minimum(fleet.charge_max_kw, fleet.discharge_max_kw).sum() / 1.25 + 1e-3
    assert 0.0 < row["kw"] <= row["power_kw"]
