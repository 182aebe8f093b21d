"""Runs of the whole line that nobody disturbs, three at once: what they say of themselves, and that they agree."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from aggregator import journal, journal_parts, journal_survey
from aggregator.journal import Kind
from aggregator.records import Fate
from telemetry import wire
from telemetry.samples import Quality
from tests.scenarios.lines import Line, finished, flyball, need_iec61850

pytestmark = pytest.mark.scenario

KEYS = {
    "samples_in", "samples_lost", "ticks", "commands", "rejected", "latency_ms", "requested_kwh", "delivered_kwh",
    "score", "score_note", "alarms", "rss_mb", "warm_start_s",
}  # fmt: skip
SOLD_KW = 400.0  # 200 vehicles, two kW each
HALF_TICK = 1e-3 * SOLD_KW


def ticks(line: Line) -> np.ndarray:
    return journal.read(line.run / "journal", Kind.TICKS).rows


def test_a_run_says_all_the_contract_promises(played: dict[str, Line]) -> None:
    summary = finished(played["clean"])
    assert summary.keys() >= KEYS
    assert summary["samples_in"] > 14 * 20 * 0.8
    assert summary["samples_lost"] == 0
    assert summary["ticks"] >= summary["samples_in"]
    assert summary["commands"] > 0
    assert summary["rejected"] == {}
    assert set(summary["alarms"]) <= {"STALE_REPORTS"}  # a machine that stood still for 5 s raises it rightly
    assert summary["requested_kwh"] > 0
    assert summary["delivered_kwh"] > 0
    assert summary["bound_violations"] == 0
    assert summary["max_sum_error_kw"] < 1e-3
    assert summary["restarts"] == {}
    assert summary["warm_start_s"] > 0
    assert summary["rss_mb"] > 0
    for stage in ("report", "stream", "engine", "publish", "total"):
        figures = summary["latency_ms"][stage]
        assert 0 < figures["p50"] <= figures["p99"]
        assert figures["p50"] <= figures["max"]
    assert {(s["product"], s["sold_kw"]) for s in summary["statements"]} == {("ce_fcr", SOLD_KW)}


def test_every_sample_published_was_ticked_in_order(played: dict[str, Line]) -> None:
    line = played["clean"]
    summary = finished(line)
    blocks = [wire.decode(entry.payload) for entry in line.entries(Kind.SAMPLES)]
    t_ns = np.concatenate([block["t_ns"] for block in blocks])
    assert t_ns.size == summary["samples_in"]
    assert (np.diff(t_ns) > 0).all()
    sampled = ticks(line)
    assert np.isin(t_ns, sampled["t_ns"]).all()


def test_the_request_follows_the_product(played: dict[str, Line]) -> None:
    rows = ticks(played["clean"]) if played["clean"].wait() == 0 else None
    assert rows is not None
    good = rows[(rows["quality"] == 0) & np.isfinite(rows["hz"])][60:]  # past the fading-in
    wanted_kw = -np.clip((good["hz"] - 50.0) / 0.2, -1, 1) * SOLD_KW
    # 10 mHz of insensitivity at most, and the product's own delay and ramp on a slowly moving frequency.
    assert np.abs(good["response_kw"] - wanted_kw).max() < 0.15 * SOLD_KW
    assert np.corrcoef(good["response_kw"], wanted_kw)[0, 1] > 0.8


def test_a_replay_gives_the_same_bytes_and_notices_one_that_is_not(played: dict[str, Line], tmp_path: Path) -> None:
    line = played["clean"]
    finished(line)
    same = flyball(line.folder, "replay", str(line.run), "--json", "-")
    found = json.loads(same.stdout)
    assert same.returncode == 0, same.stderr
    assert found["same"] is True
    assert found["commands"] == found["equal"] > 0
    assert found["gaps"] == 0

    forged = tmp_path / "forged"
    shutil.copytree(line.run, forged)
    _move_one_sample(forged / "journal")
    other = flyball(tmp_path, "replay", "forged", "--json", "-")
    assert other.returncode == 1
    assert json.loads(other.stdout)["same"] is False
    assert other.stderr.decode().count("\n") == 1


def _move_one_sample(folder: Path) -> None:
    """One journalled frequency, some way in, by 20 mHz; whoever did it mended the manifest too."""
    part = max(journal_survey.survey(folder).parts, key=lambda part: part.entries)
    tables = {name: pq.read_table(part.table(name), partitioning=None) for name in part.tables}
    hz = tables["frequency"]["hz"].to_numpy().copy()
    acted_on = np.flatnonzero(tables["frequency"]["fate"].to_numpy() == Fate.TICKED)
    hz[acted_on[acted_on.size // 2]] += 0.02
    at = tables["frequency"].schema.get_field_index("hz")
    tables["frequency"] = tables["frequency"].set_column(at, "hz", [hz])
    journal_parts.write(part, {name: [table] for name, table in tables.items()})


def test_settling_the_files_again_gives_the_same_statements(played: dict[str, Line]) -> None:
    line = played["clean"]
    told = {row["key"]: row for row in finished(line)["statements"]}
    again = flyball(line.folder, "settle", str(line.run), "--json", "-")
    assert again.returncode == 0, again.stderr
    found = {row["key"]: row for row in json.loads(again.stdout)}
    assert found.keys() == told.keys()
    for key, row in told.items():
        if row["final"] or row["until_ns"] == found[key]["until_ns"]:
            assert found[key] == row
    assert any(found[key]["until_ns"] == row["until_ns"] for key, row in told.items())


def test_faults_of_the_unit_are_counted_and_move_nothing(faulty: Line) -> None:
    line, summary = faulty, finished(faulty)
    assert summary["samples_lost"] == 0
    assert summary["rejected"].keys() >= {"spike", "nan", "zero", "stuck", "dead_bus"}
    assert {"clock_jump", "order", "age"} & summary["rejected"].keys()
    assert {"FREQUENCY_LOST", "DEAD_BUS"} <= set(summary["alarms"])
    assert summary["bound_violations"] == 0

    rows = ticks(line)
    quality = rows["quality"].astype(int)
    for flag in (Quality.SPIKE, Quality.NAN, Quality.ZERO, Quality.STUCK, Quality.DEAD_BUS):
        marked = int(((quality & flag) != 0).sum())
        assert marked == summary["rejected"][str(flag.name).lower()], flag
    # What a rejected value would ask for is far beyond anything the fleet was asked.
    spikes = np.flatnonzero(quality & Quality.SPIKE)
    assert (rows["hz"][spikes] < 49.0).all()
    step_kw = np.abs(np.diff(rows["response_kw"], prepend=rows["response_kw"][0]))
    assert step_kw[spikes].max() < 0.02 * SOLD_KW
    good = rows[(quality == 0) & np.isfinite(rows["hz"])]
    most_kw = min(np.abs(good["hz"] - 50.0).max() / 0.2, 1.0) * SOLD_KW
    assert np.abs(rows["response_kw"]).max() <= most_kw + HALF_TICK
    # A rejected sample never enlarges the response.
    for flag in (Quality.NAN, Quality.ZERO, Quality.STUCK):
        at = np.flatnonzero(quality & flag)
        assert (np.abs(rows["response_kw"][at]) <= np.abs(rows["response_kw"][at - 1]) + HALF_TICK).all(), flag


def test_a_dead_bus_is_given_nothing_at_once(faulty: Line) -> None:
    rows = ticks(faulty)
    dead = np.flatnonzero(rows["quality"].astype(int) & Quality.DEAD_BUS)
    assert dead.size > 20
    assert (rows["response_kw"][dead] == 0.0).all()
    assert np.allclose(rows["request_kw"][dead], rows["baseline_kw"][dead])
    assert (rows["hz"][dead].min() < 49.9) or rows["hz"][dead].std() > 0  # the ghost frequency that asks for discharge
    after = rows["response_kw"][dead[-1] + 1 : dead[-1] + 5]
    assert np.abs(after).max() < 0.5 * SOLD_KW  # it comes back by ramp, not by a step


def test_silence_holds_then_ramps_then_recovers(faulty: Line) -> None:
    alarms = [json.loads(entry.payload) for entry in faulty.entries(Kind.ALARM)]
    lost = [alarm for alarm in alarms if alarm["code"] == "FREQUENCY_LOST"]
    assert [bool(alarm["cleared_ns"]) for alarm in lost] == [False, True] * (len(lost) // 2)
    assert lost
    rows = ticks(faulty)
    rows = rows[np.argmax(rows["mode"] != 0) :]  # a busy machine may be long in starting
    # The silence: the longest stretch of ticks without a sample of their own.
    none = ~np.isfinite(rows["hz"]) & (rows["quality"] == 0)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], none.view(np.int8), [0]])))
    begin, end = max(zip(edges[::2], edges[1::2], strict=True), key=lambda span: span[1] - span[0])
    modes = rows["mode"][begin:end].tolist()
    assert modes == sorted(modes)  # normal -> hold -> ramp -> baseline, never back
    assert modes[0] == 2
    assert modes[-1] in (3, 4)
    held = rows["response_kw"][begin:end][rows["mode"][begin:end] == 2]
    assert np.ptp(held) < 0.05 * SOLD_KW
    assert abs(rows["response_kw"][end - 1]) < abs(held[0]) + HALF_TICK
    assert 1 in rows["mode"][end:]


def test_the_permissive_library_carries_the_line_as_well(played: dict[str, Line]) -> None:
    need_iec61850("open61850")
    line = played["permissive"]
    summary = finished(line)
    assert summary["samples_in"] > 14 * 20 * 0.8
    assert summary["samples_lost"] == 0
    assert summary["rejected"] == {}
    assert summary["commands"] > 0


def test_runs_at_once_do_not_disturb_each_other(played: dict[str, Line]) -> None:
    for line in played.values():
        finished(line)
    tables = [line.table() for line in played.values()]
    for name in ("api", "unit"):
        assert len({table["config"][name]["port"] for table in tables}) == len(tables)
    assert len({table["url"] for table in tables}) == len(tables)
    for line in played.values():
        assert len(list(line.folder.glob("var/run-*"))) == 1
        assert line.summary()["samples_lost"] == 0


def test_no_secret_is_written_where_it_does_not_belong(played: dict[str, Line]) -> None:
    line = played["clean"]
    finished(line)
    key = (line.run / "keys" / "command-1.key").read_text(encoding="ascii").strip()
    secrets = [key.encode(), bytes.fromhex(key), line.token.encode()]
    others = [path for path in line.folder.rglob("*") if path.is_file() and path.parent.name != "keys"]
    assert len(others) > 5
    for path in others:
        assert not [secret for secret in secrets if secret in path.read_bytes()], path
    tables = [*line.run.glob("journal/*/calls-*.parquet"), *line.run.glob("journal/*/commands-*.parquet")]
    assert tables
    for table in tables:  # compressed: look inside
        inside = b"".join(pq.read_table(table, partitioning=None)["payload"].to_pylist())
        assert not [secret for secret in secrets if secret in inside]
    for path in (line.run / "keys").iterdir():
        assert path.stat().st_mode & 0o077 == 0
    assert line.run.stat().st_mode & 0o077 == 0


def test_a_recorded_trace_is_played_to_its_end(make_line: Callable[..., Line], tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    rows = [f"2026-06-22 00:00:{k:02d}.0,{50 + 0.002 * k:.3f}" for k in range(60)]
    trace.write_text("\n".join(["dtm,f", *rows]) + "\n", encoding="utf-8")
    line = make_line("--trace", str(trace), "--vehicles", "50", "--rate", "20", "--seconds", "4")
    summary = finished(line)
    assert summary["samples_lost"] == 0
    hz = ticks(line)["hz"]
    hz = hz[np.isfinite(hz)]
    assert (np.diff(hz) >= -2e-4).all()  # the ramp of the file, interpolated to 20 Hz, and an instrument's last digits
    assert np.diff(hz).max() < 0.0011
