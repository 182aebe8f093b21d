"""Frequencies that were printed and never were: from a file, through reader and gate, to what the vehicles are asked.

Generated files always; the published ones where they are at hand (FLYBALL_DATA, or `shared/data` beside). The dead bus
of the Iberian blackout is in `test_real_days`.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from aggregator.backtest import Backtest
from aggregator.backtesting import recorded_gate
from aggregator.config import QualityTable
from aggregator.contracts import Contract, CoreSettings
from aggregator.core import Aggregator
from aggregator.journal import Kind
from aggregator.records import TICK
from droop.products import load
from telemetry.quality import Gate
from telemetry.samples import Quality
from telemetry.traces import open_trace
from tests.telemetry import trace_shapes as shapes

DATA = Path(os.environ.get("FLYBALL_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
PUBLISHED = DATA / "frequency"

S = 10**9
SOLD_KW = 100.0
# For a source of one row a second: a step beyond what a large grid does in a second waits for three more rows.
PATIENT = QualityTable(spike_ceiling_hz=0.05, spike_rows=4)


def ticks_of(rows, quality=None):
    """TICK rows of a fleet that sells CE FCR over these FREQUENCY rows, and the backtest."""
    settings = CoreSettings("ce", 50, (Contract(load("ce_fcr"), SOLD_KW),))
    test = Backtest(settings, recorded_gate(50.0, quality), int(rows["t_ns"][0]), 1, True)
    test.core = kept = Aggregator(settings)  # with a journal: what every tick asked
    test.feed(rows)
    payload = b"".join(entry.payload for entry in kept.drain_entries() if entry.kind is Kind.TICKS)
    return np.frombuffer(payload, TICK), test


def response_at(ticks, t_ns):
    """What the fleet was asked on top of its baseline in the tick of each sample [kW]."""
    at = np.searchsorted(ticks["now_ns"], t_ns)
    assert (ticks["now_ns"][at] == t_ns).all()
    return ticks["response_kw"][at]


def test_nothing_is_discharged_into_a_bus_that_a_file_shows_dead(tmp_path):
    path = tmp_path / "dead.csv"
    path.write_text(shapes.toledo(200))
    rows = open_trace(path, tz="Europe/Madrid").read_all()
    ticks, test = ticks_of(rows)
    dead_ns = int(rows["t_ns"][40])
    after = ticks[ticks["now_ns"] >= dead_ns]
    assert np.nanmin(rows["hz"][40:]) == 40.0  # droop on this would be full discharge
    assert after.size == 160
    assert (after["response_kw"] == 0.0).all()
    assert (after["request_kw"] <= after["baseline_kw"]).all()
    assert test.gate.rejected()["dead_bus"] == 160


def artefact_file(path, peak=(0.112, 0.131, 0.078, 0.044, 0.024, 0.013)):
    """Ten quiet minutes at 49.88 Hz and, in the middle, a jump that decays within seconds, as of a phase that leapt."""
    hz = 49.88 + 0.002 * np.sin(np.arange(600) / 40.0)
    hz[300 : 300 + len(peak)] += peak
    times = shapes.clock(600)
    text = "".join(f"{at:%Y-%m-%d %H:%M:%S},{value:.3f}\n" for at, value in zip(times, hz, strict=True))
    path.write_text("dtm,f\n" + text)
    return open_trace(path).read_all()


def moved(ticks, rows, at):
    """How far the answer went from that to the row before `at`, in the rows of the jump and when it is over [kW]."""
    asked = response_at(ticks, rows["t_ns"][at - 1 : at + 12])
    return np.abs(asked[1:4] - asked[0]).max(), np.abs(asked[-1] - asked[0])


def test_an_artefact_of_several_samples_moves_nothing_where_the_gate_waits_for_it(tmp_path):
    rows = artefact_file(tmp_path / "artefact.csv")
    ticks, test = ticks_of(rows, PATIENT)
    during, after = moved(ticks, rows, 300)
    assert test.gate.rejected() == {"spike": 3}
    assert during == 0.0
    assert after < 2.0
    # Its tail is within what the grid does in a second, and asks no more than that.
    asked = response_at(ticks, rows["t_ns"][299:312])
    assert np.abs(np.diff(asked)).max() <= SOLD_KW * 0.05 / 0.2
    # A gate that believes a step at its second row stops the fleet for an event that never was.
    assert moved(ticks_of(rows)[0], rows, 300)[0] > 0.5 * SOLD_KW


def test_a_real_step_is_answered_after_the_same_wait(tmp_path):
    rows = artefact_file(tmp_path / "step.csv", peak=(0.0,) * 3)
    rows["hz"][300:] -= 0.1
    ticks, test = ticks_of(rows, PATIENT)
    asked = response_at(ticks, rows["t_ns"][299:305])
    assert test.gate.rejected() == {"spike": 3}
    assert (asked[1:4] == asked[0]).all()
    assert asked[4] == pytest.approx(SOLD_KW, abs=1.0)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"no recorded traces in {PUBLISHED}")
def test_the_artefact_of_23_june_moves_nothing_where_the_gate_waits_for_it():
    """04:54:39: 49.877 -> 49.989 -> 50.008 -> 49.955 -> 49.921 within four seconds, and back to where it was."""
    rows = open_trace(PUBLISHED / "gb_neso_1s/f_2026-06-23.csv.gz").read_all()
    at = 4 * 3600 + 54 * 60 + 40
    assert rows["hz"][at - 1 : at + 4].tolist() == [49.877, 49.989, 50.008, 49.955, 49.921]
    near = rows[at - 300 : at + 300]
    ticks, test = ticks_of(near, PATIENT)
    during, after = moved(ticks, near, 300)
    assert test.gate.rejected() == {"spike": 3}
    assert during == 0.0
    assert after < 6.5  # 12 mHz, and they are real
    assert np.abs(np.diff(response_at(ticks, near["t_ns"][299:312]))).max() <= SOLD_KW * 0.05 / 0.2


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"no recorded traces in {PUBLISHED}")
@pytest.mark.parametrize(("day", "marked"), [("22", []), ("23", [17_272, 17_273, 17_680, 17_681, 17_682]), ("24", [])])
def test_the_patient_gate_marks_nothing_else_of_three_days(day, marked):
    """On the 23rd there is an artefact of the same shape seven minutes before the known one: 50.032 Hz at 04:47:52."""
    trace = open_trace(PUBLISHED / f"gb_neso_1s/f_2026-06-{day}.csv.gz")
    gate = Gate(recorded_gate(50.0, PATIENT))
    quality = np.concatenate([gate.check(block)["quality"] for block in trace])
    assert np.flatnonzero(quality).tolist() == marked
    assert set(quality[marked].tolist()) <= {Quality.SPIKE}


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"no recorded traces in {PUBLISHED}")
def test_the_iberian_collapse_before_the_bus_died_is_not_hidden_by_patience():
    rows = open_trace(PUBLISHED / "iberia_blackout_2s/toledo_data.csv", tz="Europe/Madrid").read_all()
    dead_ns = int(datetime.fromisoformat("2025-04-28T12:33:24+02:00").timestamp()) * S
    rows = rows[rows["t_ns"] >= dead_ns - 300 * S]
    ticks, _ = ticks_of(rows, PATIENT)
    after = ticks[ticks["now_ns"] >= dead_ns]
    assert (after["response_kw"] == 0.0).all()
    before = ticks[(ticks["now_ns"] >= dead_ns - 10 * S) & (ticks["now_ns"] < dead_ns)]
    assert before["response_kw"].max() >= 0.45 * SOLD_KW  # 49.902 Hz; the next two rows waited for a third
