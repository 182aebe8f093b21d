"""The registry: what is taken into the fleet's columns, and what is refused, by reason, with nothing written for it."""

from __future__ import annotations

import numpy as np
import pytest

from aggregator.registry import CAPACITY_MAX_KWH, POWER_MAX_KW, Registry
from droop.fleet import SEGMENTS, allocate, allocate_totals
from telemetry import wire
from telemetry.samples import SESSION, VEHICLE, SlotState

S = 10**9
T0 = 1_790_000_000 * S
N = 20


def session_row(slot=3, session=1, t_ns=T0, state=SlotState.PLUGGED, **more):
    row = np.zeros(1, SESSION)
    plain = {
        "t_ns": t_ns, "rx_ns": t_ns, "slot": slot, "session": session, "vehicle": b"car", "capacity_kwh": 60.0,
        "soh_frac": 0.9, "soc_frac": 0.5, "soc_min_frac": 0.1, "soc_max_frac": 0.9, "dod_max_frac": 0.3,
        "charge_max_kw": 11.0, "discharge_max_kw": 7.0, "eta_charge_frac": 0.95, "eta_discharge_frac": 0.9,
        "safe_kw": -2.0, "depart_ns": T0 + 3600 * S, "depart_kwh": 40.0, "state": state,
    }  # fmt: skip
    for name, value in (plain | more).items():
        row[name] = value
    return row


def report_row(slot=3, session=1, t_ns=T0 + S, rx_ns=None, **more):
    row = np.zeros(1, VEHICLE)
    plain = {
        "t_ns": t_ns, "rx_ns": t_ns if rx_ns is None else rx_ns, "slot": slot, "session": session, "power_kw": 1.5,
        "soc_frac": 0.6, "state": SlotState.PLUGGED,
    }  # fmt: skip
    for name, value in (plain | more).items():
        row[name] = value
    return row


class Hall:
    """A registry and its columns."""

    def __init__(self, *rows, now_ns=T0):
        self.fleet, self.totals = allocate(N), allocate_totals()
        self.registry = Registry(self.fleet, self.totals)
        if rows:
            assert self.registry.sessions(np.concatenate(rows), now_ns) == 0

    def bytes(self):
        columns = (*self.fleet, *self.totals, self.registry.vehicles)
        return b"".join(np.ascontiguousarray(column).tobytes() for column in columns)

    def row(self, slot=3):
        return {name: getattr(self.fleet, name)[slot].item() for name in self.fleet._fields}


def test_a_session_becomes_columns_with_energies_of_the_capacity_left():
    hall = Hall(session_row())
    row = hall.row()
    assert hall.registry.vehicles[3] == b"car"
    expected = {
        "state": 1, "session": 1, "usable_kwh": 54.0, "soc_floor_kwh": 5.4, "ceiling_kwh": 48.6, "energy_kwh": 27.0,
        "dod_floor_kwh": 27.0 - 0.3 * 54.0, "charge_max_kw": 11.0, "discharge_max_kw": 7.0, "safe_kw": -2.0,
        "command_kw": -2.0, "measured_kw": -2.0, "valid_until_ns": 0, "report_ns": T0, "energy_ns": T0,
        "depart_ns": T0 + 3600 * S, "depart_kwh": 40.0,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-6)


BAD_SESSIONS = [
    ("session_slot", {"slot": N}), ("session_slot", {"slot": 2**32 - 1}),
    ("session_state", {"state": 3}), ("session_state", {"state": 2**32 - 1}),
    *(("session_nan", {name: np.nan}) for name in ("capacity_kwh", "soh_frac", "soc_frac", "safe_kw", "depart_kwh")),
    *(("session_nan", {name: np.inf}) for name in ("capacity_kwh", "charge_max_kw", "eta_charge_frac")),
    *(("session_range", {name: 1.01}) for name in ("soh_frac", "soc_frac", "dod_max_frac", "eta_discharge_frac")),
    *(("session_range", {name: -0.01}) for name in ("soh_frac", "soc_min_frac", "charge_max_kw", "depart_kwh")),
    ("session_range", {"eta_charge_frac": 0.0}), ("session_range", {"capacity_kwh": 0.0}),
    ("session_range", {"capacity_kwh": CAPACITY_MAX_KWH * 1.001}),
    ("session_range", {"charge_max_kw": POWER_MAX_KW * 1.001}),
    ("session_range", {"discharge_max_kw": 3e38}),
    ("session_range", {"soc_min_frac": 0.8, "soc_max_frac": 0.7}),
    ("session_range", {"safe_kw": 0.1}),  # a charger left alone never discharges
    ("session_range", {"safe_kw": -11.1}),
    ("session_old", {"session": 4}), ("session_old", {"session": 5, "t_ns": T0}),
    ("session_old", {"session": 5, "t_ns": T0 - 1}), ("session_old", {"session": 4, "state": SlotState.UNPLUGGED}),
    ("session_old", {"session": 5, "t_ns": T0 - 1, "state": SlotState.UNPLUGGED}),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "change"), BAD_SESSIONS)
