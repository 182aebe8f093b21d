"""A stability study from the command line: what it says and writes, what a recorded run tells it, what it refuses."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from aggregator import stability
from aggregator import stability_page as page
from aggregator.cli import main
from aggregator.contracts import Contract, CoreSettings
from aggregator.core import Aggregator
from aggregator.gateways.population import Behaviour
from aggregator.gateways.simulated import SimulatedFleet
from aggregator.journal_files import JournalWriter
from droop.products import load
from droop.stability import grid as grids
from droop.stability.fleet import Fleet
from droop.stability.region import Effect
from droop.stability.simulation import Contingency
from droop.stability.study import study
from telemetry.samples import FREQUENCY

S = 10**9
T0 = 1_790_000_000 * S
DOCS = Path(__file__).resolve().parents[2] / "docs" / "stability.md"
SMALL = ["stability", "--grid", "island", "--fleet-mw", "0.5", "--seconds", "20"]


def called(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["flyball", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def document(monkeypatch, capfd, *words):
    assert called(monkeypatch, *SMALL, *words, "--json", "-") == 0
    return orjson.loads(capfd.readouterr().out)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two minutes of a line whose decisions are 30 ms late, now and then 80, and whose chargers take 0.4 s."""
    folder = tmp_path_factory.mktemp("run")
    core = Aggregator(CoreSettings("ce", 30, (Contract(load("gb_dc_low"), 150.0),), epoch=9))
    fleet = SimulatedFleet(
        30,
        2,
        T0,
        behaviour=Behaviour(occupied_frac=1.0, stay_h=np.inf, dead_s=(0.4, 0.4), ramp_kw_s=(1e6, 1e6), noise_frac=0.0),
    )
    rng, entries = np.random.default_rng(1), []
    for k in range(600):
        now = T0 + k * S // 5
        fleet.advance(now)
        for door, block in (
            (core.on_sessions, fleet.sessions(now)), (core.on_vehicles, fleet.reports(now)),
            (core.on_meters, fleet.meter(now)),
        ):  # fmt: skip
            if block.size:
                door(block, now)
        row = np.zeros(1, FREQUENCY)
        row["t_ns"] = row["rx_ns"] = now - (80 if k % 50 == 0 else 30) * 10**6
        row["hz"] = 49.6 if (k // 40) % 2 else 49.95 + 0.001 * rng.standard_normal()
        core.on_samples(row, now)
        for command in core.drain_commands():
            fleet.apply(command.rows, command.valid_until_ns, now)
        entries += core.drain_entries()
    writer = JournalWriter(folder / "journal")
    writer.append(entries, "9-1")
    writer.flush()
    return folder, core


def test_the_document_says_it_in_one_sentence(monkeypatch, capfd):
    found = document(monkeypatch, capfd, "--delay-ms", "100")
    assert found["helps"] is True
    assert found["delay_s"] == 0.1
    for words in (
        "0.5 MW of ce_fcr in island",
        "helps",
        "a loss of 2 MW",
        "mHz less",
        "largest mean delay it may have is",
    ):
        assert words in found["sentence"]
    assert f"{found['largest_delay_s']:.2f} s" in found["sentence"]
    alone_hz, with_hz = found["alone"]["worst_dev_hz"], found["with_fleet"]["worst_dev_hz"]
    less = re.search(
        r"takes the frequency (\S+) Hz .* instead of (\S+) Hz \((\d+) mHz less, (\d+)%\)", found["sentence"]
    )
    assert [float(text) for text in less.groups()] == [
        pytest.approx(with_hz, abs=5e-4), pytest.approx(alone_hz, abs=5e-4),
        pytest.approx(1e3 * (alone_hz - with_hz), abs=0.5), pytest.approx(100.0 * (1.0 - with_hz / alone_hz), abs=0.5),
    ]  # fmt: skip
    assert found["alone"]["nadir_hz"] < found["with_fleet"]["nadir_hz"] < 50.0
    assert [one["fleet_mw"] for one in found["by_size"]] == [0.125, 0.25, 0.5, 1.0]
    assert found["margins"]["stable"] is True
    assert {row["mark"] for row in found["grid_figures"]} == {"M"}
    assert found["confidence"] == {"grid": "M", "product": "V (D, M in part)"}
    assert found["region"] is None
    assert found["delays"]["how"].startswith("one delay of 100 ms")


@pytest.mark.parametrize(
    ("mw", "delay_ms", "effect", "words"),
    [("6", "900", "unstable", "swings grow"), ("1", "350", "swings", "less than 5 %")],
)
def test_a_fleet_that_hurts_is_said_to(monkeypatch, capfd, mw, delay_ms, effect, words):
    found = document(monkeypatch, capfd, "--fleet-mw", mw, "--delay-ms", delay_ms)
    assert (found["helps"], found["effect"]) == (False, effect)
    assert words in found["sentence"]
    assert found["largest_delay_s"] < float(delay_ms) / 1e3


def test_a_fleet_that_is_not_asked_changes_nothing(monkeypatch, capfd):
    found = document(monkeypatch, capfd, "--product", "gb_dc_high")
    assert "changes nothing" in found["sentence"]
    assert found["helps"] is True


def test_a_trigger_has_no_margins_and_that_is_said(monkeypatch, capfd):
    found = document(monkeypatch, capfd, "--product", "nordic_ffr_a")
    assert found["margins"] is None
    assert "switch" in found["margins_note"]
    assert called(monkeypatch, *SMALL, "--product", "nordic_ffr_a") == 0
    assert "switch" in capfd.readouterr().out


def test_a_folder_holds_page_document_and_courses(monkeypatch, capfd, tmp_path):
    monkeypatch.setattr("droop.stability.study.CELLS", 5)
    found = document(monkeypatch, capfd, "--delay-ms", "200", "--sweep", "--out", str(tmp_path / "study"))
    assert sorted(Path(name).name for name in found["files"]) == ["courses.parquet", "report.html", "study.json"]
    assert orjson.loads((tmp_path / "study" / "study.json").read_bytes())["sentence"] == found["sentence"]
    courses = pq.read_table(tmp_path / "study" / "courses.parquet")
    assert min(courses["hz"].to_pylist()) == pytest.approx(found["with_fleet"]["nadir_hz"])
    assert min(courses["hz_alone"].to_pylist()) == pytest.approx(found["alone"]["nadir_hz"])
    assert {"hz_0.125_mw", "hz_1_mw", "fleet_mw", "governors_mw"} <= set(courses.column_names)
    assert "hz_0.5_mw" not in courses.column_names  # that is `hz`
    assert max(courses["fleet_mw"].to_pylist()) == pytest.approx(found["with_fleet"]["fleet_mw"])
    region = found["region"]
    assert len(region["effect"]) == len(region["sizes_mw"]) == len(region["edge_s"]) == 5
    assert {cell for row in region["effect"] for cell in row} >= {"helps", "unstable"}
    page = (tmp_path / "study" / "report.html").read_text(encoding="utf-8")
    for words in (found["sentence"], "Nyquist", "Size and delay", "By size of the fleet", "M: from memory", "no claim"):
        assert words in page
    assert not re.search(r"<(?:script|link)[^>]+(?:src|href)=", page)


def test_a_recorded_run_tells_its_latency_and_its_chargers_dead_times(run):
    folder, core = run
    found = stability.of_run(folder)
    assert found.latency_s["p50"] == pytest.approx(0.030, abs=1e-4)
    assert found.latency_s["p99"] == pytest.approx(0.080, abs=1e-3)
    learned = core.engine.fleet.dead_s[core.engine.fleet.dead_s > 0].astype(float)
    assert learned.size >= 3
    assert found.dead_s["chargers"] == learned.size
    assert np.dot(found.delays_s, found.shares) == pytest.approx(found.latency_s["p99"] + learned.mean())
    assert f"{learned.size} chargers" in found.how


def test_of_a_journal_only_samples_that_were_decided_on_after_they_were_true_count(monkeypatch, tmp_path):
    """Half are 40 ms late, others are from a clock that is ahead, and ticks without a sample have no lateness."""
    ticks = np.zeros(130, [("now_ns", "i8"), ("t_ns", "i8"), ("hz", "f8")])
    ticks["hz"], ticks["t_ns"] = 50.0, T0
    ticks["now_ns"] = T0 + 40 * 10**6
    ticks["now_ns"][:60] = T0 - 90 * 10**6
    ticks["now_ns"][60:80], ticks["hz"][60:80] = T0 + 9 * S, np.nan
    fleet = SimpleNamespace(dead_s=np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.9, 0.0], np.float32))
    core = SimpleNamespace(engine=SimpleNamespace(fleet=fleet))
    monkeypatch.setattr(stability.journal_reader, "read", lambda *_: SimpleNamespace(rows=ticks))
    monkeypatch.setattr(stability.journal_reader, "entries", lambda *_: [])
    monkeypatch.setattr(stability, "rebuilt", lambda _: core)
    (tmp_path / "journal").mkdir()
    found = stability.of_run(tmp_path)
    assert found.latency_s == {"p50": pytest.approx(0.04), "p99": pytest.approx(0.04), "samples": 50}
    # Of five chargers: who never showed a dead time is not one without any.
    assert found.dead_s == {
        "p5": pytest.approx(0.12), "p50": pytest.approx(0.3), "p95": pytest.approx(0.8), "chargers": 5.0
    }  # fmt: skip
    assert found.delays_s == pytest.approx((0.14, 0.24, 0.34, 0.44, 0.94))
    monkeypatch.setattr(stability, "rebuilt", lambda _: None)
    assert stability.of_run(tmp_path).delays_s == pytest.approx((0.04,))


