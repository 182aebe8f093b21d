"""Kernels are compiled apart: who decides only loads them, and what is left of a compilation is whole or nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aggregator import compiling

ROOT = Path(__file__).resolve().parents[2]

# A backtest, its statements and a replayed core, in a process of its own: what it compiled itself is printed.
RUN = """
import gc
import numpy as np
from numba.core.dispatcher import Dispatcher
from aggregator.backtest import Backtest
from aggregator.contracts import Contract, CoreSettings
from droop.products import load
from settlement.interval import LEAD_S
from telemetry.quality import GateSettings
from telemetry.samples import FREQUENCY

S = 10**9
settings = CoreSettings("ce", 60, (Contract(load("ce_fcr"), 100.0), Contract(load("gb_dc_low"), 20.0)))
test = Backtest(settings, GateSettings(), 1_790_000_000 * S, 3)
times = 1_790_000_000 * S + S * np.arange(1, LEAD_S + 100)
rows = np.zeros(times.size, FREQUENCY)
rows["t_ns"] = rows["rx_ns"] = times
rows["hz"], rows["volt_frac"] = 50.0 + 0.15 * np.sin(np.arange(times.size) / 7.0), 1.0
test.feed(rows)
assert list(test.statements())
missed = [k for k in gc.get_objects() if isinstance(k, Dispatcher) and k.stats.cache_misses]
print(sorted({(k.__module__, k.__name__) for k in missed}))
"""


def start(folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-m", "aggregator.compiling"], cwd=ROOT, env=environment, stdin=subprocess.PIPE
    )


def test_who_runs_after_it_loads_everything() -> None:
    compiling.ensure()
    assert compiling.complete()
    ended = subprocess.run([sys.executable, "-c", RUN], cwd=ROOT, capture_output=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr.decode()[-2000:]
    assert ended.stdout.decode() == "[]\n"


def test_it_ends_with_its_parent_and_leaves_no_mark(tmp_path: Path) -> None:
    with start(tmp_path) as child:
        while not list(tmp_path.glob(f"*/{compiling.LOCK}")):
            assert child.poll() is None
            time.sleep(0.05)  # real time: another process' start
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(30) == 1
    assert not list(tmp_path.glob("*/whole-*"))


def test_a_mark_is_believed_and_nothing_is_compiled_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiling, "cache_folder", lambda: tmp_path)
    assert not compiling.complete()
    compiling._mark(tmp_path).touch()
    assert compiling.complete()
    monkeypatch.setattr(compiling.subprocess, "Popen", None)
    compiling.ensure()


def test_without_a_folder_there_is_nothing_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "cache_folder", lambda: None)
    assert compiling.complete()


def test_told_to_stop_it_leaves_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Told:
        def __bool__(self) -> bool:
            return True

        def wait(self, seconds: float) -> bool:
            raise AssertionError(f"waited {seconds} s")

    monkeypatch.setattr(compiling, "cache_folder", lambda: tmp_path)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    compiling.ensure(stop=Told())
    assert not list(tmp_path.glob("**/whole-*"))
