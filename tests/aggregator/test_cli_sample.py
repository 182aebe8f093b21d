"""A made-up recording is what the other commands read, the same for the same seed, and refused where it cannot be."""

from __future__ import annotations

import gzip

import numpy as np
import orjson
import pytest
from typer.main import get_command

from aggregator.cli import app, main
from aggregator.cli.output import FIRST
from telemetry.traces import inspect, open_trace


def called(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["flyball", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_it_is_a_recording_without_a_fault(monkeypatch, capfd, tmp_path):
    path = tmp_path / "hour.csv.gz"
    assert called(monkeypatch, "sample", str(path), "--hours", "1", "--json", "-") == 0
    told = orjson.loads(capfd.readouterr().out)
    report = inspect(open_trace(path))
    assert (report.rows, report.period_s, report.rejected) == (3600, 1.0, {})
    rows = open_trace(path).read_all()
    assert str(rows["t_ns"][:1].astype("datetime64[ns]")[0]) == "2026-01-01T00:00:00.000000000"
    assert set(np.diff(rows["t_ns"]).tolist()) == {10**9}
    assert rows["hz"].min() == told["lowest_hz"]
    assert rows["hz"].max() == told["highest_hz"]
    assert 49.5 < told["lowest_hz"] < 49.95 < told["mean_hz"] < 50.02 < told["highest_hz"] < 50.3


def test_the_same_seed_is_the_same_file(monkeypatch, tmp_path):
    one, same, other = (tmp_path / name for name in ("one.csv.gz", "same.csv.gz", "other.csv"))
    for path, seed in ((one, "1"), (same, "1"), (other, "2")):
        words = ["--hours", "0.1", "--step-s", "0.1", "--nominal-hz", "60", "--seed", seed]
        assert called(monkeypatch, "sample", str(path), *words) == 0
    assert one.read_bytes() == same.read_bytes()
    lines = gzip.decompress(one.read_bytes()).splitlines()
    assert lines != other.read_bytes().splitlines()
    assert len(lines) == 3601
    assert lines[2].startswith(b"2026-01-01T00:00:00.100Z,")
    assert abs(open_trace(one).read_all()["hz"].mean() - 60.0) < 0.1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--hours", "0"], "--hours"), (["--hours", "nan"], "--hours"), (["--hours", "9000"], "--hours"),
        (["--step-s", "0"], "--step-s"), (["--step-s", "0.001", "--hours", "24"], "--step-s"),
        (["--nominal-hz", "55"], "--nominal-hz"), (["--json", "none/x.json"], "--json"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_refused_by_name(monkeypatch, capfd, tmp_path, words, told):
    monkeypatch.chdir(tmp_path)
    assert called(monkeypatch, "sample", "day.csv", *words) == 2
    error = capfd.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert told in error[0]
    assert called(monkeypatch, "sample", "none/day.csv") == 2
    assert "FILE none/day.csv: no such folder" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_one_asks_first_stands_first(monkeypatch, capfd):
    assert called(monkeypatch, "--help") == 0
    listed = capfd.readouterr().out.split("Commands:\n")[1].splitlines()
    names = [line.split()[0] for line in listed if line.strip() and not line.startswith("   ")]
    assert names[: len(FIRST)] == list(FIRST)
    assert set(names) == set(get_command(app).commands)


def test_a_word_that_is_no_command_is_one_clean_sentence(monkeypatch, capfd):
    assert called(monkeypatch, "foo") == 2
    assert capfd.readouterr().err == "flyball: No such command 'foo'; `flyball --help` lists what there is\n"
