"""Products on a signal and on a trigger in the whole engine: asked, delivered, settled, recorded, gone on with."""

from __future__ import annotations

import dataclasses

import numpy as np
import orjson
import pytest

from aggregator import state
from aggregator.backtesting import BacktestError, check, recorded_gate, run
from aggregator.config import QualityTable
from aggregator.contracts import Contract, CoreSettings, from_json
from aggregator.core import Aggregator
from aggregator.replay import replay
from aggregator.settle import Books
from aggregator.signal_file import Recorded, SignalError, read
from aggregator.wanted import Wanted
from droop.products import load, parse
from telemetry.samples import Quality
from telemetry.traces import open_trace
from tests.aggregator.test_core import KEY, T0, Line, S, reports, sample, signal

REG = parse(
    {"id": "reg", "title": "Regulation", "area": "X", "nominal_hz": 50.0, "direction": "symmetric", "input": "signal",
     "signal_s": 2.0, "curve": [[-1, -1], [1, 1]], "hold_s": 2.0, "fade_s": 2.0, "interval_s": 300}, "test",
)  # fmt: skip
UP = parse(
    {"id": "up", "title": "aFRR up", "area": "X", "nominal_hz": 50.0, "direction": "up", "input": "signal",
     "signal_s": 4.0, "curve": [[0, 0], [1, 1]], "ramp_pu_s": 0.1, "interval_s": 300}, "test",
)  # fmt: skip
FFR = parse(
    {"id": "ffr", "title": "FFR", "area": "X", "nominal_hz": 50.0, "direction": "up", "interval_s": 300,
     "trigger": {"hz": 49.7, "hold_s": 5.0, "fall_pu_s": 0.2, "fall_step_pu": 0.2, "ready_s": 100.0}}, "test",
)  # fmt: skip


def settings(*sold, **more):
    contracts = tuple(Contract(product, kw) for product, kw in sold)
    return CoreSettings("ce", 12, contracts, signal_max_kw=500.0, **more)


def test_a_set_point_belongs_to_the_product_on_it():
    line = Line(settings((REG, 50.0)))
    line.hz(49.8, 1.0)
    assert line.core.last.response_kw == 0.0  # no response to frequency
    line.core.on_signal(signal(line.now_ns, 30.0), line.now_ns)
    line.hz(49.8, 1.0)
    assert line.core.last.response_kw == pytest.approx(30.0)
    assert line.power_kw.sum() == pytest.approx(30.0)
    line.core.on_signal(signal(line.now_ns, -80.0), line.now_ns)
    line.hz(50.0, 1.0)
    assert line.core.last.response_kw == pytest.approx(-50.0)  # what is sold, no more
    assert line.core.sums.clipped == 1


def test_a_set_point_without_a_product_on_it_stays_on_top():
    line = Line(settings((load("ce_fcr"), 60.0)))
    line.core.on_signal(signal(line.now_ns, 30.0, valid_s=2.0), line.now_ns)
    line.hz(49.9, 1.0)
    assert line.core.last.response_kw == pytest.approx(60.0)
    line.hz(49.9, 2.0)
    assert line.core.last.response_kw == pytest.approx(30.0)  # gone with its validity
    assert line.core.sums.clipped == 0


def test_a_set_point_that_runs_out_is_held_and_fades():
    line = Line(settings((REG, 50.0)))
    line.hz(50.0, 1.0)
    line.core.on_signal(signal(line.now_ns, 40.0, valid_s=2.0), line.now_ns)
    line.hz(50.0, 3.9)
    assert line.core.last.response_kw == pytest.approx(40.0)
    line.hz(50.0, 1.0)
    assert line.core.last.response_kw == pytest.approx(20.0, abs=2.0)
    line.hz(50.0, 1.5)
    assert line.core.last.response_kw == 0.0


def test_a_dead_bus_gets_no_set_point_and_no_trigger():
    line = Line(settings((REG, 20.0), (FFR, 20.0)))
    line.core.on_signal(signal(line.now_ns, 20.0, valid_s=100.0), line.now_ns)
    line.hz(49.6, 1.0)
    assert line.core.last.response_kw == pytest.approx(40.0)
    line.hz(0.0, 0.5, quality=int(Quality.DEAD_BUS))
    assert line.core.last.response_kw == 0.0
    assert (line.power_kw <= 0.0).all()


