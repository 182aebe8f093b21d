"""`flyball backtest`: files in, a result out; stopped and gone on with, it is the same to the last bit."""

from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from aggregator import backtesting
from aggregator.backtesting import BacktestError, recorded_gate, run
from aggregator.billing import Asked, Files
from aggregator.checkpoint import CHECKPOINT
from aggregator.contracts import Contract, CoreSettings, Site
from aggregator.gateways.population import Behaviour
from aggregator.results import spool
from aggregator.wanted import Wanted
from droop.products import load
from settlement.prices import MissingPriceError
from telemetry.traces import MalformedRow, TraceError, open_trace

START = datetime(2026, 6, 22, tzinfo=UTC)
PRICED = str(Path(__file__).resolve().parents[1] / "golden" / "settlement" / "product.toml")


def settings_of(product="ce_fcr", vehicles=12, sold_kw=24.0):
    found = load(product)
    return CoreSettings(found.area.lower(), vehicles, (Contract(found, sold_kw),))


def written(path, seconds=5000, begin=START, change=None, seed=1):
    """A day of the NESO layout, or the beginning of one."""
    rng = np.random.default_rng(seed)
    hz = 50 + 0.03 * np.convolve(rng.normal(0, 1, seconds + 99), np.ones(100) / 10, "valid")
    rows = [f"{begin + timedelta(seconds=k):%Y-%m-%d %H:%M:%S},{hz[k]:.3f}" for k in range(seconds)]
    if change is not None:
        change(rows)
    path.write_text("\n".join(["dtm,f", *rows]) + "\n", encoding="utf-8")
    return path


def backtest(*paths, settings=None, skip_bad=False, **more):
    """A run of these files; `more` is wanted of it, or how it is run."""
    traces = [open_trace(path, skip_bad=skip_bad) for path in paths]
    how = {name: more.pop(name) for name in list(more) if name not in Wanted.__dataclass_fields__}
    return run(Wanted(traces, settings or settings_of(), recorded_gate(50.0), **more), **how)


class StopAfter:
    """A wish to stop at the n-th look."""

    def __init__(self, looks):
        self.looks = looks

    def __call__(self, now_ns, last_ns):
        assert now_ns <= last_ns
        self.looks -= 1
        return self.looks > 0


KEYS = {
    "format", "samples", "rejected", "gap_s", "requested_up_kwh", "requested_down_kwh", "delivered_up_kwh",
    "delivered_down_kwh", "energy_up_kwh", "energy_balance_error_kwh", "throughput_kwh", "max_sum_error_kw",
    "bound_violations", "unserved_kwh", "unserved_by_reason", "score", "score_note", "soc_min_frac", "soc_max_frac",
}  # fmt: skip


def test_a_result_has_every_key_and_its_files(tmp_path):
    out = tmp_path / "out"
    found = backtest(written(tmp_path / "day.csv"), out=out)
    assert set(found) >= KEYS
    assert (found["format"], found["samples"], found["ticks"], found["rejected"]) == ("neso", 5000, 5000, {})
    assert found["energy_up_kwh"] == found["delivered_up_kwh"] > 0
    assert found["energy_balance_error_kwh"] < 1e-8
    assert found["score"] > 0.97
    assert orjson.loads((out / "result.json").read_bytes()) == found
    assert not (out / CHECKPOINT).exists()
    statements = orjson.loads((out / "statements.json").read_bytes())
    assert len(statements) == 6
    assert pq.read_table(out / "frequency.parquet").num_rows == 5000
    assert pq.read_table(out / "meter.parquet").num_rows >= 4999


