"""Years of frequency through the pool: one battery, 64 side by side, and SimSES under the same rule where there is one.

SimSES lives in an environment of its own; `FLYBALL_SIMSES_PYTHON` names its interpreter:

    python -m venv build/simses && build/simses/bin/pip install simses==1.3.12
    FLYBALL_SIMSES_PYTHON=build/simses/bin/python python -m benchmarks --only studies
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.fleets import trace_hz
from benchmarks.measure import Figure
from droop.pooled import Case, Pool
from droop.products import load

YEAR = 31_536_000
SWEEP = 64
PEER_S = 3_600


def run(quick: bool) -> list[Figure]:
    """`backtest.year_ns_per_step` and `backtest.sweep64_s`; the best of two."""
    steps = YEAR // 12 if quick else YEAR
    hz = np.resize(trace_hz(1_000_000).astype(np.float32), steps)
    best = {count: min(taken_s(hz, count, workers) for _ in range(2)) for count, workers in ((1, 1), (SWEEP, 2))}
    begun_s = time.perf_counter()
    hz.sum()
    stream_s = time.perf_counter() - begun_s
    told = f"{steps / YEAR:.3g} of a year of 1 s"
    return [
        Figure("backtest.year_ns_per_step", best[1] / steps * 1e9, "ns", f"goal 6; one battery, {told}"),
        Figure(
            "backtest.sweep64_s", best[SWEEP] * YEAR / steps, "s", f"goal 4; {SWEEP} batteries, two threads, {told}"
        ),
        Figure("backtest.sweep_ns_per_step", best[SWEEP] / steps / SWEEP * 1e9, "ns", "a step of one of them"),
        Figure("backtest.year_over_stream", best[1] / stream_s, "1", "over a pass of numpy over the same bytes"),
        *peer(),
    ]


def taken_s(hz: np.ndarray, count: int, workers: int) -> float:
    """A year of `count` choices of how much German FCR to sell."""
    product = load("ce_fcr_de")
    cases = [
        Case(product.response, 1000.0 + 5.0 * k, 2000.0, 1250.0, 1250.0, overfulfil_max=1.2) for k in range(count)
    ]  # fmt: skip
    Pool(cases, 50.0, 1.0).feed(hz[:10], workers)
    pool = Pool(cases, 50.0, 1.0)
    begun_s = time.perf_counter()
    pool.feed(hz, workers)
    return time.perf_counter() - begun_s


def peer() -> list[Figure]:
    """Steps a second of one battery, SimSES and ours, over the same hour."""
    python = os.environ.get("FLYBALL_SIMSES_PYTHON", sys.executable)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frequency.npy"
        np.save(path, trace_hz(PEER_S + 10))
        script = Path(__file__).with_name("simses_fcr.py")
        done = subprocess.run([python, str(script), str(path)], capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            return [
                Figure("peers.simses.steps_per_s", None, "1/s", f"not to be had: {lines[-1] if lines else 'no word'}")
            ]
        theirs = json.loads(done.stdout.splitlines()[-1])["steps_per_s"]
        ours = PEER_S / taken_s(np.load(path)[:PEER_S], 1, 1)
    return [
        Figure("peers.simses.steps_per_s", theirs, "1/s", "SimSES 1.3.12, one battery under German FCR"),
        Figure("peers.pool.steps_per_s", ours, "1/s", f"ours, {ours / theirs:.3g} times as many"),
    ]
