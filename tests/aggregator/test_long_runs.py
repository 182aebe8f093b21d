"""A run of any length: settled as it goes, its rows let go, and the result that of a run held whole."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator import backtest as shell
from aggregator import backtest_series, backtesting, kept
from aggregator.backtest import Backtest
from aggregator.backtesting import recorded_gate, run
from aggregator.contracts import Contract, CoreSettings
from aggregator.core import Aggregator
from aggregator.kept import Kept, Steps
from aggregator.records import DECLARATION, MODE
from aggregator.signal_file import Recorded
from aggregator.wanted import Wanted
from droop.products import load
from settlement import soe
from settlement.facts import Modes
from settlement.interval import Sold
from telemetry.samples import FREQUENCY, POWER
from telemetry.traces import open_trace

START = datetime(2026, 6, 22, tzinfo=UTC)
S = 10**9
FILES = ("result.json", "statements.json")


def written(path, seconds, begin=START, seed=1):
    rng = np.random.default_rng(seed)
    hz = 50 + 0.06 * np.convolve(rng.normal(0, 1, seconds + 99), np.ones(100) / 10, "valid")
    rows = [f"{begin + timedelta(seconds=k):%Y-%m-%d %H:%M:%S},{hz[k]:.3f}" for k in range(seconds)]
    path.write_text("\n".join(["dtm,f", *rows[:4000], *rows[4060:]]) + "\n", encoding="utf-8")
    return path


def sold(*names, kw=12.0, **more):
    return CoreSettings("ce", 10, tuple(Contract(load(name), kw) for name in names), **more)


@pytest.fixture
def short(monkeypatch):
    """What counts as long is an hour and a half."""
    monkeypatch.setattr(shell, "HELD_ROWS", 1500)
    monkeypatch.setattr(kept, "PIECE", 2048)
    monkeypatch.setattr(backtest_series, "PIECE", 2048)
    monkeypatch.setattr(backtesting, "CHUNK", 400)


@pytest.mark.parametrize("products", [("ce_fcr",), ("nordic_fcr_n", "nordic_fcr_d_up"), ("gb_dc_low", "lfsm_o")])
def test_settled_as_it_goes_it_is_the_same(tmp_path, monkeypatch, request, products):
    """Dead bands, energy rules that are recorded second by second, baselines that ramp."""
    path, settings = written(tmp_path / "day.csv", 9000), sold(*products)
    whole = run(
        Wanted([open_trace(path)], settings, recorded_gate(50.0), seed=1, any_date=True), out=tmp_path / "whole"
    )
    request.getfixturevalue("short")
    held = []
    settle_along = Backtest.settle_along

    def watched(test):
        settle_along(test)
        held.append((len(test.samples_kept), len(test.meters_kept), test.samples_kept.gone + test.samples_kept.filed))

    monkeypatch.setattr(Backtest, "settle_along", watched)
    filed = run(
        Wanted([open_trace(path)], settings, recorded_gate(50.0), seed=1, any_date=True), out=tmp_path / "filed"
    )
    nowhere = run(Wanted([open_trace(path)], settings, recorded_gate(50.0), seed=1, any_date=True))
    assert whole == filed == nowhere
    # An interval, its reach, and what comes between two looks.
    assert max(samples for samples, _, _ in held) < 1500 + 2 * 1800
    far_s = soe.reach_ns([Sold(item.product, item.sold_kw) for item in settings.contracts]) // S
    assert max(meters for _, meters, _ in held) < 1500 + 2 * 1800 + far_s
    assert held[-1][2] > 5000
    for name in FILES:
        assert (tmp_path / "filed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for name in ("frequency", "meter"):
        one, other = (pq.read_table(tmp_path / folder / f"{name}.parquet") for folder in ("whole", "filed"))
        assert one.schema == other.schema
        for column in one.column_names:
            np.testing.assert_array_equal(one[column].to_numpy(), other[column].to_numpy())
        assert pq.ParquetFile(tmp_path / "filed" / f"{name}.parquet").num_row_groups == 5
    assert sorted(path.name for path in (tmp_path / "filed").iterdir()) == sorted(
        path.name for path in (tmp_path / "whole").iterdir()
    )


def test_stopped_and_moved_it_goes_on_to_the_same(tmp_path, short):
    path, settings, looks = written(tmp_path / "day.csv", 9000), sold("ce_fcr"), iter(range(100))
    whole = run(Wanted([open_trace(path)], settings, recorded_gate(50.0), seed=1), out=tmp_path / "whole")
    wanted = Wanted([open_trace(path)], settings, recorded_gate(50.0), seed=1)

    def progress(*_):
        return next(looks) % 9 != 8

    assert run(wanted, tmp_path / "a", progress=progress) is None
    (tmp_path / "a").rename(tmp_path / "b")
    # A run that was killed has written on after its checkpoint.
    with (tmp_path / "b" / shell.SAMPLES_FILE).open("ab") as file:
        file.write(b"x" * 999)
    found = None
    for _ in range(9):
        found = found or run(wanted, tmp_path / "b", resume=True, progress=progress)
    assert found == whole
    for name in (*FILES, "frequency.parquet", "meter.parquet"):
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_signal_alone_is_let_go_as_well(tmp_path, monkeypatch, request):
    product = load("afrr_up")
    times_ns = int(START.timestamp()) * S + 4 * S * np.arange(2000)
    share = np.clip(np.random.default_rng(2).normal(0.4, 0.3, times_ns.size), 0, 1)
    settings = replace(sold("afrr_up"), signal_max_kw=12.0, contracts=(Contract(product, 12.0),))
    wanted = Wanted([], settings, recorded_gate(50.0), signal=Recorded(times_ns, share), any_date=True)
    whole = run(wanted, tmp_path / "whole")
    request.getfixturevalue("short")
    filed = run(wanted, tmp_path / "filed")
    assert filed == whole
    assert orjson.loads((tmp_path / "filed" / "statements.json").read_bytes()) == orjson.loads(
        (tmp_path / "whole" / "statements.json").read_bytes()
    )


def test_what_is_drawn_in_pieces_is_what_is_drawn_whole(tmp_path, short, monkeypatch):
    """Products whose curve does not tell what they ask: second by second, with what came before each piece."""
    path = written(tmp_path / "day.csv", 6000)
    for name in ("nem_r6", "ce_fcr"):
        settings = sold(name)
        test = Backtest(settings, recorded_gate(50.0), int(START.timestamp()) * S, 1, folder=tmp_path)
        for block in open_trace(path):
            test.feed(block)
        monkeypatch.setattr(kept, "PIECE", 1 << 20)
        whole = backtest_series.of(test)
        monkeypatch.setattr(kept, "PIECE", 2048)
        test.settle_along()
        assert test.samples_kept.filed > 2048
        for (t_ns, value), (all_ns, every) in zip(backtest_series.of(test), whole, strict=True):
            # Thinned: each of its points is one of the whole's.
            place = np.searchsorted(all_ns, t_ns)
            assert t_ns.size > 1000
            np.testing.assert_array_equal(all_ns[place], t_ns)
            np.testing.assert_array_equal(every[place], value)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(1, 50), max_size=20), max_size=8), st.integers(1, 9), st.data())
def test_rows_come_back_in_their_order_wherever_they_lie(tmp_path_factory, parts, piece, data):
    folder = tmp_path_factory.mktemp("kept")
    filed, nowhere, came, now = Kept(POWER, folder / "rows"), Kept(POWER), [], 0
    before, kept.PIECE = kept.PIECE, piece
    try:
        for part in parts:
            rows = np.zeros(len(part), POWER)
            rows["t_ns"] = now + np.cumsum(part) if part else []
            rows["power_kw"] = np.arange(len(came), len(came) + rows.size)
            now = int(rows["t_ns"][-1]) if part else now
            came += rows.tolist()
            edge = data.draw(st.integers(0, now + 1))
            for one in (filed, nowhere):
                one.add(rows)
                one.let_go(edge)
            found = list(filed.pieces())
            assert [row for block in found for row in block.tolist()] == came
            assert [block.size for block in found[:-1]] == [piece] * (len(found) - 1)
            assert nowhere.gone + len(nowhere) == filed.filed + len(filed) == len(came)
            assert nowhere.held.tolist() == filed.held.tolist() == came[nowhere.gone :]
    finally:
        kept.PIECE = before


def declared(start, end):
    row = np.zeros(1, DECLARATION)
    row["start_ns"], row["end_ns"] = start, end
    return row


def moded(product, *from_ns):
    rows = np.zeros(len(from_ns), MODE)
    rows["from_ns"], rows["product"] = from_ns, product
    return rows


def test_the_core_forgets_what_had_ended_but_for_the_first_baseline_and_the_last_modes():
    core = Aggregator(sold("ce_fcr"), journal=False)
    core._declared_rows = [declared(k, k + 10) for k in range(0, 60, 10)]
    core._mode_rows = [np.concatenate([moded(0, k), moded(1, k)]) for k in (3, 17, 28, 31, 44)]
    core.forget(30)
    assert core.declared_rows()["start_ns"].tolist() == [0, 30, 40, 50]
    assert core.mode_rows()["from_ns"].tolist() == [28, 28, 31, 31, 44, 44]
    core.forget(99)
    assert core.declared_rows()["start_ns"].tolist() == [0]
    assert core.mode_rows()["from_ns"].tolist() == [44, 44]


def test_an_interval_is_given_the_modes_in_force_at_its_beginning():
    of = np.array([10, 20, 50, 90]) * S
    modes = Modes(of, of / 1e9, of / 1e9, of / 1e9, of)
    facts = Backtest(sold("ce_fcr"), recorded_gate(50.0), 0, 1).facts()._replace(modes={"one": modes})
    near = shell.between(facts, 53 * S, 80 * S).modes["one"]
    assert near.from_ns.tolist() == [20 * S, 50 * S]
    assert shell.between(facts, 999 * S, 9999 * S).modes["one"].from_ns.tolist() == [90 * S]
    assert shell.between(facts, 0, S).modes["one"].from_ns.tolist() == [10 * S]


def naive_gap_s(t_ns):
    steps = np.diff(t_ns)
    if steps.size == 0:
        return 0.0
    period_ns = int(np.median(steps))
    return float((steps[steps > 1.5 * period_ns] - period_ns).sum()) / 1e9


@given(st.lists(st.lists(st.sampled_from((1, 2, 3, 10, 11, 500)), min_size=1, max_size=9), max_size=6))
def test_gaps_are_counted_as_if_all_rows_were_at_hand(parts):
    steps, now, every = Steps(), 0, []
    for part in parts:
        t_ns = now + 100_000_000 * np.cumsum(part)
        steps.add(t_ns)
        every += t_ns.tolist()
        now = every[-1]
    assert steps.gap_s == naive_gap_s(np.array(every, np.int64))


def test_steps_without_end_are_told_apart_by_the_microsecond(monkeypatch):
    monkeypatch.setattr(kept, "STEPS_MAX", 100)
    t_ns = np.cumsum(10**8 + np.random.default_rng(1).integers(-500, 500, 5000))
    t_ns[3000:] += 7 * 10**9
    steps = Steps()
    for first in range(0, t_ns.size, 50):
        steps.add(t_ns[first : first + 50])
    assert len(steps._counts) <= 150
    assert steps.gap_s == pytest.approx(naive_gap_s(t_ns), abs=1e-5) == pytest.approx(7.0, abs=1e-5)


def test_rows_that_are_gone_are_not_taken_for_all():
    one = Kept(FREQUENCY)
    one.add(np.array([(5, 5, 50.0, 1.0, 0, 0)], FREQUENCY))
    assert one.whole.size == 1
    one.let_go(6)
    with pytest.raises(AssertionError, match="let go"):
        _ = one.whole
