"""Published regulation signals and a stacked British hour through the whole engine.

The files are not part of the repository: FLYBALL_DATA, or `shared/data` beside it.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from aggregator.backtesting import recorded_gate, run
from aggregator.contracts import Contract, CoreSettings
from aggregator.signal_file import Recorded, read
from aggregator.wanted import Wanted
from droop.products import load
from telemetry.samples import Block
from telemetry.traces import open_trace
from tests.aggregator.matrix import ABLE

DATA = Path(os.environ.get("FLYBALL_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no recorded data in {DATA}")

VEHICLES, SOLD_KW = 40, 80.0


def settings(*products, sold_kw=SOLD_KW):
    contracts = tuple(Contract(load(name), sold_kw) for name in products)
    return CoreSettings("real", VEHICLES, contracts, signal_max_kw=sold_kw)


@pytest.fixture(scope="module")
def reg_a():
    """An hour and a half of RegA, 1 August 2017."""
    (path,) = sorted((DATA / "regulation" / "pjm_2s").glob("*.csv"))
    whole = read(path)
    return Recorded(whole.t_ns[:2700], whole.share[:2700])


@pytest.mark.parametrize("name", ["pjm_rega_v1", "pjm_reg_v1"])
def test_pjm_s_own_signal_is_followed_and_scored(reg_a, name):
    asked = settings(name)
    found = run(Wanted([], asked, recorded_gate(60.0), seed=1, behaviour=ABLE, signal=reg_a))
    assert found["signals"] == reg_a.t_ns.size
    assert found["score"] > 0.99
    assert found["bound_violations"] == 0
    assert found["energy_balance_error_kwh"] < 1e-6
    # Every value holds for 2 s, the last one until it runs out.
    steps_h = np.append(np.diff(reg_a.t_ns), 4e9) / 3.6e12
    down_kwh = SOLD_KW * float((np.clip(-reg_a.share, 0, None) * steps_h).sum())
    up_kwh = SOLD_KW * float((np.clip(reg_a.share, 0, None) * steps_h).sum())
    assert found["requested_down_kwh"] == pytest.approx(down_kwh, rel=2e-3)
    assert found["requested_up_kwh"] == pytest.approx(up_kwh, rel=2e-3, abs=0.05)


def test_a_biased_signal_moves_the_stored_energy_as_its_mean_says(reg_a):
    """RegA asks to charge for hours: what is delivered is what the batteries hold more, without losses."""
    mean = float(reg_a.share.mean())
    assert mean < -0.3
    found = run(Wanted([], settings("pjm_rega_v1"), recorded_gate(60.0), seed=1, behaviour=ABLE, signal=reg_a))
    still = run(
        Wanted([], settings("pjm_rega_v1", sold_kw=0.0), recorded_gate(60.0), seed=1, behaviour=ABLE, signal=reg_a)
    )
    hours = (reg_a.t_ns[-1] - reg_a.t_ns[0]) / 3.6e12
    net_kwh = found["delivered_down_kwh"] - found["delivered_up_kwh"]
    assert net_kwh == pytest.approx(-mean * SOLD_KW * hours, rel=5e-3)
    assert found["throughput_kwh"] - still["throughput_kwh"] == pytest.approx(net_kwh, rel=0.15)


class Hour:
    """The first hour of a trace."""

    def __init__(self, trace):
        self.path, self.format, self.nominal_hz, self.skip_bad = (
            trace.path, trace.format, trace.nominal_hz, trace.skip_bad,
        )  # fmt: skip
        rows: Block = next(iter(trace))[:3600]
        assert rows.size == 3600
        self._rows = rows

    def __iter__(self):
        return iter([self._rows])

    def dropped(self):
        return {}


def test_a_british_hour_of_both_directions_stacked():
    (path, *_) = sorted((DATA / "frequency" / "gb_neso_1s").glob("f_*.csv.gz"))
    trace = Hour(open_trace(path))
    found = run(Wanted([trace], settings("gb_dc_low", "gb_dc_high"), recorded_gate(50.0), seed=1, behaviour=ABLE))
    assert found["samples"] == 3600
    assert found["energy_balance_error_kwh"] < 1e-6
    assert found["bound_violations"] == 0
    assert found["score"] == 1.0
    hz = next(iter(trace))["hz"]
    for name, way in (("gb_dc_low", "up"), ("gb_dc_high", "down")):
        product = load(name)
        asked = SOLD_KW * np.abs(np.interp(hz - 50.0, product.curve_hz, product.curve_frac)).sum() / 3600.0
        assert found[f"requested_{way}_kwh"] == pytest.approx(asked, rel=5e-3, abs=1e-3)
        # Late by 0.3 s and read by the second: an hour of small swings comes out the same within a tenth.
        assert found[f"delivered_{way}_kwh"] == pytest.approx(asked, rel=0.1, abs=0.02)
