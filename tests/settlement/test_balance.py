"""Energy by reports: a vehicle simulated in closed form, in any order and any batching."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droop.metering import lost_kwh
from settlement.align import NS
from settlement.balance import FleetLedger, balance
from settlement.facts import FleetEnergy

SESSION = np.dtype(
    [("t_ns", "i8"), ("slot", "u4"), ("session", "u4"), ("state", "u4"), ("soc_frac", "f8"), ("capacity_kwh", "f8"),
     ("soh_frac", "f8"), ("eta_charge_frac", "f8"), ("eta_discharge_frac", "f8")]
)  # fmt: skip
REPORT = np.dtype([("t_ns", "i8"), ("slot", "u4"), ("session", "u4"), ("power_kw", "f8"), ("soc_frac", "f8")])
QUARTER_NS = 900 * NS


def session(t_s=0, slot=0, number=1, state=1, soc=0.5):
    return np.array([(t_s * NS, slot, number, state, soc, 100.0, 0.8, 0.9, 0.95)], SESSION)


def drive(power_kw, seconds, slot=0, number=1, soc=0.5, start_s=0, step_s=2):
    """Reports of a vehicle at constant power whose battery holds 80 kWh."""
    rate_kw = power_kw / 0.95 if power_kw > 0 else power_kw * 0.9
    t = np.arange(start_s, start_s + seconds + 1, step_s)
    rows = np.zeros(t.size, REPORT)
    rows["t_ns"], rows["slot"], rows["session"], rows["power_kw"] = t * NS, slot, number, power_kw
    rows["t_ns"][0] += 1  # at once after plugging in: the power steps
    rows["soc_frac"] = soc - rate_kw * (t - start_s) / 3600 / 80.0
    return rows


@pytest.mark.parametrize("power_kw", [10.0, -10.0])
def test_a_constant_drive_closes(power_kw):
    ledger = FleetLedger(QUARTER_NS)
    rows = drive(power_kw, 900)
    ledger.sessions(session())
    ledger.vehicles(rows)
    found = ledger.take(0)
    assert found.reported_kwh == pytest.approx(power_kw / 4)
    closed = balance(found.reported_kwh, found)
    assert closed.error_kwh == pytest.approx(0.0, abs=1e-9)
    assert found.losses_kwh > 0
    assert np.sign(found.stored_kwh) == -np.sign(power_kw)


def test_losses_by_direction():
    found = [lost_kwh(first, last, 1.0, 0.9, 0.9) for first, last in ((9.0, 9.0), (-9.0, -9.0), (0.0, 18.0))]
    np.testing.assert_allclose(found, [1.0, 0.9, 1.0])


@given(first=st.floats(-50, 50), last=st.floats(-50, 50))
def test_losses_of_a_piece_that_changes_direction(first, last):
    kw = np.linspace(first, last, 20_001)
    slow = np.where(kw > 0, kw * (1 / 0.95 - 1), -kw * (1 - 0.9)).mean()
    assert lost_kwh(first, last, 1.0, 0.9, 0.95) == pytest.approx(slow, rel=1e-3, abs=1e-6)


@given(st.data())
def test_batching_and_order_do_not_matter(data):
    rows = np.concatenate([drive(7.0, 60, slot=k, soc=0.5 + 0.01 * k) for k in range(3)])
    whole, pieces = FleetLedger(30 * NS), FleetLedger(30 * NS)
    for ledger in (whole, pieces):
        for slot in range(3):
            ledger.sessions(session(slot=slot, soc=0.5 + 0.01 * slot))
    whole.vehicles(rows[data.draw(st.permutations(range(rows.size)))])
    by_time = rows[np.argsort(rows["t_ns"], kind="stable")]
    cut = sorted(data.draw(st.lists(st.integers(0, rows.size), max_size=5)))
    for low, high in zip([0, *cut], [*cut, rows.size], strict=True):
        pieces.vehicles(by_time[low:high])
    for start_s in (0, 30):
        np.testing.assert_allclose(whole.take(start_s * NS), pieces.take(start_s * NS), rtol=1e-9)


def test_a_piece_across_a_border_is_cut_pro_rata():
    ledger = FleetLedger(10 * NS)
    ledger.sessions(session(t_s=1))
    ledger.vehicles(drive(36.0, 12, step_s=4, start_s=1))
    first, second = ledger.take(0), ledger.take(10 * NS)
    assert first.reported_kwh == pytest.approx(0.09)  # 1 s to 10 s
    assert second.reported_kwh == pytest.approx(0.03)  # 10 s to 13 s


def test_another_vehicle_is_no_change_of_energy():
    ledger = FleetLedger(QUARTER_NS)
    ledger.sessions(session(soc=0.9))
    ledger.vehicles(drive(0.0, 10, soc=0.9))
    ledger.sessions(session(t_s=20, state=0))
    ledger.vehicles(drive(50.0, 10, soc=0.9, start_s=22))  # late reports of the departed
    ledger.sessions(session(t_s=40, number=2, soc=0.1))
    ledger.vehicles(drive(0.0, 10, number=2, soc=0.1, start_s=42))
    ledger.vehicles(drive(50.0, 10, number=1, soc=0.1, start_s=60))
    assert ledger.take(0) == pytest.approx((0.0, 0.0, 0.0))


def test_over_a_silence_energy_is_stored_and_power_unknown():
    ledger = FleetLedger(QUARTER_NS)
    ledger.sessions(session())
    rows = drive(10.0, 100, step_s=50)
    ledger.vehicles(rows)
    found = ledger.take(0)
    assert found.reported_kwh == pytest.approx(0.0, abs=1e-9)
    assert found.stored_kwh == pytest.approx((rows["soc_frac"][-1] - 0.5) * 80)


def test_nan_reports_and_unknown_slots_are_passed_over():
    ledger = FleetLedger(QUARTER_NS)
    ledger.sessions(session())
    rows = drive(10.0, 4)
    rows["power_kw"][1] = np.nan
    ledger.vehicles(rows)
    ledger.vehicles(drive(10.0, 4, slot=99))
    assert np.isfinite(ledger.take(0)).all()


def test_terms_without_a_source_are_none():
    assert balance(1.0, None).error_kwh is None
    assert balance(None, FleetEnergy(1.0, -1.1, 0.1)).error_kwh is None
    assert balance(1.0, FleetEnergy(1.0, -1.1, 0.1)).error_kwh == pytest.approx(0.0)


def test_forget():
    ledger = FleetLedger(10 * NS)
    ledger.sessions(session())
    ledger.vehicles(drive(10.0, 30))
    ledger.forget(10 * NS)
    assert ledger.take(0) is None
    assert ledger.take(10 * NS) is not None
