"""`flyball backtest FOLDER`: all traces in it, in their order; broken and overlapping ones are named."""

from __future__ import annotations

import gzip
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import orjson
import pytest

from aggregator.cli import main
from aggregator.tracefolder import FolderError, gather, recordings
from telemetry.traces import MalformedRow, TraceError, open_trace

S = 10**9
START = datetime(2026, 6, 22, tzinfo=UTC)
T0 = int(START.timestamp()) * S


def written(path, first, seconds, bad=False):
    rows = [
        f"{START + timedelta(seconds=k):%Y-%m-%d %H:%M:%S},{50 + 0.01 * (k % 7):.3f}"
        for k in range(first, first + seconds)
    ]
    if bad:
        rows[-3] = "2026-06-22 00:00,x,y"
    path.write_text("\n".join(["dtm,f", *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path):
    """Three traces, named against their order, a gap between the last two, and what is no trace."""
    place = tmp_path / "year"
    place.mkdir()
    written(place / "c.csv", 0, 600)
    (place / "a.csv.gz").write_bytes(gzip.compress(written(place / "x", 600, 600).read_bytes()))
    (place / "x").unlink()
    written(place / "b.csv", 1300, 300)
    (place / "README").write_text("three traces\n", encoding="utf-8")
    (place / ".part.csv").write_text("dtm,f\nx,y\n", encoding="utf-8")
    (place / "more").mkdir()
    return place


def flyball(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["flyball", "backtest", *map(str, arguments), "--vehicles", "5"])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_a_folder_is_one_recording_in_the_order_of_its_rows(folder):
    (found,) = recordings([folder], open_trace)[1]
    assert [one.trace.path.rpartition("/")[2] for one in found.files] == ["c.csv", "a.csv.gz", "b.csv"]
    assert [(one.first_ns - T0, one.last_ns - T0) for one in found.files] == [
        (0, 599 * S), (600 * S, 1199 * S), (1300 * S, 1599 * S),
    ]  # fmt: skip
    told = found.to_dict()
    assert [gap["seconds"] for gap in told["gaps"]] == [1.0, 101.0]
    assert told["read"][2]["first"] == "2026-06-22T00:21:40Z"
    assert told["skipped"] == []


def test_it_runs_as_the_same_files_one_by_one(folder, tmp_path, monkeypatch):
    assert flyball(monkeypatch, folder, "--json", tmp_path / "one.json") == 0
    files = [folder / name for name in ("c.csv", "a.csv.gz", "b.csv")]
    assert flyball(monkeypatch, *files, "--json", tmp_path / "other.json") == 0
    one, other = (orjson.loads((tmp_path / name).read_bytes()) for name in ("one.json", "other.json"))
    files = one.pop("files")
    assert one == other
    assert one["samples"] == 1500
    assert [entry["file"].rpartition("/")[2] for entry in files["read"]] == ["c.csv", "a.csv.gz", "b.csv"]


def test_people_are_told_how_many_files_and_how_far_it_is(folder, monkeypatch, capsys):
    told = []
    monkeypatch.setattr(
        "aggregator.cli.backtesting.progress_bar", lambda _: nullcontext(lambda *at: not told.append(at))
    )
    assert flyball(monkeypatch, folder, "--to", "2026-06-22T00:21:40Z") == 0
    assert "read 2, skipped 0, gaps 1" in capsys.readouterr().out
    # Where the last of its files ends, from the first look on.
    assert {last_ns - T0 for _, last_ns in told} == {1199 * S}


def test_a_broken_file_stops_the_run_before_it_begins(folder, tmp_path, monkeypatch, capsys):
    written(folder / "d.csv", 1700, 300, bad=True)
    out = tmp_path / "out"
    assert flyball(monkeypatch, folder, "--out", out) == 2
    assert "d.csv" in capsys.readouterr().err
    assert not out.exists()
    with pytest.raises(MalformedRow):
        gather(folder, open_trace)


def test_with_skip_bad_rows_are_counted_and_what_cannot_be_read_is_left_out(folder, tmp_path, monkeypatch):
    written(folder / "d.csv", 1700, 300, bad=True)
    (folder / "e.csv.gz").write_bytes(gzip.compress(written(tmp_path / "e", 2100, 300).read_bytes())[:-200])
    assert flyball(monkeypatch, folder, "--skip-bad", "--json", tmp_path / "found.json") == 0
    found = orjson.loads((tmp_path / "found.json").read_bytes())
    (skipped,) = found["files"]["skipped"]
    assert skipped["file"].endswith("e.csv.gz")
    assert skipped["reason"]
    assert found["rejected"] == {"malformed": 1}
    assert found["samples"] == 1799


def test_overlaps_are_refused_by_name(folder):
    written(folder / "twice.csv", 1199, 5)
    with pytest.raises(FolderError, match=r"twice\.csv: begins 2026-06-22T00:19:59Z, before .*a\.csv\.gz ends"):
        gather(folder, open_trace, skip_bad=True)


def test_a_span_of_time_is_all_that_is_run(folder, tmp_path, monkeypatch):
    span = ("--from", "2026-06-22T00:05:00Z", "--to", "2026-06-22T00:15:00Z")
    assert flyball(monkeypatch, folder, *span, "--json", tmp_path / "found.json") == 0
    found = orjson.loads((tmp_path / "found.json").read_bytes())
    assert found["samples"] == 600
    assert [entry["file"].rpartition("/")[2] for entry in found["files"]["read"]] == ["c.csv", "a.csv.gz"]
    traces, _ = recordings([folder / "c.csv"], open_trace, from_ns=T0 + 590 * S, to_ns=T0 + 595 * S)
    assert np.concatenate(list(traces[0]))["t_ns"].tolist() == [T0 + k * S for k in range(590, 595)]
    assert traces[0].rows == 5


def test_what_lies_outside_the_span_is_not_read_to_its_end(folder):
    written(folder / "d.csv", 1700, 30_000, bad=True)
    written(folder / "0.csv", -40_000, 30_000, bad=True)
    found = gather(folder, open_trace, from_ns=T0 + 700 * S, to_ns=T0 + 1400 * S)
    assert [one.trace.path.rpartition("/")[2] for one in found.files] == ["a.csv.gz", "b.csv"]


@pytest.mark.parametrize(
    ("from_ns", "to_ns", "why"),
    [(T0 + 10 * S, T0 + 10 * S, "--to .* is not after --from"), (T0 + 9999 * S, None, "no row in the span"),
     (None, T0, "no row in the span")],
)  # fmt: skip
def test_a_span_of_nothing_is_refused(folder, from_ns, to_ns, why):
    with pytest.raises(FolderError, match=why):
        recordings([folder], open_trace, from_ns=from_ns, to_ns=to_ns)


def test_a_folder_without_a_trace_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing\n", encoding="utf-8")
    with pytest.raises(FolderError, match="no trace of frequency"):
        gather(tmp_path, open_trace)


def test_options_of_the_reader_hold_for_every_file(folder):
    with pytest.raises(TraceError):
        gather(folder, partial(open_trace, tz="Nowhere/Here"))


@pytest.mark.parametrize("option", ["--from", "--to"])
def test_a_time_that_is_none_is_named(folder, monkeypatch, capsys, option):
    assert flyball(monkeypatch, folder, option, "yesterday") == 2
    assert option in capsys.readouterr().err