def test_a_run_stands_in_for_the_delay(monkeypatch, capfd, run):
    found = document(monkeypatch, capfd, "--from-run", str(run[0]))
    assert found["delay_s"] == pytest.approx(np.dot(found["delays"]["delays_s"], found["delays"]["shares"]))
    assert found["delays"]["latency_s"]["samples"] > 500


def test_a_summary_tells_its_stages(tmp_path):
    path = tmp_path / "summary.json"
    path.write_bytes(
        orjson.dumps({"latency_ms": {"tick": {"p50": 1.0, "p99": 3.0}, "total": {"p50": 4.0, "p99": 9.0}}})
    )
    found = stability.of_run(path)
    assert found.latency_s["tick"] == {"p50": 0.001, "p99": 0.003}
    assert np.dot(found.delays_s, found.shares) == pytest.approx(0.009 + 0.45)


def test_without_a_word_the_simulated_fleet_s_dead_times_stand_in(monkeypatch, capfd):
    found = document(monkeypatch, capfd)
    assert found["delay_s"] == pytest.approx(0.45)
    assert "mark M" in found["delays"]["how"]


def test_grids_are_listed(monkeypatch, capfd):
    assert called(monkeypatch, "stability", "--list", "--json", "-") == 0
    assert [row["id"] for row in orjson.loads(capfd.readouterr().out)] == grids.names()
    assert called(monkeypatch, "stability", "--list") == 0
    assert "V (D, M in part)" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--product", "ercot_pfr"], "60 Hz grid"),
        (["--product", "pjm_reg_v2", "--grid", "ercot"], "answers a signal"),
        (["--fleet-mw", "5000"], "more than the whole of `island`"),
        (["--fleet-mw", "0"], "fleet_mw"),
        (["--loss-mw", "5000"], "loss_mw"),
        (["--loss-mw", "nan"], "loss_mw"),
        (["--grid", "islnd"], "did you mean `island`"),
        (["--grid", "none.toml"], "no such grid file"),
        (["--sample-ms", "15"], "multiple"),
        (["--seconds", "0"], "seconds"),
        (["--delay-ms", "-5"], "delays_s"),
        (["--delay-ms", "5", "--from-run", "x"], "give one of them"),
        (["--from-run", "nowhere.json"], "cannot be read"),
        (["--from-run", "."], "no journal there"),
        (["--json", "nowhere/x.json"], "--json"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(monkeypatch, capfd, tmp_path, words, told):
    monkeypatch.chdir(tmp_path)
    assert called(monkeypatch, *SMALL, *words, "--out", "study") == 2
    error = capfd.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert told in error[0]
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_summary_is_refused(tmp_path):
    for text in ("{}", "[]", '{"latency_ms": {"total": {"p99": "x"}}}', '{"latency_ms": {"total": {"p99": -1}}}', "no"):
        path = tmp_path / "summary.json"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(stability.StabilityError, match=r"latency_ms\.total\.p99"):
            stability.of_run(path)


def test_the_page_of_a_deep_fall_says_that_the_model_ends():
    grid = grids.load("island")
    found = study(grid, Fleet(load("ce_fcr"), 0.5, (0.1,), (1.0,)), Contingency(15.0), seconds=20.0)
    assert stability.document(found, stability.fixed(0.1))["linear"] is False


@pytest.fixture(scope="module")
def played():
    """A study of the Nordic grid and its sweep, small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("droop.stability.study.CELLS", 3)
        return study(
            grids.load("nordic"), Fleet(load("nordic_fcr_n"), 200.0, (0.4,), (1.0,)), Contingency(1450.0), seconds=20.0,
            sweep=True,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("largest_s", "words"), [(0.0, "not be of this size at any delay"), (np.inf, "any time up to 5 s"), (0.7, "0.70 s")]
)
def test_the_sentence_says_how_late_it_may_be(played, largest_s, words):
    assert words in stability.sentence(replace(played, largest_delay_s=largest_s))


def test_every_figure_of_a_grid_has_its_own_mark(played):
    grid = replace(
        played.grid, governor=(replace(played.grid.governor[0], title="hydro"),),
        marks={"size_mw": "V", "governor": "D", "governor.servo_s": "V2"}, confidence="M",
    )  # fmt: skip
    marks = {row["name"]: row["mark"] for row in stability.figures_of(replace(played, grid=grid))}
    assert (marks["size_mw"], marks["inertia_s"]) == ("V", "M")
    assert (marks["hydro: servo_s"], marks["hydro: reserve_mw"]) == ("V2", "D")


def test_the_page_draws_what_was_found(played):
    course, nyquist, sensitivity = (
        page._course(played), page._nyquist(played.loop, played.margins.peak), page._sensitivity(played.loop),
    )  # fmt: skip
    drawn = {trace.name: np.array(trace.y) for trace in course.data}
    assert drawn["without"].min() == pytest.approx(played.alone.measures.nadir_hz)
    assert drawn["with 200 MW"].min() == pytest.approx(played.played.measures.nadir_hz)
    assert drawn["fleet"].max() == pytest.approx(played.played.measures.fleet_mw)
    # Stages far below where the frequency goes would only press the plot together.
    lowest_hz = played.alone.measures.nadir_hz
    assert [line.y0 for line in course.layout.shapes] == [hz for hz in played.grid.shed_hz if hz >= lowest_hz - 0.2]
    near = replace(played, grid=replace(played.grid, shed_hz=(lowest_hz - 0.1, lowest_hz - 0.3)))
    assert [line.y0 for line in page._course(near).layout.shapes] == [lowest_hz - 0.1]

    curve, _, circle, _ = (np.array(trace.x) + 1j * np.array(trace.y) for trace in nyquist.data)
    np.testing.assert_allclose(np.abs(circle + 1.0), 1.0 / played.margins.peak, rtol=1e-12)
    assert np.abs(curve + 1.0).min() == pytest.approx(1.0 / played.margins.peak, rel=1e-3)  # it touches

    enlarged, open_loop = sensitivity.data
    assert max(enlarged.y) == pytest.approx(played.margins.peak, rel=1e-3)
    found = played.loop.along(2.0 * np.pi * np.array(open_loop.x))
    np.testing.assert_allclose(open_loop.y, np.abs(found), rtol=1e-9)


def test_each_effect_has_its_colour(played):
    heat = page._map(played, played.region).data[0]
    for effect in Effect:
        at = (effect - heat.zmin) / (heat.zmax - heat.zmin)
        (shade,) = {colour for (low, colour), (high, _) in pairwise(heat.colorscale) if low < at < high}
        assert shade == page.SHADES[effect]
    np.testing.assert_array_equal(heat.z, played.region.effect)


def test_the_table_of_the_page_sets_without_before_with(played):
    found = stability.document(played, stability.fixed(0.4))
    text = page.page(played, stability.fixed(0.4), found)
    row = re.search(r"nadir \[Hz\]</td><td[^>]*>([^<]*)</td><td[^>]*>([^<]*)</td>", text)
    assert [float(cell) for cell in row.groups()] == [
        pytest.approx(found[name]["nadir_hz"], abs=1e-3) for name in ("alone", "with_fleet")
    ]
    assert "no linear model holds" not in text
    deep = replace(played, played=played.played._replace(measures=played.played.measures._replace(worst_dev_hz=3.1)))
    assert "no linear model holds" in page.page(deep, stability.fixed(0.4), found)


def test_the_guide_s_example_runs_and_means_something():
    (source,) = re.findall(r"^```python\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    exec(compile(source, "stability.md", "exec"), {})  # noqa: S102 - our own text
    with pytest.raises(AssertionError):
        exec(compile(source.replace("spread(0.1, 0.8)", "spread(2.0, 2.1)"), "stability.md", "exec"), {})  # noqa: S102


def test_the_guide_s_grid_is_one(tmp_path):
    (source,) = re.findall(r"^```toml\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "own.toml").write_text(source, encoding="utf-8")
    grid = grids.load(str(tmp_path / "own.toml"))
    assert (grid.id, grid.governor[0].deadband_hz, grid.mark("inertia_s")) == ("own", 0.02, "V")
