"""Days and blocks of which there is little to say: nothing sold in them, or nothing recorded."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import orjson
import pyarrow.parquet as pq
import pytest

from aggregator.backtest import Backtest
from aggregator.backtesting import recorded_gate, run
from aggregator.billing import Asked, Files
from aggregator.contracts import Contract, CoreSettings
from aggregator.results import comparing
from aggregator.wanted import Wanted
from droop.products import load
from telemetry.traces import open_trace
from tests.aggregator.bidding.test_selling import BEGIN_NS, QUARTER, fcr, history, seller, settings
from tests.aggregator.test_backtesting import START, settings_of, written

GAP_S = 23 * 60


def covered_s(times, hold_s, last_s):
    """By hand: seconds in which a row not older than `hold_s` is known, up to the last one metered."""
    return sum(any(second - hold_s < t <= second for t in range(second - hold_s, second + 1) if t in times)
               for second in range(last_s))  # fmt: skip


@pytest.fixture(scope="module")
def gapped(tmp_path_factory):
    """An hour of which 23 minutes are missing, sold as ever."""

    def cut(rows):
        del rows[600 : 600 + GAP_S]

    out = tmp_path_factory.mktemp("gapped")
    path = written(out / "day.csv", 3600, change=cut)
    return run(Wanted([open_trace(path)], settings_of(), recorded_gate(50.0), seed=1), out=out / "run"), out / "run"


def test_a_gap_of_23_minutes_is_not_covered(gapped):
    found, out = gapped
    times = set(range(600)) | set(range(600 + GAP_S, 3600))
    wanted = covered_s(times, 3, 3599)  # the last second is never over
    assert wanted == 3599 - GAP_S + 2
    blocks = pq.read_table(out / "blocks.parquet").to_pylist()
    for rows in (found["days"], blocks):
        assert sum(row["covered_s"] for row in rows) == pytest.approx(wanted, abs=1e-6)
        assert sum(row["settled_s"] for row in rows) == pytest.approx(3599.0)
        assert [row["gap_s"] for row in rows] == [GAP_S]
        for row in rows:
            assert row["coverage_frac"] == pytest.approx(row["covered_s"] / row["settled_s"])
    assert found["gap_s"] == GAP_S


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Three quarters of an hour, the first of which is not sold because the run begins within it."""
    out = tmp_path_factory.mktemp("begun")
    path = written(out / "day.csv", 2400, START + timedelta(seconds=300))
    prices = out / "prices.csv"
    prices.write_text("product,start,end,price,unit\nce_fcr,2026-06-20T00:00Z,2026-06-25T00:00Z,1000,EUR/MW\n")
    found = run(
        Wanted(
            [open_trace(path)],
            settings(fcr()),
            recorded_gate(50.0),
            seed=1,
            seller=seller(),
            prices=Files(Asked(prices), {"ce_fcr": fcr()}),
        ),
        out=out / "run",
    )
    return found, out / "run"


def test_a_block_that_was_not_sold_has_a_row(begun):
    found, out = begun
    rows = pq.read_table(out / "blocks.parquet").to_pylist()
    assert [row["start"] for row in rows] == sorted(row["start"] for row in rows)
    assert [row["unsold_s"] for row in rows] == [900.0, 0.0, 0.0]
    assert [row["intervals"] for row in rows] == [0, 1, 1]
    first, second = rows[:2]
    assert (first["sold_kw"], first["score"], first["score_note"]) == (0.0, None, "nothing sold")
    assert first["coverage_frac"] is first["available_frac"] is None
    assert (first["covered_s"], first["requested_up_kwh"], first["delivered_down_kwh"]) == (0.0, 0.0, 0.0)
    assert (first["amount"], first["currency"]) == (0, second["currency"])
    assert first["throughput_kwh"] > 0.0  # the cars charged all the same
    assert second["sold_kw"] > 0.0
    assert second["amount"] > 0
    assert found["blocks"] == 3


def test_a_day_that_was_sold_in_part_says_how_much(begun):
    found, out = begun
    (day,) = found["days"]
    offers = [row["offer_kw"] for row in found["bids"]["blocks"]]
    assert len(offers) == 2
    # Sold for 1 800 s less the last second; of the first quarter of an hour nothing.
    assert day["sold_kw"] == pytest.approx((offers[0] * 900 + offers[1] * 899) / (900 + 900 + 899), rel=1e-9)
    assert (day["unsold_s"], day["settled_s"], day["intervals"]) == (900.0, 1799.0, 2)
    assert day["score"] is not None
    assert f"{day['sold_kw']:.5g}" in (out / "report.html").read_text(encoding="utf-8")


def test_a_day_on_which_nothing_was_sold(tmp_path):
    path = written(tmp_path / "day.csv", 2000)
    found = run(
        Wanted([open_trace(path)], settings(fcr()), recorded_gate(50.0), seed=1, seller=seller(0.9, history(5))),
        out=tmp_path / "run",
    )
    (day,) = found["days"]
    assert (day["sold_kw"], day["score"], day["score_note"], day["unsold_s"]) == (0.0, None, "nothing sold", 1999.0)
    rows = pq.read_table(tmp_path / "run" / "blocks.parquet").to_pylist()
    assert [row["unsold_s"] for row in rows] == [900.0, 900.0, 199.0]
    assert orjson.loads((tmp_path / "run" / "result.json").read_bytes())["days"] == [day]
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert f"<td>{day['day']}</td><td>ce_fcr</td><td>0</td><td>-</td>" in page
    one = comparing.load(tmp_path / "run")
    assert comparing.compare(one, one)["days"][0]["score_difference"] is None


def test_products_of_two_lengths_are_unsold_each_by_its_own(tmp_path):
    """Nobody sells the second; of the first, blocks of half an hour are settled by the quarter."""
    path = written(tmp_path / "day.csv", 1900)
    short = replace(load("ce_fcr"), market=fcr().market)
    long = replace(load("nordic_fcr_n"), interval_s=1800, market=replace(fcr().market, block_s=1800))
    core = CoreSettings("ce", 12, (Contract(short, 5.0), Contract(long, 5.0)))
    test = Backtest(core, recorded_gate(50.0), BEGIN_NS, 1, perfect=True)
    rows = open_trace(path).read_all()
    test.feed(rows[:900])
    assert list(test.unsold()) == []  # as the contracts say, all along
    test.sell([5.0, 0.0], BEGIN_NS)
    test.sell([0.0, 5.0], BEGIN_NS + QUARTER)
    test.feed(rows[900:])
    found = [(item.product, item.start_ns - BEGIN_NS, item.until_ns - BEGIN_NS) for item in test.unsold()]
    assert found == [
        ("ce_fcr", QUARTER, 2 * QUARTER), ("ce_fcr", 2 * QUARTER, 1899 * 10**9), ("nordic_fcr_n", 0, 2 * QUARTER),
    ]  # fmt: skip