@pytest.mark.parametrize("looks", [1, 2, 3])
def test_a_stopped_run_goes_on_to_the_same_bytes(tmp_path, monkeypatch, looks):
    monkeypatch.setattr(backtesting, "CHUNK", 900)
    monkeypatch.setattr(spool, "PART_ROWS", 3)
    files = [
        written(tmp_path / "one.csv", 2000),
        written(tmp_path / "two.csv", 1500, START + timedelta(seconds=2030), seed=2),
    ]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    backtest(*files, out=whole)
    assert backtest(*files, out=parts, progress=StopAfter(looks)) is None
    assert (parts / CHECKPOINT).stat().st_mode & 0o777 == 0o600
    assert not (parts / "result.json").exists()
    for _ in range(10):  # at most
        if backtest(*files, out=parts, resume=True, progress=StopAfter(looks + 1)) is not None:
            break
    for name in (
        "result.json", "statements.json", "settings.json", "frequency.parquet", "meter.parquet", "days.parquet",
        "blocks.parquet", "vehicles.parquet", "sessions.parquet",
    ):  # fmt: skip
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name
    assert orjson.loads((whole / "result.json").read_bytes())["gap_s"] == 30.0
    assert not (parts / CHECKPOINT).exists()


def test_a_run_leaves_checkpoints_behind_as_it_goes(tmp_path, monkeypatch):
    """A run that was killed, not stopped, goes on from the last hour; an hour that took no time is not worth one."""
    monkeypatch.setattr(backtesting, "CHUNK", 600)
    path, out, whole = written(tmp_path / "day.csv", 9000), tmp_path / "out", tmp_path / "whole"
    seconds = iter(range(0, 10**6, 40))

    def killed(now_ns, last_ns):
        if now_ns > (START.timestamp() + 8000) * 1e9:
            raise KeyboardInterrupt
        return True

    with pytest.raises(KeyboardInterrupt):
        backtest(path, out=out, progress=killed, clock=lambda: 0.0)
    assert pickle.loads((out / CHECKPOINT).read_bytes()).row == 4200  # noqa: S301 - made here
    with pytest.raises(KeyboardInterrupt):
        backtest(path, out=out, progress=killed, clock=lambda: next(seconds))
    assert pickle.loads((out / CHECKPOINT).read_bytes()).row == 7800  # noqa: S301 - made here
    backtest(path, out=out, resume=True)
    backtest(path, out=whole)
    assert (out / "result.json").read_bytes() == (whole / "result.json").read_bytes()


@pytest.mark.parametrize(
    "other",
    [
        {"settings": settings_of(sold_kw=25.0)}, {"settings": settings_of(vehicles=13)}, {"seed": 2},
        {"perfect": True}, {"skip_bad": True}, {"settings": settings_of("nordic_fcr_n")},
    ],
)  # fmt: skip
def test_the_checkpoint_of_another_run_is_refused(tmp_path, other):
    path, out = written(tmp_path / "day.csv", 4000), tmp_path / "out"
    backtest(path, out=out, progress=StopAfter(1))
    with pytest.raises(BacktestError, match="asked something else"):
        backtest(path, out=out, resume=True, **other)
    assert backtest(path, out=out, resume=True) is not None


def test_the_checkpoint_of_another_file_or_another_reading_of_it_is_refused(tmp_path):
    out = tmp_path / "out"
    path = tmp_path / "day.csv"
    rows = [f"{k},{60 + 0.01 * (k % 7):.3f}" for k in range(4000)]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")

    def again(start="2022-08-28T00:00:00Z", step_s=2.0, **more):
        traces = [open_trace(path, format="index_hz", start=start, step_s=step_s)]
        return run(Wanted(traces, settings_of("ieee1547"), recorded_gate(60.0), seed=1), out=out, **more)

    again(progress=StopAfter(1))
    for wrong in ({"step_s": 1.0}, {"start": "2022-08-29T00:00:00Z"}):
        with pytest.raises(BacktestError, match="asked something else"):
            again(resume=True, **wrong)
    path.write_text("\n".join([rows[0].replace("60.000", "60.001"), *rows[1:]]) + "\n", encoding="utf-8")
    with pytest.raises(BacktestError, match="asked something else"):
        again(resume=True)


