"""The day on which the bus died, told by several sources: no choice makes a ghost usable.

The file is not part of the repository: FLYBALL_DATA, or `shared/data` beside it.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest

from telemetry.choice import Choice, ChoiceSettings
from telemetry.median import MedianGate
from telemetry.quality import Gate
from telemetry.samples import Quality
from telemetry.traces import open_trace

DATA = Path(os.environ.get("FLYBALL_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
TOLEDO = DATA / "frequency" / "iberia_blackout_2s" / "toledo_data.csv"

pytestmark = pytest.mark.skipif(not TOLEDO.is_file(), reason=f"no recorded trace {TOLEDO}")

S = 1_000_000_000
FIRST_DEAD = (93 * 60 + 24) // 2  # 12:33:24, see test_real_traces


@pytest.fixture(scope="module")
def rows():
    return open_trace(TOLEDO, tz="Europe/Madrid").read_all()


def told_by(rows, number, *, late_s, volt=True, gate=Gate):
    """The recorded rows as one source of several, judged."""
    out = rows.copy()
    out["source"], out["rx_ns"] = number, out["t_ns"] + round(late_s * S)
    if not volt:
        out["volt_frac"] = math.nan
    judge = gate()
    return np.concatenate([judge.check(out), judge.flush()])


@pytest.mark.parametrize("policy", ["priority", "voting"])
@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1)])
@pytest.mark.parametrize("gate", [Gate, MedianGate])
def test_after_the_collapse_no_row_is_usable_whoever_cannot_see_the_voltage(rows, policy, order, gate):
    sources = [
        told_by(rows, 1, late_s=0.01, gate=gate),
        told_by(rows, 2, late_s=0.4, volt=False, gate=gate),
        told_by(rows, 3, late_s=0.7, volt=False, gate=gate),
    ]
    together = np.concatenate(sources)
    together = together[np.argsort(together["rx_ns"], kind="stable")]
    got = Choice(order, ChoiceSettings(policy=policy)).take(together).decided
    dead_ns = rows["t_ns"][FIRST_DEAD]
    after, before = got[got["rx_ns"] > dead_ns + S // 100], got[got["rx_ns"] <= dead_ns]
    assert after.size >= 3600 - FIRST_DEAD - 1
    assert ((after["quality"] & int(Quality.DEAD_BUS)) > 0).all()
    assert after["rx_ns"][0] - dead_ns <= 2 * S + S // 50
    usable = before[before["quality"] == 0]
    assert usable.size > 0.99 * FIRST_DEAD
    assert usable["hz"].min() > 47.2


def test_of_the_whole_recording_the_two_tests_for_spikes_differ_in_the_fall_alone(rows):
    rate, median = (told_by(rows, 1, late_s=0.0, gate=gate)["quality"] for gate in (Gate, MedianGate))
    differ = np.flatnonzero(rate != median)
    # The fall's first row is confirmed by its second; that one is not, because the bus is dead in the third.
    assert rows["hz"][differ].tolist() == [48.556, 47.476]
    assert rate[differ].tolist() == [int(Quality.SPIKE), 0]
    assert median[differ].tolist() == [0, int(Quality.SPIKE)]
