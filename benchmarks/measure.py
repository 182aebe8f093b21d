"""What the benchmarks share: figures, the machine, interleaved timing, the stream pass they are compared with.

A busy machine changes speed by the second, so a kernel and its yardstick take turns and the medians are compared.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from droop.numerics import kernel

OUT = Path(__file__).parent / "out"


@dataclass(frozen=True)
class Figure:
    """One measured number. against : what it is compared with, or the goal it is held to"""

    name: str
    value: float | None
    unit: str
    against: str = ""


@kernel
def stream(out: Any, a: Any, b: Any, c: Any, d: Any) -> None:
    """The yardstick: four reads and one write an element, nothing to compute."""
    for i in range(out.size):
        out[i] = a[i] + b[i] + c[i] + d[i]


def interleaved_ns(*calls: Callable[[int], Any], rounds: int) -> list[list[int]]:
    """Times of each call, taken in turn. Each is given the round's number."""
    times: list[list[int]] = [[] for _ in calls]
    for k in range(rounds):
        for taken, call in zip(times, calls, strict=True):
            begun_ns = time.perf_counter_ns()
            call(k)
            taken.append(time.perf_counter_ns() - begun_ns)
    return times


def ratio(times: list[int], yardstick: list[int]) -> float:
    """Median over median."""
    return statistics.median(times) / statistics.median(yardstick)


def rounds_for(rows: int, budget_rows: float = 3e7) -> int:
    """How often to measure `rows` elements: enough for a median, bounded in time."""
    return int(np.clip(budget_rows / rows, 31, 2001))


def machine() -> dict[str, Any]:
    """What this was measured on."""
    model = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": list(os.getloadavg()),
    }


def commit() -> str:
    """The commit measured, with a plus when the tree differs from it."""
    here = Path(__file__).parent
    try:
        command = ["git", "describe", "--always", "--dirty=+", "--abbrev=12"]
        head = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip()


def write(name: str, figures: list[Figure]) -> Path:
    """The figures of one module where scripts find them."""
    OUT.mkdir(exist_ok=True)
    path = OUT / f"{name}.json"
    document = {"machine": machine(), "commit": commit(), "figures": [asdict(figure) for figure in figures]}
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return path
