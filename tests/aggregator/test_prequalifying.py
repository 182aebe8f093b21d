"""A test played: the plan against a simulated fleet, a plan found again in a journal, and what is left in a folder."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson
import pytest

from aggregator import journal_reader, prequalification_files, prequalifying
from aggregator.cli import main
from aggregator.contracts import Contract, CoreSettings
from aggregator.gateways.population import PERFECT
from aggregator.journal import Kind
from aggregator.prequalifying import NS, START_NS
from aggregator.records import DECLARATION
from droop.products import load
from settlement import prequalification as pq
from telemetry.samples import FREQUENCY, POWER
from telemetry.traces import open_trace

SHORT = pq.Options(hold_s=100.0, operation_s=300.0)

# A charger with 2 kW to give is there after 10 s, one with more later still: too little after 7.5 s, too little energy.
SLOW_KW_S = (0.2, 0.2)


def settings(product, vehicles=10, sold_kw=20.0):
    return CoreSettings(product.area.lower(), vehicles, (Contract(product, sold_kw),), signal_max_kw=sold_kw)


def failed(verdict):
    return {row.id for row in verdict.rows if row.passed is False}


def flyball(monkeypatch, capsys, *words):
    """(exit status, standard output, standard error) of a command."""
    monkeypatch.setattr("sys.argv", ["flyball", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    return ended.value.code or 0, shown.out, shown.err


def test_the_plan_begins_on_the_hour():
    assert datetime.fromtimestamp(START_NS / NS, UTC) == datetime(2026, 1, 1, tzinfo=UTC)


def test_a_perfect_fleet_follows_the_plan_to_the_kilowatt():
    product = load("ce_fcr")
    plan = pq.plan_of(product, SHORT).only(["c"])
    found = prequalifying.play(plan, settings(product), seed=1, behaviour=PERFECT)
    t_s, value = plan.series()
    np.testing.assert_array_equal(found.t_s, t_s)
    np.testing.assert_array_equal(found.hz, value)
    # 100 mHz of 20 kW; the sample that asks for it shows the power from before.
    wanted = np.where((t_s > 60) & (t_s <= 160), 10.0, 0.0)
    np.testing.assert_allclose(found.net_kw, wanted, atol=1e-4)


def test_a_slow_fleet_fails_the_right_requirement():
    product = load("nordic_fcr_d_up")
    plan = pq.plan_of(product, SHORT).only(["ramps"])
    slow = replace(PERFECT, ramp_kw_s=SLOW_KW_S)
    found = pq.judge(product, plan, prequalifying.play(plan, settings(product), seed=1, behaviour=slow), 20.0, SHORT)
    assert failed(found) == {"Req. 2", "Req. 3", "K_red"}


def test_a_signal_is_played_as_the_utility_s_set_point():
    product = load("pjm_reg_v1")
    plan = pq.plan_of(product, pq.Options(hold_s=120.0)).only(["test 1"])
    found = prequalifying.play(plan, settings(product), seed=1, behaviour=PERFECT)
    np.testing.assert_allclose(found.net_kw[1:], 20.0 * found.hz[:-1], atol=1e-4)
    assert np.ptp(found.hz) > 0.1


def test_a_test_stopped_half_way_has_no_verdict():
    product = load("ce_fcr")
    plan = pq.plan_of(product, SHORT)
    told = []

    def stop(now_ns, last_ns):
        told.append((now_ns, last_ns))
        return len(told) < 2

    with pytest.raises(pq.PrequalificationError, match="stopped before the end"):
        prequalifying.play(plan, settings(product), seed=1, behaviour=PERFECT, progress=stop)
    assert [now <= last for now, last in told] == [True, True]


def test_one_contract_is_tested():
    product = load("ce_fcr")
    both = replace(settings(product), contracts=(Contract(product, 1.0), Contract(product, 1.0)))
    with pytest.raises(pq.PrequalificationError, match="with one contract"):
        prequalifying.tested(both)
    with pytest.raises(pq.PrequalificationError, match="--sold-kw"):
        prequalifying.tested(settings(product, sold_kw=0.0))


# ---- a run's journal ------------------------------------------------------------------------------------------------


def journalled(monkeypatch, tmp_path, plan, *, lead_s=23.4, wrong_hz=0.0, meter_s=1.0, late_s=3.0):
    """A run that was fed the plan, as its journal tells it."""
    (tmp_path / "journal").mkdir()
    rng = np.random.default_rng(5)
    begin_ns = 1_790_000_000 * NS
    t_s, value = plan.series(50.0)
    before = np.arange(0.0, lead_s, 0.02)
    times = np.concatenate([before, t_s + lead_s]) + rng.uniform(0, 2e-3, before.size + t_s.size)
    samples = np.zeros(times.size, FREQUENCY)
    samples["t_ns"] = begin_ns + np.rint(times * NS)
    samples["hz"] = np.concatenate([np.full(before.size, 50.0), value + wrong_hz]) + rng.normal(0, 2e-5, times.size)
    at = np.arange(0.0, lead_s + plan.duration_s, meter_s)
    asked = -(np.interp(at - late_s, times, samples["hz"]) - 50.0) / 0.2
    meters = np.zeros(at.size, POWER)
    meters["t_ns"], meters["meter"] = begin_ns + np.rint(at * NS), 1
    meters["power_kw"] = -30.0 + 20.0 * np.clip(asked, -1, 1)
    declared = np.zeros(1, DECLARATION)
    declared["start_ns"], declared["end_ns"] = begin_ns, begin_ns + 10**13
    declared["power_kw"] = -30.0
    tables = {Kind.SAMPLES: samples, Kind.METERS: meters, Kind.BASELINE: declared}

    def read(folder, kind):
        assert folder == tmp_path / "journal"
        return journal_reader.journal.Span(tables[kind], np.zeros(0), [])

    monkeypatch.setattr(journal_reader, "read", read)
    return begin_ns + round(lead_s * NS)


@pytest.mark.parametrize("lead_s", [0.0, 23.4, 71.87])
def test_the_plan_is_found_again_in_what_a_run_recorded(monkeypatch, tmp_path, lead_s):
    plan = pq.plan_of(load("ce_fcr"), SHORT).only(["a", "f"])
    begun_ns = journalled(monkeypatch, tmp_path, plan, lead_s=lead_s)
    found = prequalifying.recorded(tmp_path, plan)
    assert found.t_s.size == pytest.approx(plan.duration_s, abs=1)
    offset_s = (begun_ns - 1_790_000_000 * NS) / NS
    phases = (found.t_s + offset_s) % 1.0
    assert np.minimum(phases, 1 - phases).max() < 0.6
    verdict = pq.judge(load("ce_fcr"), plan, found, 20.0, SHORT)
    # The unit of the recording is 3 s late; nothing else is wrong with it.
    assert failed(verdict) == {"start"}


def test_a_recording_of_something_else_is_refused(monkeypatch, tmp_path):
    plan = pq.plan_of(load("ce_fcr"), SHORT).only(["a"])
    other = pq.plan_of(load("ce_fcr"), SHORT).only(["g"])
    journalled(monkeypatch, tmp_path, other, lead_s=10.0)
    with pytest.raises(pq.PrequalificationError, match="nothing in the recorded frequency is the plan"):
        prequalifying.recorded(tmp_path, plan)
    longer = pq.plan_of(load("ce_fcr"), SHORT).only(["a", "b", "c"])
    with pytest.raises(pq.PrequalificationError, match="310 s recorded, and the test takes"):
        prequalifying.recorded(tmp_path, longer)


def test_a_folder_without_a_journal_is_refused(tmp_path):
    plan = pq.plan_of(load("ce_fcr"), SHORT)
    with pytest.raises(pq.PrequalificationError, match=r"no journal there; give the folder of a run"):
        prequalifying.recorded(tmp_path, plan)


def test_a_reading_at_the_start_of_an_interval_belongs_to_the_one_before():
    rows = np.zeros(2, DECLARATION)
    rows["start_ns"], rows["end_ns"], rows["power_kw"] = (10, 20), (20, 30), (1.0, 2.0)
    found = prequalifying.declared_kw(rows, np.array([10, 11, 20, 21, 30, 31]))
    np.testing.assert_array_equal(found, [np.nan, 1.0, 1.0, 2.0, 2.0, np.nan])


def test_the_latency_of_a_run_is_read(tmp_path):
    path = tmp_path / "run.json"
    path.write_bytes(orjson.dumps({"latency_ms": {"total": {"p99": 250.0}}}))
    assert prequalifying.latency_s(path) == 0.25
    for text, message in (("{}", "no `latency_ms.total.p99`"), ("[", "no `latency_ms.total.p99`")):
        path.write_text(text)
        with pytest.raises(pq.PrequalificationError, match=message):
            prequalifying.latency_s(path)
    with pytest.raises(pq.PrequalificationError, match="cannot be read"):
        prequalifying.latency_s(tmp_path / "none.json")


# ---- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ce_fcr", "nordic_fcr_d_down", "ieee1547"])
def test_a_written_plan_is_a_trace_that_a_run_can_play(tmp_path, name):
    product = load(name)
    plan = pq.plan_of(product, SHORT)
    prequalification_files.write_plan(tmp_path / "plan.csv", plan, START_NS)
    trace = open_trace(tmp_path / "plan.csv")
    assert trace.nominal_hz == product.nominal_hz
    rows = trace.read_all()
    lead = round(prequalification_files.LEAD_S * plan.rate_hz)
    t_s, value = plan.series()
    np.testing.assert_allclose(rows["hz"][lead : lead + t_s.size], value, atol=1e-6)
    np.testing.assert_allclose((rows["t_ns"][lead : lead + t_s.size] - START_NS) / NS, t_s, atol=1e-3)
    assert set(rows["hz"][:lead]) == {value[0]}


def test_the_recording_is_written_in_the_nordic_layout(tmp_path):
    product = load("nordic_fcr_d_down")
    plan = pq.plan_of(product, SHORT).only(["sine 10 s"])
    t_s, value = plan.series()
    power = np.where(t_s < 1.0, np.nan, -1234.5)
    recording = pq.Recording(t_s, value, power, np.full(t_s.size, -3000.0))
    path = prequalification_files.write_csv(tmp_path, product, plan, recording, 2000.0, START_NS)
    assert path.name == (
        "Fleet_FcrdDo_nordicfcrdramps-nordicsines_Nordic_UTC_20260101T0000-20260101T0002_100ms_2026-01-01.csv"
    )
    data = path.read_bytes()
    assert data.isascii()
    assert data.count(b"\r\n") == data.count(b"\n") == t_s.size + 1
    rows = list(csv.DictReader(io.StringIO(data.decode())))
    assert list(rows[0]) == ["DateTime", "InsAcPow", "GridFreq", "ApplFreqSig", "CalcBaseline", "Cap_FcrdDo"]
    assert (rows[0]["InsAcPow"], rows[10]["InsAcPow"], rows[10]["CalcBaseline"]) == ("", "-1.234500", "-3.000000")
    assert rows[10]["DateTime"] == "2026-01-01T00:00:01.000"
    assert {row["GridFreq"] for row in rows} == {""}
    names = {
        name: prequalification_files.service(replace(product, id=name))
        for name in ("nordic_fcr_n", "nordic_fcr_d_up", "ce_fcr")
    }
    assert names == {"nordic_fcr_n": "Fcrn", "nordic_fcr_d_up": "FcrdUp", "ce_fcr": "ce_fcr"}


# ---- the command ---------------------------------------------------------------------------------------------------


def test_a_perfect_fleet_passes_continental_europe(monkeypatch, capsys, tmp_path):
    out = tmp_path / "out"
    status, shown, _ = flyball(
        monkeypatch, capsys, "prequalify", "ce_fcr", "--vehicles", 10, "--perfect", "--hold-s", 120,
        "--operation-s", 600, "--out", out, "--json", "-",
    )  # fmt: skip
    document = orjson.loads(shown)
    assert (status, document["passed"], document["qualified_kw"], document["failed"]) == (0, True, 20.0, [])
    assert [part["name"] for part in document["parts"]] == list("abcdefg")
    assert sorted(Path(name).name for name in document["files"]) == sorted(path.name for path in out.iterdir())
    assert {k: v for k, v in document.items() if k != "files"} | {"files": document["files"]} == orjson.loads(
        (out / "report.json").read_bytes()
    )
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<section>") == 7
    assert page.count("plotly.js v") >= 1
    assert "FCR, Continental Europe: 20 kW, passed" in page
    assert 'src="http' not in page
    for row in document["requirements"]:
        assert f"<td>{row['id']}</td><td>{row['part']}</td>" in page


def test_a_slow_fleet_fails_fcr_d_and_strict_says_so(monkeypatch, capsys, tmp_path):
    words = ("prequalify", "nordic_fcr_d_up", "--vehicles", 10, "--part", "ramps", "--hold-s", 100, "--json", "-")
    status, shown, _ = flyball(monkeypatch, capsys, *words, "--perfect", "--out", tmp_path)
    assert (status, orjson.loads(shown)["passed"]) == (0, True)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    # Req. 1's band in the last minute of the hold, and what must be there from 7.5 s on.
    assert page.count('"type":"rect"') == 2
    monkeypatch.setattr("aggregator.configured.behaviour", lambda _: replace(PERFECT, ramp_kw_s=SLOW_KW_S))
    status, shown, error = flyball(monkeypatch, capsys, *words, "--strict")
    document = orjson.loads(shown)
    assert (status, document["passed"], document["failed"]) == (1, False, ["K_red", "Req. 2", "Req. 3"])
    assert "nordic_fcr_d_up: not passed: K_red, Req. 2, Req. 3" in error


def test_tests_and_parts_are_listed(monkeypatch, capsys):
    status, shown, _ = flyball(monkeypatch, capsys, "prequalify", "--list", "--json", "-")
    assert status == 0
    assert set(orjson.loads(shown)) == set(pq.TESTS)
    _, shown, _ = flyball(monkeypatch, capsys, "prequalify", "nordic_fcr_n", "--list", "--json", "-")
    listed = orjson.loads(shown)
    assert [part["name"] for part in listed["parts"]][:2] == ["steps", "sine 10 s"]
    assert listed["rate_hz"] == 5.0
    status, shown, _ = flyball(monkeypatch, capsys, "prequalify", "nordic_fcr_n", "--list")
    assert "sine 300 s" in shown


def test_the_plan_alone_is_written(monkeypatch, capsys, tmp_path):
    path = tmp_path / "plan.csv"
    status, shown, _ = flyball(
        monkeypatch, capsys, "prequalify", "ce_fcr", "--part", "a", "--plan", path, "--json", "-"
    )
    assert status == 0
    assert orjson.loads(shown)["plan"] == str(path)
    assert path.read_text().splitlines()[0] == "time_utc,frequency_hz,part"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ce_frc",), "product `ce_frc` is not in the catalogue; did you mean `ce_fcr`?"),
        ((), "PRODUCT is missing; `flyball prequalify --list` names the tests"),
        (("ce_fcr", "--part", "z"), "part `z`: the test has a, b, c, d, e, f, g"),
        (("ce_fcr", "--hold-s", "-3"), "option `hold_s` takes a number of 0 or more"),
        (("ce_fcr", "--sold-kw", "0"), "option `--sold-kw` takes a power above 0"),
        (("ce_fcr", "--from", "/nowhere"), "--from /nowhere: no journal there"),
        (("nordic_fcr_n", "--latency", "/nowhere.json"), "--latency /nowhere.json: cannot be read"),
    ],
)
def test_wrong_use_is_one_line_with_the_remedy(monkeypatch, capsys, words, message):
    status, shown, error = flyball(monkeypatch, capsys, "prequalify", *words)
    assert (status, shown) == (2, "")
    assert message in error
    assert error.count("\n") == 1
