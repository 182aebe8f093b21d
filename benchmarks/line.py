"""The whole line on real processes: loss, latency, memory and start, as `flyball run` reports them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure
from telemetry.stages import STAGES

VEHICLES, MANY, RATE_HZ = 10_000, 100_000, 50


def run(quick: bool) -> list[Figure]:
    """`line.*`: 15 s quick, 60 s full, and then as long with ten times the vehicles."""
    seconds = 15 if quick else 60
    result = play(VEHICLES, seconds)
    total = result["latency_ms"]["total"]
    figures = [
        Figure("line.latency_p99_ms", total["p99"], "ms", f"goal 20; {result['scheduling']}"),
        Figure("line.latency_p50_ms", total["p50"], "ms"),
        Figure("line.latency_max_ms", total["max"], "ms"),
        Figure("line.samples_lost", result["samples_lost"], "samples", f"goal 0; of {result['samples_in']}"),
        Figure("line.rss_mb", result["rss_mb"], "MB", "goal 1500"),
        Figure("line.warm_start_s", result["warm_start_s"], "s", "goal 5"),
        Figure("line.score", result["score"], "1", result["score_note"]),
    ]
    return figures if quick else figures + many(seconds)


def many(seconds: int) -> list[Figure]:
    """`line.*.1e5`."""
    result = play(MANY, seconds)
    stages = {name: round(found["p99"], 2) for name, found in result["latency_ms"].items() if name in STAGES}
    total = result["latency_ms"]["total"]
    return [
        Figure("line.latency_p99_ms.1e5", total["p99"], "ms", f"goal 10; p99 by stage {json.dumps(stages)}"),
        Figure("line.latency_p50_ms.1e5", total["p50"], "ms"),
        Figure("line.latency_max_ms.1e5", total["max"], "ms"),
        Figure("line.samples_lost.1e5", result["samples_lost"], "samples", f"of {result['samples_in']}"),
        Figure("line.rss_mb.1e5", result["rss_mb"], "MB"),
    ]


def play(vehicles: int, seconds: int) -> dict[str, Any]:
    """The summary of a run of so many vehicles."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "flyball.toml"
        config.write_text(f'folder = "{folder}/var"\n', encoding="utf-8")
        command = [
            sys.executable, "-m", "aggregator.cli", "run", "--config", str(config), "--vehicles", str(vehicles),
            "--rate", str(RATE_HZ), "--no-browser", "--port", "0", "--json", "-", "--seconds",
        ]  # fmt: skip
        # The first start may compile kernels; a warm start is what is measured.
        subprocess.run([*command, "1"], check=True, capture_output=True)
        done = subprocess.run([*command, str(seconds)], check=True, capture_output=True)
    return dict(json.loads(done.stdout))