def test_a_bad_session_row_is_counted_and_writes_nothing(reason, change):
    hall = Hall(session_row(session=5))
    before = hall.bytes()
    assert hall.registry.sessions(session_row(**{"session": 6, "t_ns": T0 + S} | change), T0 + S) == 1
    assert dict(hall.registry.refused) == {reason: 1}
    assert hall.bytes() == before


BAD_REPORTS = [
    ("report_slot", {"slot": N}), ("report_slot", {"slot": 2**32 - 1}),
    ("report_state", {"state": 0}), ("report_state", {"state": 3}),
    ("report_session", {"session": 4}), ("report_session", {"session": 6}), ("report_session", {"slot": 7}),
    ("report_nan", {"power_kw": np.nan}), ("report_nan", {"power_kw": -np.inf}), ("report_nan", {"soc_frac": np.nan}),
    ("report_range", {"soc_frac": -0.001}), ("report_range", {"soc_frac": 1.001}),
    ("report_range", {"power_kw": -POWER_MAX_KW * 1.001}),
    ("report_old", {"rx_ns": T0 - 1}), ("report_old", {"rx_ns": -(2**63)}),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "change"), BAD_REPORTS)
def test_a_bad_report_is_counted_and_writes_nothing(reason, change):
    hall = Hall(session_row(session=5))
    before = hall.bytes()
    good = report_row(session=5, slot=3)
    assert hall.registry.reports(report_row(**{"session": 5} | change), T0 + S) == 1
    assert dict(hall.registry.refused) == {reason: 1}
    assert hall.bytes() == before
    assert hall.registry.reports(np.concatenate([report_row(**{"session": 5} | change), good]), T0 + S) == 1
    assert hall.row()["measured_kw"] == 1.5


def test_a_report_sets_power_energy_and_its_times():
    hall = Hall(session_row())
    assert hall.registry.reports(report_row(t_ns=T0 + S, rx_ns=T0 + 2 * S), T0 + 3 * S) == 0
    row = hall.row()
    assert row["energy_kwh"] == pytest.approx(0.6 * 54.0, rel=1e-6)
    assert (row["energy_ns"], row["report_ns"]) == (T0 + S, T0 + 2 * S)


@pytest.mark.parametrize(
    ("t_ns", "rx_ns", "energy_ns", "report_ns"),
    [
        (T0 + 90 * S, T0 + 99 * S, T0 + 10 * S, T0 + 10 * S),  # clocks ahead of ours: not younger than now
        (0, T0 + 9 * S, T0 + 9 * S, T0 + 9 * S),  # a charger that lost its clock: the arrival counts
        (-(2**63), T0 + 9 * S, T0 + 9 * S, T0 + 9 * S),
        (T0 - 50 * S, T0 + 9 * S, T0 - 50 * S, T0 + 9 * S),  # buffered on its way
    ],
)
def test_the_clocks_of_chargers_are_not_believed_beyond_reason(t_ns, rx_ns, energy_ns, report_ns):
    hall = Hall(session_row())
    assert hall.registry.reports(report_row(t_ns=t_ns, rx_ns=rx_ns), T0 + 10 * S) == 0
    row = hall.row()
    assert (row["energy_ns"], row["report_ns"]) == (energy_ns, report_ns)


def test_a_session_stamped_before_time_is_old_not_young():
    hall = Hall(session_row(rx_ns=-(2**63)))
    assert hall.row()["report_ns"] == 0


def test_end_and_begin_in_one_block_leave_the_new_car_whatever_their_order():
    end = session_row(session=1, t_ns=T0 + S, state=SlotState.UNPLUGGED)
    begin = session_row(session=2, t_ns=T0 + 2 * S, vehicle=b"next", soc_frac=0.8)
    for block in ([end, begin], [begin, end]):
        hall = Hall(session_row())
        assert hall.registry.sessions(np.concatenate(block), T0 + 2 * S) == 0
        row = hall.row()
        assert (row["state"], row["session"], hall.registry.vehicles[3]) == (1, 2, b"next")
        assert row["energy_kwh"] == pytest.approx(0.8 * 54.0, rel=1e-6)
        assert hall.registry.reports(report_row(session=1, t_ns=T0 + 3 * S), T0 + 3 * S) == 1


def test_the_session_decides_before_the_stamp():
    """A gateway whose clock was set back between two cars: the later car is the later car."""
    end = session_row(session=1, t_ns=T0 + 9 * S, state=SlotState.UNPLUGGED)
    begin = session_row(session=2, t_ns=T0 + S, vehicle=b"next")
    hall = Hall(session_row())
    assert hall.registry.sessions(np.concatenate([end, begin]), T0 + 9 * S) == 0
    assert (hall.row()["state"], hall.row()["session"]) == (1, 2)


