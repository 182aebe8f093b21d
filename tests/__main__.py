"""The whole suite as three pytest runs side by side: what waits for processes beside two that compute.

    python -m tests [pytest options]

Kernels are compiled before, once. Reports of the later runs are printed when all have ended; the exit status is the
worst of all. `python -m pytest` with a path runs a part as ever.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from aggregator.compiling import ensure

ROOT = Path(__file__).resolve().parents[1]
WAITING = "tests/scenarios"
COMPUTING = 2
NOTHING_COLLECTED = 5


def dealt() -> list[list[str]]:
    """Paths of each run: the files that compute by size, largest first, each to the run with least; then the others."""
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if WAITING not in path.as_posix()]
    runs: list[list[str]] = [[] for _ in range(COMPUTING)]
    sizes = [0] * COMPUTING
    for path in sorted(files, key=lambda path: (-path.stat().st_size, path)):
        least = sizes.index(min(sizes))
        runs[least].append(str(path.relative_to(ROOT)))
        sizes[least] += path.stat().st_size
    return [*(sorted(run) for run in runs), [WAITING]]


def start(number: int, paths: list[str], output: IO[bytes] | None) -> subprocess.Popen[bytes]:
    """One run, with a cache of its own."""
    own = ["-o", f"cache_dir=.pytest_cache/{number}"]
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *own, *paths, *sys.argv[1:]],
        cwd=ROOT,
        stdout=output,
        stderr=None if output is None else subprocess.STDOUT,
    )


def main() -> int:
    """All runs; the worst status."""
    ensure()
    runs = dealt()
    reports: list[IO[bytes]] = [tempfile.TemporaryFile() for _ in runs[1:]]  # noqa: SIM115 - closed below
    started = [start(k, paths, ([None, *reports])[k]) for k, paths in enumerate(runs)]
    try:
        statuses = {run.wait() for run in started}
    finally:
        for run in started:
            run.terminate()
    for report in reports:
        with report:
            report.seek(0)
            sys.stdout.write(report.read().decode(errors="replace"))
    # With a selection (-k) some of them may have nothing to run.
    return max(statuses - {NOTHING_COLLECTED} or {NOTHING_COLLECTED})


if __name__ == "__main__":
    raise SystemExit(main())