def test_stacked_products_ask_together():
    line = Line(settings((REG, 20.0), (FFR, 15.0), (load("ce_fcr"), 10.0)))
    line.core.on_signal(signal(line.now_ns, -10.0, valid_s=100.0), line.now_ns)
    line.hz(49.65, 1.0)
    assert line.core.last.response_kw == pytest.approx(-10.0 + 15.0 + 10.0)


def test_a_lost_frequency_pulls_no_trigger():
    line = Line(settings((FFR, 30.0)))
    line.hz(49.71, 1.0)
    line.wait(8.0)
    assert line.core.last.response_kw == 0.0
    assert line.core.engine.motion.stage.max() == 0


# -- recorded and gone on with -----------------------------------------------------------------------------------------


def stepped(core, k, now_ns):
    if k % 20 == 5:
        core.on_signal(signal(now_ns, 40.0 * np.sin(k / 30), valid_s=4.0), now_ns)
    if k % 5 == 0:
        core.on_vehicles(reports(now_ns), now_ns)
    hz = 49.75 + 0.2 * np.sin(k / 25)
    core.on_samples(sample(now_ns, hz), now_ns)


def test_state_is_whole_and_the_journal_replays():
    chosen = settings(
        (REG, 50.0), (FFR, 15.0), (dataclasses.replace(load("ce_fcr"), insensitivity_hz=0.01), 20.0), epoch=4
    )
    assert from_json(chosen.to_json()) == chosen
    line = Line(chosen)
    entries, twin = [], None
    for k in range(400):
        now_ns = T0 + k * S // 5
        if k == 150:
            twin = Aggregator(chosen)
            state.restore(twin, state.capture(line.core))
        for core in (line.core, twin) if twin else (line.core,):
            stepped(core, k, now_ns)
        told = [line.core.sign(command, KEY) for command in line.core.drain_commands()]
        if twin:
            again = twin.drain_commands()
            assert len(again) == len(told)
            assert twin.last == line.core.last
        entries += line.core.drain_entries()
    assert line.core.engine.motion.stage.max() == 2  # a cycle and more
    mine, its = state._columns(line.core), state._columns(twin)
    assert {"motion.stage", "motion.since_ns", "motion.felt_hz"} <= mine.keys()
    for name in mine:
        assert name.startswith("motion.") is False or mine[name].tobytes() == its[name].tobytes(), name
    found = replay(entries, {1: KEY})
    assert found.same
    assert found.commands > 20


# Steps of the frequency are meant here, and no spikes.
GATE = recorded_gate(50.0, QualityTable(spike_ceiling_hz=20.0))

# -- backtest ----------------------------------------------------------------------------------------------------------


def trace(tmp_path, hz, period_s=1.0):
    path = tmp_path / "trace.csv"
    rows = [f"2026-01-05T00:00:{0:02d}Z"]
    start = np.datetime64("2026-01-05T00:00:00", "ms")
    rows = [f"{start + np.timedelta64(round(k * period_s * 1000), 'ms')}Z,{value:.4f}" for k, value in enumerate(hz)]
    path.write_text("\n".join(["time,hz", *rows, ""]))
    return open_trace(path)


def recorded(share, period_s=2.0):
    t_ns = np.datetime64("2026-01-05T00:00:00", "ns").astype(np.int64) + np.arange(len(share)) * round(period_s * S)
    return Recorded(t_ns, np.array(share, np.float64))


def backtest(sold, traces=(), signal=None, out=None, vehicles=40):
    contracts = tuple(Contract(product, kw) for product, kw in sold)
    core = CoreSettings("x", vehicles, contracts, signal_max_kw=sum(kw for _, kw in sold))
    return run(Wanted(list(traces), core, GATE, seed=1, perfect=True, signal=signal), out=out)


