"""Reading recorded frequency: rows a second of a plain 1 s file, beside a reader of tables in C++ on the same bytes."""

from __future__ import annotations

import gzip
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from pyarrow import csv

from benchmarks.fleets import trace_hz
from benchmarks.measure import Figure
from telemetry.traces import inspect, open_trace

DAY_S = 86_400


def file_of(folder: Path, days: int) -> Path:
    """Days at 1 s as NESO publishes them: three decimals, no zeros at the end."""
    values = [f"{value:.3f}".rstrip("0").rstrip(".") for value in trace_hz(10 * DAY_S)[::10]]
    clock = [f"{k // 3600:02d}:{k // 60 % 60:02d}:{k % 60:02d}" for k in range(DAY_S)]
    body = "".join(f"@ {at},{value}\n" for at, value in zip(clock, values, strict=True))
    begin = datetime(2026, 1, 13, tzinfo=UTC)
    path = folder / "days.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("dtm,f\n")
        for day in range(days):
            file.write(body.replace("@", f"{begin + timedelta(days=day):%Y-%m-%d}"))
    return path


def best_s(call: Callable[[], object], repeats: int) -> float:
    """Least processor time of one call: what others take of a shared machine is not ours to count."""
    taken = []
    for _ in range(repeats):
        begun_ns = time.thread_time_ns()
        call()
        taken.append(time.thread_time_ns() - begun_ns)
    return min(taken) / 1e9


def run(quick: bool) -> list[Figure]:
    """`trace.rows_per_s`, and what zipping, the report and another reader make of it."""
    days, repeats = (2, 5) if quick else (10, 9)
    rows = days * DAY_S
    with tempfile.TemporaryDirectory() as folder:
        path = file_of(Path(folder), days)
        zipped = Path(folder) / "days.csv.gz"
        zipped.write_bytes(gzip.compress(path.read_bytes()))

        def read(file: Path) -> None:
            assert sum(block.size for block in open_trace(file)) == rows

        def arrow() -> None:
            table = csv.read_csv(path, read_options=csv.ReadOptions(use_threads=False))
            assert table.num_rows == rows
            np.asarray(table["f"])

        plain_s, arrow_s = best_s(lambda: read(path), repeats), best_s(arrow, repeats)
        zipped_s, report_s = best_s(lambda: read(zipped), 3), best_s(lambda: inspect(open_trace(path)), 3)
    return [
        Figure("trace.rows_per_s", rows / plain_s, "1/s", "goal 3e6; plain 1 s CSV, of one core"),
        Figure("trace.over_arrow", plain_s / arrow_s, "1", "time of pyarrow.csv, one thread, no reasons for bad rows"),
        Figure("trace.rows_per_s.gzip", rows / zipped_s, "1/s", "unzipping included"),
        Figure("trace.rows_per_s.inspect", rows / report_s, "1/s", "with the report of `flyball inspect`"),
    ]