@pytest.mark.parametrize("damage", [b"", b"\x80", b"not a pickle", b"cos\nnothing\n.", b"\x80\x05\x95\xff", b"I1\n."])
def test_a_checkpoint_that_cannot_be_read_is_refused_in_one_line(tmp_path, damage):
    path, out = written(tmp_path / "day.csv", 100), tmp_path / "out"
    out.mkdir()
    (out / CHECKPOINT).write_bytes(damage)
    (out / CHECKPOINT).chmod(0o600)
    with pytest.raises(BacktestError, match="--resume") as caught:
        backtest(path, out=out, resume=True)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_others_could_have_written_is_not_loaded(tmp_path):
    path, out = written(tmp_path / "day.csv", 4000), tmp_path / "out"
    backtest(path, out=out, progress=StopAfter(1))
    (out / CHECKPOINT).chmod(0o620)
    with pytest.raises(BacktestError, match="written by others"):
        backtest(path, out=out, resume=True)
    with pytest.raises(BacktestError, match="start the run with --out"):
        backtest(path, out=tmp_path / "none", resume=True)


def test_a_trace_of_another_grid_is_refused_before_anything_runs(tmp_path):
    path = tmp_path / "us.csv"
    path.write_text("\n".join(f"{k},60.0{k % 10}" for k in range(100)) + "\n", encoding="utf-8")
    trace = open_trace(path, format="index_hz", start="2022-08-28T00:00:00Z", step_s=2.0)
    with pytest.raises(BacktestError, match=r"us\.csv: a 60 Hz grid.* 50 Hz.*--product"):
        run(Wanted([trace], settings_of(), recorded_gate(50.0), seed=1), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def broken(rows):
    rows[10] = "2026-06-22 00:00:10,fifty"
    rows[20] = "nonsense"


def test_malformed_rows_stop_the_run_or_are_counted(tmp_path):
    path = written(tmp_path / "day.csv", 1000, change=broken)
    with pytest.raises(MalformedRow) as caught:
        backtest(path)
    assert caught.value.line == 12
    found = backtest(path, skip_bad=True, out=tmp_path / "out")
    assert (found["rejected"], found["samples"], found["gap_s"]) == ({"malformed": 2}, 998, 2.0)


def test_malformed_rows_are_counted_once_however_often_a_run_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(backtesting, "CHUNK", 300)
    files = [
        written(tmp_path / "one.csv", 1000, change=broken),
        written(tmp_path / "two.csv", 1000, START + timedelta(seconds=1000), change=lambda rows: rows.insert(5, "x")),
    ]
    out = tmp_path / "out"
    found = backtest(*files, out=out, skip_bad=True, progress=StopAfter(1))
    for _ in range(10):  # at most
        found = found or backtest(*files, out=out, skip_bad=True, resume=True, progress=StopAfter(2))
    assert found["rejected"] == {"malformed": 3}


def test_a_file_of_rubbish_has_a_named_end(tmp_path):
    def rubbish(rows):
        rows[:] = ["2026-06-22 00:00:01,fifty"] * 10

    path = written(tmp_path / "bad.csv", 50, change=rubbish)
    with pytest.raises((BacktestError, TraceError), match=r"bad\.csv"):
        backtest(path, skip_bad=True)


def test_a_file_in_which_every_value_is_rejected_has_a_sane_result(tmp_path):
    def zeros(rows):
        rows[:] = [row.split(",")[0] + ",0.000" for row in rows]

    path = written(tmp_path / "zero.csv", 600, change=zeros)
    with pytest.raises(TraceError, match="--nominal-hz"):
        open_trace(path)
    trace = open_trace(path, nominal_hz=50.0)
    found = run(Wanted([trace], settings_of(), recorded_gate(50.0), seed=1), out=tmp_path / "out")
    assert found["rejected"] == {"zero": 600}
    assert "FREQUENCY_LOST" in found["alarms"]
    assert (found["samples"], found["requested_up_kwh"], found["score"]) == (600, 0.0, None)
    assert found["energy_balance_error_kwh"] < 1e-9


def test_a_value_that_stands_still_is_believed_in_a_recording(tmp_path):
    def still(rows):
        rows[:] = [row.split(",")[0] + ",49.800" for row in rows]

    found = backtest(written(tmp_path / "test.csv", 900, change=still), perfect=True)
    assert found["rejected"] == {}
    assert found["requested_up_kwh"] == pytest.approx(24.0 * 899 / 3600)
    assert found["score"] == pytest.approx(1.0, abs=1e-9)


def test_a_fleet_with_least_powers_under_caps_counts_its_switches(tmp_path):
    """The caps hold on what the chargers are told; nothing is told out of bounds, and the page says all this."""
    path, out = written(tmp_path / "day.csv", 1800), tmp_path / "out"
    settings = replace(settings_of(vehicles=60, sold_kw=60.0), sites=(Site("street", None, 10, 20, 15.0, 15.0),))
    found = backtest(path, settings=settings, behaviour=Behaviour(liars_frac=0.0), out=out)
    free = backtest(path, settings=settings_of(vehicles=60, sold_kw=60.0), behaviour=Behaviour(liars_frac=0.0))
    assert found["bound_violations"] == 0
    assert found["max_sum_error_kw"] < 1e-3
    assert found["switches"] > 0
    # Half an hour of those of the 60 that are occupied and have a least power.
    assert 15.0 < found["switches"] / found["switches_per_vehicle_h"] < 30.0
    assert found["throughput_kwh"] != free["throughput_kwh"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Switches a vehicle and hour" in page
    assert "Commands outside a vehicle" in page
    plain = backtest(path, behaviour=replace(Behaviour(), minimum_frac=0.0))
    assert (plain["switches"], plain["switches_per_vehicle_h"]) == (0, None)


def test_what_was_not_served_stands_on_the_page_by_reason(tmp_path):
    out = tmp_path / "out"
    found = backtest(written(tmp_path / "day.csv", 600), settings=settings_of(sold_kw=2000.0), out=out)
    assert found["unserved_by_reason"]
    assert sum(found["unserved_by_reason"].values()) == pytest.approx(found["unserved_kwh"])
    page = (out / "report.html").read_text(encoding="utf-8")
    for reason in found["unserved_by_reason"]:
        assert f"Unserved: {reason}" in page


def test_another_fleet_is_another_run(tmp_path):
    path, out = written(tmp_path / "day.csv", 4000), tmp_path / "out"
    assert backtest(path, out=out, behaviour=Behaviour(), progress=StopAfter(1)) is None
    with pytest.raises(BacktestError, match="asked something else"):
        backtest(path, out=out, resume=True, behaviour=Behaviour(liars_frac=0.5))


def priced(tmp_path, until):
    path = tmp_path / "prices.csv"
    path.write_text(
        f"product,start,end,price,unit\ngolden_fcr,2026-06-22T00:00Z,{until},1000,EUR/MW\n", encoding="utf-8"
    )
    return Files(Asked(path), {"golden_fcr": load(PRICED)})


def test_prices_add_what_was_earned(tmp_path):
    out, prices = tmp_path / "out", priced(tmp_path, "2026-06-23T00:00Z")
    found = backtest(written(tmp_path / "day.csv", 3600), settings=settings_of(PRICED), out=out, prices=prices)
    plain = backtest(written(tmp_path / "day.csv", 3600), settings=settings_of(PRICED))
    income = found.pop("income")
    (total,) = income["totals"]
    (day,) = found["days"]
    assert day["amount"] == total["amount"]
    for row in (*found["days"], *found["worst_blocks"]):
        assert {row.pop(name) for name in ("earned", "charged", "amount", "currency")} >= {"EUR"}
    assert found == plain
    assert (total["product"], total["currency"]) == ("golden_fcr", "EUR")
    # 24 kW for an hour of a day at EUR 1000/MW, less five times the first second, which no meter covers.
    assert 0.98 <= float(total["amount"]) <= 1.0
    assert f"{total['amount']} EUR" in (out / "report.html").read_text(encoding="utf-8")
    lines = (out / "lines.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + income["lines"] >= 5


def test_a_missing_price_costs_no_run(tmp_path):
    day, out = written(tmp_path / "day.csv", 2000), tmp_path / "out"
    with pytest.raises(MissingPriceError, match=r"2026-06-22T00:30:00Z \.\. "):
        backtest(day, settings=settings_of(PRICED), out=out, prices=priced(tmp_path, "2026-06-22T00:30Z"))
    assert [path.name for path in out.iterdir()] == [CHECKPOINT]
    whole = priced(tmp_path, "2026-06-23T00:00Z")
    found = backtest(day, settings=settings_of(PRICED), out=out, resume=True, prices=whole)
    assert found == backtest(day, settings=settings_of(PRICED), prices=whole)