def test_a_signal_alone_is_followed_and_settled(tmp_path):
    share = np.sin(np.arange(300) / 15)
    found = backtest([(REG, 40.0)], signal=recorded(share), out=tmp_path / "out")
    assert (found["format"], found["signals"], found["samples"]) == ("signal", 300, 0)
    assert "FREQUENCY_LOST" not in found["alarms"]  # nobody asked for one
    assert found["unserved_kwh"] == pytest.approx(0.0, abs=1e-6)
    asked_kwh = np.clip(share, 0, None).sum() * 40.0 * 2 / 3600
    statements = orjson.loads((tmp_path / "out" / "statements.json").read_bytes())
    assert [s["product"] for s in statements] == ["reg", "reg"]
    assert sum(s["requested_up_kwh"] for s in statements) == pytest.approx(asked_kwh, rel=0.01)
    assert sum(s["delivered_up_kwh"] for s in statements) == pytest.approx(asked_kwh, rel=0.03)
    assert statements[0]["coverage"]["signal"] == pytest.approx(1.0)
    assert statements[0]["mileage"] == pytest.approx(np.abs(np.diff(share[:150])).sum(), rel=0.02)
    assert (tmp_path / "out" / "report.html").stat().st_size > 1000


def test_whether_it_helped_the_frequency_is_told_with_one_beside_the_signal(tmp_path):
    """NEM regulation alone: its payments weigh what was done by a frequency that a signal does not say."""
    product, share = load("nem_reg_raise"), [0.5] * 90
    alone = backtest([(product, 40.0)], signal=recorded(share, 4.0))
    assert alone["score"] is None
    assert "give a recorded one beside the signal" in alone["score_note"]
    low = backtest([(product, 40.0)], [trace(tmp_path, [49.95] * 360)], recorded(share, 4.0))
    assert low["score"] == 1.0
    high = backtest([(product, 40.0)], [trace(tmp_path, [50.05] * 360)], recorded(share, 4.0))
    assert high["score"] == 0.0


def test_a_stack_of_all_kinds_is_shared_out(tmp_path):
    hz = [49.99] * 60 + [49.65] * 30 + [49.95] * 310
    sold = [(REG, 20.0), (FFR, 15.0), (dataclasses.replace(load("ce_fcr"), interval_s=300), 10.0)]
    backtest(sold, [trace(tmp_path, hz)], recorded([0.5] * 200), tmp_path / "out")
    statements = orjson.loads((tmp_path / "out" / "statements.json").read_bytes())
    first = {s["product"]: s for s in statements if s["start_ns"] == statements[0]["start_ns"]}
    assert first["reg"]["requested_up_kwh"] == pytest.approx(10.0 * 300 / 3600, rel=0.02)
    # 5 s whole, then down at a fifth a second: sampled by the second 1, 1, 1, 1, 1, 1, .8, .6, .4, .2.
    assert first["ffr"]["requested_up_kwh"] == pytest.approx(15.0 * 8.0 / 3600, rel=0.01)
    assert first["ce_fcr"]["requested_up_kwh"] == pytest.approx((10.0 * 30 + 2.5 * 210) / 3600, rel=0.01)
    for name in ("reg", "ffr", "ce_fcr"):
        assert first[name]["delivered_up_kwh"] == pytest.approx(first[name]["requested_up_kwh"], rel=0.15)


def test_a_support_that_began_before_the_interval_is_owed_in_it(tmp_path):
    hz = [49.99] * 298 + [49.65] * 3 + [49.99] * 60
    backtest([(FFR, 15.0)], [trace(tmp_path, hz)], out=tmp_path / "out")
    statements = orjson.loads((tmp_path / "out" / "statements.json").read_bytes())
    assert len(statements) == 2
    # Two seconds before the interval's end; in the next one the other three, the second of its release, the way down.
    assert statements[0]["requested_up_kwh"] == pytest.approx(15.0 * 2 / 3600, rel=0.01)
    assert statements[1]["requested_up_kwh"] == pytest.approx(15.0 * (4 + 0.8 + 0.6 + 0.4 + 0.2) / 3600, rel=0.01)


