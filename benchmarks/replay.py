"""A recorded day through the whole engine, from the file to the score, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from benchmarks.fleets import trace_hz
from benchmarks.measure import Figure

VEHICLES = 1_000


def day_file(folder: Path) -> Path:
    """A generated day at 1 s, as a trace file."""
    hz = trace_hz(864_000)[::10]
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [f"{(begin + timedelta(seconds=k)):%Y-%m-%d %H:%M:%S},{value:.6f}" for k, value in enumerate(hz)]
    path = folder / "day.csv"
    path.write_text("dtm,f\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def run(quick: bool) -> list[Figure]:
    """`replay.day_1k_s`: wall time of the command, and its own processor time."""
    del quick
    with tempfile.TemporaryDirectory() as folder:
        path = day_file(Path(folder))
        command = [sys.executable, "-m", "aggregator.cli", "backtest", str(path), "--vehicles", str(VEHICLES)]
        # The first run on a machine compiles kernels; a warm one is what is measured.
        short = Path(folder) / "short.csv"
        short.write_text("\n".join(path.read_text(encoding="utf-8").splitlines()[:61]) + "\n", encoding="utf-8")
        subprocess.run([*command[:4], str(short), *command[5:]], check=True, capture_output=True)
        begun_s = time.perf_counter()
        done = subprocess.run([*command, "--json", "-"], check=True, capture_output=True)
        taken_s = time.perf_counter() - begun_s
    result = json.loads(done.stdout)
    assert result["samples"] == 86_400
    return [
        Figure("replay.day_1k_s", taken_s, "s", "goal 10"),
        Figure("replay.live_path_vehicle_ticks_per_s", VEHICLES * 86_400 / taken_s, "1/s", "simulated fleet included"),
        Figure("replay.day_1k_score", float(np.float64(result["score"])), "1"),
    ]
