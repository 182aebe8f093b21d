"""The whole suite as two pytest runs side by side: what waits for processes beside what computes.

    python -m tests [pytest options]

Kernels are compiled before, once. The second run's report is printed when the first has ended; the exit status is the
worse of the two. `python -m pytest` with a path runs a part as ever.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from aggregator.compiling import ensure

ROOT = Path(__file__).resolve().parents[1]
# Of about the same length on two cores.
FIRST = ("tests/aggregator", "tests/droop")
SECOND = ("tests",)
NOTHING_COLLECTED = 5


def command(paths: tuple[str, ...], name: str) -> list[str]:
    """One run: these paths, each with a cache of its own."""
    ignored = [f"--ignore={path}" for path in FIRST] if paths is SECOND else []
    own = ["-o", f"cache_dir=.pytest_cache/{name}"]
    return [sys.executable, "-m", "pytest", *own, *ignored, *paths, *sys.argv[1:]]


def main() -> int:
    """Both runs; the worse status."""
    ensure()
    with tempfile.TemporaryFile() as report:
        beside = subprocess.Popen(command(SECOND, "second"), cwd=ROOT, stdout=report, stderr=subprocess.STDOUT)
        try:
            first = subprocess.run(command(FIRST, "first"), cwd=ROOT, check=False).returncode
            second = beside.wait()
        finally:
            beside.terminate()
        report.seek(0)
        sys.stdout.write(report.read().decode(errors="replace"))
    # With a selection (-k) one of the two may have nothing to run.
    statuses = {first, second} - {NOTHING_COLLECTED} or {NOTHING_COLLECTED}
    return max(statuses)


if __name__ == "__main__":
    raise SystemExit(main())