def test_the_live_settlement_remembers_as_long_as_a_support_may_be():
    """Pulled a minute before the interval's end, held for 80 s: the next one owes 20 s and what comes down."""
    held = dataclasses.replace(FFR, trigger=dataclasses.replace(FFR.trigger, hold_s=80.0))
    core, books, found = Aggregator(settings((held, 15.0), epoch=1)), Books(), []
    for k in range(620):
        hz = 49.65 if 240 <= k < 243 else 49.99
        core.on_samples(sample(T0 + k * S, hz), T0 + k * S)
        for entry in core.drain_entries():
            found += books.feed(entry)
    assert [s.final for s in found] == [True, True]
    assert found[0].requested_up_kwh == pytest.approx(15.0 * 60 / 3600, rel=1e-6)
    assert found[1].requested_up_kwh == pytest.approx(15.0 * (21 + 0.8 + 0.6 + 0.4 + 0.2) / 3600, rel=1e-6)


def test_the_wrong_input_is_refused(tmp_path):
    rows = recorded([0.1, 0.2])
    with pytest.raises(BacktestError, match="give the recorded one with --signal"):
        check([], settings((REG, 1.0)))
    with pytest.raises(BacktestError, match="follows a signal; choose"):
        check([trace(tmp_path, [50.0] * 5)], settings((FFR, 1.0)), rows)
    with pytest.raises(BacktestError, match="responds to frequency"):
        check([], settings((REG, 1.0), (FFR, 1.0)), rows)
    check([], settings((REG, 1.0), (UP, 1.0)), rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,signal\n2026-01-05T00:00:00Z,0.5\n2026-01-05T00:00:02Z,1.01\n", "row 2: `signal` takes -1..1, not 1.01"),
        ("time,signal\n2026-01-05T00:00:00Z,0.5\n2026-01-05T00:00:02Z,\n", "row 2: `signal` takes -1..1, not nan"),
        ("time,signal\n2026-01-05T00:00:02Z,0.5\n2026-01-05T00:00:02Z,0.5\n", "row 2: `time` does not lie after"),
        ("time,signal\n2026-01-05T00:00:02Z,0.5\nnoon,0.5\n", "`time` takes ISO 8601"),
        ("time,signal\n2026-01-05T00:00:02Z,half\n", "not a CSV file of times and signals"),
        ("t,signal\n2026-01-05T00:00:02Z,0.5\n", "no column `time`"),
        ("time,signal\n", "no row"),
    ],
)
def test_a_signal_that_is_none_is_refused(tmp_path, text, message):
    path = tmp_path / "signal.csv"
    path.write_text(text)
    with pytest.raises(SignalError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))


def test_a_signal_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SignalError, match="no such signal file"):
        read(tmp_path / "none.csv")


@pytest.mark.parametrize("zone", ["Z", "", "+00:00"])
def test_a_signal_is_read(tmp_path, zone):
    path = tmp_path / "signal.csv"
    path.write_text(f"time,signal\n2026-01-05T00:00:00{zone},-1\n2026-01-05T00:00:02.5{zone},0.25\n")
    found = read(path)
    assert found.t_ns.tolist() == [1_767_571_200 * S, 1_767_571_202 * S + S // 2]
    assert found.share.tolist() == [-1.0, 0.25]


def test_a_published_signal_is_read_without_its_missing_values(tmp_path):
    seconds = [23 * 3600 + 59 * 60 + 2 * k for k in range(30)]
    rows = [f"{s // 3600}:{s // 60 % 60:02d}:{s % 60:02d},{'' if k == 3 else 0.5}" for k, s in enumerate(seconds)]
    (tmp_path / "s.csv").write_text("\n".join([",8/1/2017", *rows, "0:00:00,1.0000005"]) + "\n", encoding="utf-8")
    found = read(tmp_path / "s.csv")
    assert found.t_ns.size == found.share.size == 30
    assert found.t_ns[0] == np.datetime64("2017-08-02T03:59:00", "ns").astype(np.int64)  # Eastern, daylight saving
    assert np.diff(found.t_ns).max() == 4 * S
    assert found.share.max() == 1.0
    assert found.share[:-1].tolist() == [0.5] * 29