def test_begin_and_end_of_one_session_in_one_block_leave_nobody():
    hall = Hall()
    rows = [session_row(), session_row(state=SlotState.UNPLUGGED), session_row(slot=4)]
    assert hall.registry.sessions(np.concatenate(rows), T0) == 0
    assert hall.fleet.state.tolist() == [0] * 4 + [1] + [0] * 15
    assert hall.registry.vehicles[3] == b""


def test_repeated_and_overtaken_rows_have_the_effect_of_once():
    begin, end = session_row(), session_row(t_ns=T0 + 9 * S, state=SlotState.UNPLUGGED, soc_frac=np.nan)
    hall = Hall(begin)
    hall.registry.reports(report_row(), T0 + S)
    before = hall.bytes()
    assert hall.registry.sessions(begin, T0 + 2 * S) == 1  # the energy reported since stays
    assert hall.bytes() == before
    assert hall.registry.sessions(end, T0 + 9 * S) == 0
    gone = hall.bytes()
    for late in (begin, end):
        assert hall.registry.sessions(late, T0 + 10 * S) == 1  # nobody is plugged in again by an echo
        assert hall.bytes() == gone
    assert hall.row()["state"] == SlotState.UNPLUGGED
    other = Hall()
    other.registry.sessions(end, T0 + 9 * S)
    assert other.registry.sessions(begin, T0 + 10 * S) == 1  # the end came first
    assert other.row()["state"] == SlotState.UNPLUGGED


def test_a_gateway_that_starts_anew_may_announce_its_cars_again():
    hall = Hall(session_row())
    assert hall.registry.sessions(session_row(t_ns=T0 + 60 * S, soc_frac=0.7), T0 + 60 * S) == 0
    assert hall.row()["energy_kwh"] == pytest.approx(0.7 * 54.0, rel=1e-6)


def test_reports_that_overtook_each_other_leave_the_newest():
    hall = Hall(session_row())
    hall.registry.reports(report_row(t_ns=T0 + 2 * S, state=SlotState.FAULT), T0 + 2 * S)
    before = hall.bytes()
    assert hall.registry.reports(report_row(t_ns=T0 + S), T0 + 2 * S) == 1
    assert hall.bytes() == before


def test_the_end_of_a_session_needs_no_sane_figures():
    hall = Hall(session_row())
    end = session_row(t_ns=T0 + S, state=SlotState.UNPLUGGED, capacity_kwh=np.nan, soc_frac=7.0)
    assert hall.registry.sessions(end, T0 + S) == 0
    row = hall.row()
    assert (row["state"], row["command_kw"], row["measured_kw"], row["safe_kw"]) == (0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("count", [1, 5, 8, 20, 1000])
def test_only_the_segments_touched_are_due_at_once(count):
    fleet, totals = allocate(count), allocate_totals()
    registry = Registry(fleet, totals)
    for slot in sorted({0, count // 3, count - 1}):
        totals.refreshed_ns[:] = T0
        registry.sessions(session_row(slot=slot, session=1), T0)
        edges = [(s * count // SEGMENTS, (s + 1) * count // SEGMENTS) for s in range(SEGMENTS)]
        inside = [low <= slot < high for low, high in edges]
        assert (totals.refreshed_ns == 1).tolist() == inside
        # A change of state by a report counts the same; a report of nothing new does not.
        totals.refreshed_ns[:] = T0
        registry.reports(report_row(slot=slot), T0 + S)
        assert (totals.refreshed_ns == T0).all()
        registry.reports(report_row(slot=slot, t_ns=T0 + 2 * S, state=SlotState.FAULT), T0 + 2 * S)
        assert (totals.refreshed_ns == 1).tolist() == inside


def test_a_segment_never_refreshed_stays_so():
    hall = Hall(session_row())
    assert (hall.totals.refreshed_ns == 0).all()


def test_blocks_off_the_wire_are_taken_as_they_lie():
    """Read-only and unaligned: a block that shares memory with a network buffer."""

    def unaligned(block):
        data = b"x" + wire.encode(block)
        decoded = wire.decode(memoryview(data)[1:])
        assert not decoded.flags.writeable
        return decoded

    hall, plain = Hall(), Hall()
    rows, told = np.concatenate([session_row(), session_row(slot=9)]), report_row(slot=9)
    hall.registry.sessions(unaligned(rows), T0)
    hall.registry.reports(unaligned(told), T0 + S)
    plain.registry.sessions(rows, T0)
    plain.registry.reports(told, T0 + S)
    assert hall.bytes() == plain.bytes()


def test_empty_blocks_do_nothing():
    hall = Hall(session_row())
    before = hall.bytes()
    assert hall.registry.sessions(np.zeros(0, SESSION), T0) == 0
    assert hall.registry.reports(np.zeros(0, VEHICLE), T0) == 0
    assert hall.bytes() == before
