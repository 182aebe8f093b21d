"""The registry: what is taken into the fleet's columns, and what is refused, by reason, with nothing written for it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.intake import WISH_MAX_NS
from aggregator.registry import CAPACITY_MAX_KWH, POWER_MAX_KW, Registry
from droop.fleet import SEGMENTS, Wish, allocate, allocate_totals
from telemetry import wire
from telemetry.samples import SESSION, VEHICLE, WISH, SlotState
from tests import naive_doors

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


def wish_row(slot=3, session=1, t_ns=T0 + S, until_ns=T0 + 3600 * S, wish=Wish.NO_DISCHARGE):
    row = np.zeros(1, WISH)
    row["t_ns"] = row["rx_ns"] = t_ns
    row["until_ns"], row["slot"], row["session"], row["wish"] = until_ns, slot, session, wish
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


def test_what_a_session_may_leave_open_is_no_limit():
    row = Hall(session_row()).row()
    assert (row["min_kw"], row["ramp_kw_s"], row["budget_kwh"], row["wear"]) == (0.0, np.inf, np.inf, 1.0)
    told = Hall(session_row(min_kw=4.14, ramp_kw_s=0.5, budget_kwh=30.0, wear=2.5)).row()
    names = ("min_kw", "ramp_kw_s", "budget_kwh", "wear")
    assert [told[name] for name in names] == pytest.approx([4.14, 0.5, 30.0, 2.5], rel=1e-6)
    # Between the two ratings there is something it can do; at the larger one too.
    for least_kw in (7.5, 11.0):
        assert Hall(session_row(min_kw=least_kw)).row()["min_kw"] == least_kw


LEARNED = {
    "temp_c": 31.0, "moved_kwh": 9.0, "gain_up": 0.9, "gain_dn": 0.7, "dead_s": 2.0, "refused_ns": T0,
    "wish": Wish.CHARGE_NOW, "wish_until_ns": T0 + 60 * S,
}  # fmt: skip
DOING = {
    "mode": 1, "owed_kwh": 0.4, "switched_ns": T0, "misses": 3, "sent_ns": T0, "valid_until_ns": T0, "command_kw": 5.0,
    "past_lo_kw": -3.0, "past_hi_kw": 5.0, "source_ns": T0,
}  # fmt: skip
FRESH = {
    "temp_c": np.nan, "gain_up": 1, "gain_dn": 1, "dead_s": 0, "refused_ns": 0, "wish": 0, "wish_until_ns": 0
}  # fmt: skip


def used(**more):
    """A hall whose charger 3 has been at work."""
    hall = Hall(session_row(**more))
    for name, value in (LEARNED | DOING).items():
        getattr(hall.fleet, name)[3] = value
    return hall


@pytest.mark.parametrize(
    ("session", "state", "safe_kw"), [(2, SlotState.PLUGGED, -2.0), (2, SlotState.UNPLUGGED, 0.0), (1, 0, 0.0)]
)
def test_a_new_car_inherits_nothing(session, state, safe_kw):
    hall = used()
    assert hall.registry.sessions(session_row(session=session, t_ns=T0 + S, state=state), T0 + S) == 0
    row = hall.row()
    left = FRESH | dict.fromkeys(DOING, 0) | dict.fromkeys(("command_kw", "past_lo_kw", "past_hi_kw"), safe_kw)
    assert {name: row[name] for name in left} == pytest.approx(left, nan_ok=True)
    assert row["moved_kwh"] == 9.0  # the same vehicle's, which has one day
    # A wish of the car before does not outdate the new one's, whatever their clocks.
    hall = used()
    hall.registry.wishes(wish_row(t_ns=T0 + 3 * S), T0)
    hall.registry.sessions(session_row(session=2, t_ns=T0 + S), T0 + S)
    assert hall.registry.wishes(wish_row(session=2, t_ns=T0 + 2 * S), T0 + 2 * S) == 0


@pytest.mark.parametrize("state", [SlotState.PLUGGED, SlotState.FAULT])
def test_a_session_told_once_more_keeps_what_was_learned_of_it(state):
    hall = used()
    assert hall.registry.sessions(session_row(t_ns=T0 + 60 * S, state=state), T0 + 60 * S) == 0
    row = hall.row()
    assert {name: row[name] for name in LEARNED} == pytest.approx(LEARNED)
    left = dict.fromkeys(DOING, 0) | dict.fromkeys(("command_kw", "past_lo_kw", "past_hi_kw"), -2.0)
    assert {name: row[name] for name in left} == pytest.approx(left)


def test_the_days_throughput_is_the_vehicles():
    """One row a slot lasts a day: whoever comes back the same day has spent what it had spent."""

    def moved(*names, day=0):
        hall = used(vehicle=b"one")
        for k, name in enumerate(names, 2):
            end = session_row(session=k - 1, t_ns=T0 + k * S, state=SlotState.UNPLUGGED, vehicle=b"")
            assert hall.registry.sessions(end, T0 + k * S) == 0
            begin = session_row(session=k, t_ns=T0 + k * S + 1, vehicle=name)
            assert hall.registry.sessions(begin, T0 + (k + 1) * S) == 0
        return hall.row()["moved_kwh"]

    assert moved(b"one") == 9.0
    assert moved(b"one", b"one") == 9.0
    assert moved(b"two") == moved(b"two", b"one") == 0.0
    # Without a name nobody knows.
    assert moved(b"") == moved(b"", b"") == 0.0


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
    *(("session_nan", {name: np.nan}) for name in ("min_kw", "ramp_kw_s", "budget_kwh", "wear")),
    *(("session_nan", {name: np.inf}) for name in ("min_kw", "ramp_kw_s", "budget_kwh", "wear")),
    *(("session_range", {name: -0.01}) for name in ("min_kw", "ramp_kw_s", "budget_kwh", "wear")),
    ("session_range", {"min_kw": 11.01}),  # above both ratings
    ("session_range", {"min_kw": 0.1, "charge_max_kw": 0.0, "discharge_max_kw": 0.0, "safe_kw": 0.0}),
    ("session_range", {"wear": 0.0099}), ("session_range", {"wear": 100.1}),
    ("session_old", {"session": 4}), ("session_old", {"session": 5, "t_ns": T0}),
    ("session_old", {"session": 5, "t_ns": T0 - 1}), ("session_old", {"session": 4, "state": SlotState.UNPLUGGED}),
    ("session_old", {"session": 5, "t_ns": T0 - 1, "state": SlotState.UNPLUGGED}),
    # A clock ahead of ours, which nothing told later in this session could outdate.
    ("session_range", {"t_ns": T0 + 6 * S + 1}), ("session_range", {"t_ns": 2**63 - 1}),
    ("session_range", {"session": 5, "t_ns": T0 + 6 * S + 1, "state": SlotState.UNPLUGGED}),
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
    ("report_range", {"temp_c": -60.1}), ("report_range", {"temp_c": 120.1}),
    ("report_range", {"temp_c": np.inf}), ("report_range", {"temp_c": -np.inf}),
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


def test_a_temperature_not_given_is_unknown_and_replaces_what_was():
    hall = Hall(session_row())
    for k, temp_c in enumerate((-60.0, 120.0, 21.5, np.nan)):
        assert hall.registry.reports(report_row(t_ns=T0 + k, temp_c=temp_c), T0 + S) == 0
        assert hall.row()["temp_c"] == pytest.approx(temp_c, nan_ok=True)


NUMBERS = [
    "capacity_kwh", "soh_frac", "soc_frac", "soc_min_frac", "soc_max_frac", "dod_max_frac", "charge_max_kw",
    "discharge_max_kw", "eta_charge_frac", "eta_discharge_frac", "safe_kw", "depart_kwh", "min_kw", "ramp_kw_s",
    "budget_kwh", "wear",
]  # fmt: skip
EDGES = [0.0, -0.0, 1e-30, -1e-30, 0.005, 0.01, 0.5, 1.0, 1.5, 7.0, 11.0, 11.5, 100.0, 101.0, 1e4, 1.1e4, 1e5, 2e5]


@given(st.dictionaries(st.sampled_from(NUMBERS), st.sampled_from([*EDGES, *(-x for x in EDGES), np.nan, np.inf])))
def test_sessions_are_judged_as_the_twin_judges(changes):
    hall = Hall()
    row = session_row(**changes)
    why = naive_doors.session_verdict({name: row[name][0].item() for name in NUMBERS})
    assert hall.registry.sessions(row, T0) == (why is not None)
    assert dict(hall.registry.refused) == ({} if why is None else {why: 1})
    assert hall.fleet.state[3] == (why is None)


# -- wishes --------------------------------------------------------------------------------------------------------


def test_a_wish_stands_until_a_later_one():
    hall = Hall(session_row())
    hall.totals.refreshed_ns[:] = T0
    assert hall.registry.wishes(wish_row(), T0 + S) == 0
    assert (hall.row()["wish"], hall.row()["wish_until_ns"]) == (Wish.NO_DISCHARGE, T0 + 3600 * S)
    assert (hall.totals.refreshed_ns == 1).sum() == 1  # due at once, its own segment alone
    assert hall.totals.refreshed_ns[3 * SEGMENTS // N] == 1
    later = [wish_row(t_ns=T0 + 3 * S, wish=Wish.LEAVE_ALONE), wish_row(t_ns=T0 + 2 * S, wish=Wish.CHARGE_NOW)]
    assert hall.registry.wishes(np.concatenate(later), T0 + 3 * S) == 1
    assert dict(hall.registry.refused) == {"wish_old": 1}
    assert hall.row()["wish"] == Wish.LEAVE_ALONE
    none = wish_row(t_ns=T0 + 4 * S, wish=Wish.NONE, until_ns=-7)
    assert hall.registry.wishes(none, T0 + 4 * S) == 0
    assert (hall.row()["wish"], hall.row()["wish_until_ns"]) == (0, 0)


BAD_WISHES = [
    ("wish_slot", {"slot": N}), ("wish_slot", {"slot": 2**32 - 1}),
    ("wish_code", {"wish": 4}), ("wish_code", {"wish": 2**32 - 1}),
    ("wish_session", {"session": 4}), ("wish_session", {"session": 6}), ("wish_session", {"slot": 7, "session": 0}),
    ("wish_range", {"t_ns": T0 + 7 * S}), ("wish_range", {"t_ns": 2**63 - 1}),  # a clock ahead of ours
    ("wish_range", {"t_ns": 0}), ("wish_range", {"t_ns": -(2**63)}),
    ("wish_range", {"until_ns": T0 + S + WISH_MAX_NS + 1}), ("wish_range", {"until_ns": 2**63 - 1}),
    ("wish_old", {"until_ns": T0 + S}), ("wish_old", {"until_ns": -(2**63)}),
    ("wish_old", {"t_ns": T0 - S}), ("wish_old", {"t_ns": T0}),  # overtaken, repeated
]  # fmt: skip


@pytest.mark.parametrize(("reason", "change"), BAD_WISHES)
def test_a_bad_wish_is_counted_and_writes_nothing(reason, change):
    hall = Hall(session_row(session=5))
    assert hall.registry.wishes(wish_row(session=5, t_ns=T0), T0 + S) == 0
    before = hall.bytes()
    assert hall.registry.wishes(wish_row(**{"session": 5, "wish": Wish.CHARGE_NOW} | change), T0 + S) == 1
    assert dict(hall.registry.refused) == {reason: 1}
    assert hall.bytes() == before


AROUND = [-(2**63), -1, 0, 1, T0 - S, T0, T0 + 5 * S, T0 + 5 * S + 1, T0 + WISH_MAX_NS, T0 + WISH_MAX_NS + 1, 2**63 - 1]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(AROUND) | st.integers(T0 - S, T0 + 2), st.sampled_from(AROUND),
            st.sampled_from([0, 3, 4, N - 1, N, 2**32 - 1]), st.sampled_from([0, 1, 2]), st.integers(0, 5),
        ),
        max_size=12,
    )
)  # fmt: skip
def test_wishes_are_taken_as_the_twin_takes_them(rows):
    hall = Hall(session_row(), session_row(slot=4, session=2), session_row(slot=0))
    hall.registry.sessions(session_row(slot=0, state=SlotState.UNPLUGGED, t_ns=T0), T0)
    running = [None] * N
    running[3], running[4] = 1, 2
    twin = naive_doors.Wishes(running)
    block = np.concatenate(
        [wish_row(slot, session, t_ns, until_ns, wish) for t_ns, until_ns, slot, session, wish in rows]
        or [np.zeros(0, WISH)]
    )
    why = [twin.take(*row, T0) for row in rows]
    assert hall.registry.wishes(block, T0) == len(why) - why.count(None)
    assert dict(hall.registry.refused) == {reason: why.count(reason) for reason in set(why) - {None}}
    assert list(zip(hall.fleet.wish.tolist(), hall.fleet.wish_until_ns.tolist(), strict=True)) == twin.stands


@pytest.mark.parametrize(
    ("t_ns", "rx_ns", "source_ns", "report_ns"),
    [
        (T0 + 90 * S, T0 + 99 * S, T0 + 10 * S, T0 + 10 * S),  # clocks ahead of ours: not younger than now
        (0, T0 + 9 * S, T0 + 9 * S, T0 + 9 * S),  # a charger that lost its clock: the arrival counts
        (-(2**63), T0 + 9 * S, T0 + 9 * S, T0 + 9 * S),
        (T0 + 10 * S, T0 + 9 * S, T0 + 9 * S, T0 + 9 * S),  # nor than its arrival
        (T0 - 50 * S, T0 + 9 * S, T0 - 50 * S, T0 + 9 * S),  # buffered on its way
    ],
)
def test_the_clocks_of_chargers_are_not_believed_beyond_reason(t_ns, rx_ns, source_ns, report_ns):
    hall = Hall(session_row())
    assert hall.registry.reports(report_row(t_ns=t_ns, rx_ns=rx_ns), T0 + 10 * S) == 0
    row = hall.row()
    assert (row["source_ns"], row["report_ns"]) == (source_ns, report_ns)
    assert row["energy_ns"] == max(source_ns, T0)  # what was known before is not made older


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


@pytest.mark.parametrize("t_ns", [T0 + S, 0, T0 + 90 * S])
def test_a_report_delivered_five_times_is_heard_once(t_ns):
    """Whatever its charger's clock says: right, lost, or ahead of ours."""
    hall, once = at_work(), at_work()
    row = report_row(t_ns=t_ns, rx_ns=T0 + 9 * S, power_kw=0.0)
    assert once.registry.reports(row, T0 + 9 * S) == 0
    assert hall.registry.reports(np.concatenate([row] * 5), T0 + 9 * S) == 4
    assert dict(hall.registry.refused) == {"report_old": 4}
    assert hall.bytes() == once.bytes()


def test_an_older_measurement_that_arrives_later_is_overtaken():
    hall = at_work()
    assert hall.registry.reports(report_row(t_ns=T0 + 9 * S), T0 + 9 * S) == 0
    assert hall.registry.reports(report_row(t_ns=T0 + 8 * S, rx_ns=T0 + 10 * S), T0 + 10 * S) == 1
    assert dict(hall.registry.refused) == {"report_old": 1}


# -- the account and what is learned -------------------------------------------------------------------------------


def at_work(command_kw=5.0, sent_ns=T0 + S, until_ns=T0 + 60 * S, **more):
    """A charger commanded since `sent_ns`, its energy known then."""
    hall = Hall(session_row(eta_charge_frac=1.0, eta_discharge_frac=1.0, **more))
    f = hall.fleet
    f.command_kw[3] = f.told_kw[3] = f.past_hi_kw[3] = command_kw
    f.sent_ns[3], f.valid_until_ns[3], f.energy_ns[3], f.energy_kwh[3] = sent_ns, until_ns, sent_ns, 27.0
    return hall


def after(hall, *reports):
    for k, (t_s, rx_s, more) in enumerate(reports):
        row = report_row(t_ns=T0 + int(t_s * S), rx_ns=T0 + int(rx_s * S), **{"soc_frac": 0.5, "power_kw": 5.0} | more)
        assert hall.registry.reports(row, T0 + int(rx_s * S)) == 0, k
    row = hall.row()
    return row["energy_kwh"], row["energy_ns"] - T0, row["moved_kwh"]


H_S = 3600.0


def test_what_moved_up_to_a_report_is_booked_before_the_report_replaces_it():
    """Five kilowatts for 36 s are 0.05 kWh, whatever the state of charge says in its steps."""
    reports = [(1 + t, 1 + t, {}) for t in range(1, 37)]
    assert after(at_work(), *reports) == pytest.approx((27.0, 37 * S, 0.05), rel=1e-6)
    assert after(at_work(), reports[-1]) == pytest.approx((27.0, 37 * S, 0.05), rel=1e-6)
    steps = [(t, rx, {"soc_frac": 0.5 - 0.005 * (t > 20)}) for t, rx, _ in reports]
    assert after(at_work(), *steps) == pytest.approx((0.495 * 54, 37 * S, 0.05), rel=1e-6)
    # Its command ended after 9 s, and it charges at 2 kW since.
    ended = after(at_work(until_ns=T0 + 10 * S), (10, 10, {}), (46, 46, {"power_kw": -2.0}))
    assert ended == pytest.approx((27.0, 46 * S, (9 * 5 + 36 * 2) / H_S), rel=1e-6)


def test_who_does_not_follow_moved_what_it_measures():
    stays = [(5 + 36 * k, 5 + 36 * k, {"power_kw": 0.0}) for k in range(1, 4)]
    # Left alone it took 2 kW, and what it did on its way from there is not known better than in a straight line.
    moved = after(at_work(until_ns=T0 + 900 * S), (5, 5, {"power_kw": 0.0}), *stays)[2]
    assert moved == pytest.approx(4 * 1 / H_S)
    away = [(5 + 36 * k, 5 + 36 * k, {"power_kw": -4.0}) for k in range(1, 4)]
    moved = after(at_work(until_ns=T0 + 900 * S), (5, 5, {"power_kw": -4.0}), *away)[2]
    assert moved == pytest.approx((4 * 3 + 3 * 36 * 4) / H_S)
    broken = {"state": SlotState.FAULT, "power_kw": 0.0}
    assert after(at_work(), (1, 1, broken), (37, 37, broken), (73, 73, {"power_kw": 0.0}))[2] == 0.0


def test_a_late_report_is_carried_on_to_the_accounts_time():
    """The account was brought up to 10 s by a renewal; the report is of 6 s, and the command of 1 s stood since."""
    hall = at_work()
    hall.fleet.energy_ns[3], hall.fleet.moved_kwh[3] = T0 + 10 * S, 1.0
    late = after(hall, (6, 11, {"soc_frac": 0.6}))
    assert late == pytest.approx((0.6 * 54 - 4 * 5 / H_S, 10 * S, 1.0), rel=1e-7)


@pytest.mark.parametrize(
    ("soc_frac", "energy_kwh"),
    [(0.5, 26.99), (0.4, 0.4 * 54 + 20 * 11 / H_S), (0.6, 0.6 * 54 - 20 * 7 / H_S)],
    ids=["agrees", "too little aboard", "too much"],
)
def test_a_report_from_before_the_command_says_no_more_than_the_ratings_allow(soc_frac, energy_kwh):
    hall = at_work(sent_ns=T0 + 25 * S)
    hall.fleet.energy_ns[3], hall.fleet.energy_kwh[3] = T0 + 30 * S, 26.99
    assert after(hall, (10, 30, {"soc_frac": soc_frac})) == pytest.approx((energy_kwh, 30 * S, 0.0), rel=1e-7)


@pytest.mark.parametrize(("was", "now"), [(SlotState.PLUGGED, SlotState.FAULT), (SlotState.FAULT, SlotState.PLUGGED)])
def test_a_change_of_state_ends_the_command_and_is_no_miss(was, now):
    hall = at_work()
    hall.fleet.state[3], hall.fleet.misses[3] = was, 4
    after(hall, (9, 9, {"state": now, "power_kw": 0.0}))
    row = hall.row()
    names = ("command_kw", "told_kw", "from_kw", "past_lo_kw", "past_hi_kw")
    assert [row[name] for name in names] == [-2.0] * 5
    assert (row["valid_until_ns"], row["sent_ns"], row["misses"], row["refused_ns"]) == (0, 0, 0, 0)


def test_reports_of_a_fault_teach_nothing():
    hall = at_work()
    hall.fleet.state[3] = SlotState.FAULT
    after(hall, *((9 + k, 9 + k, {"state": SlotState.FAULT, "power_kw": 0.0}) for k in range(9)))
    assert (hall.row()["misses"], hall.row()["refused_ns"]) == (0, 0)
    assert hall.row()["command_kw"] == 5.0  # nobody told it otherwise


def test_dead_time_counts_from_the_report_before_not_from_the_account():
    """Nothing at 1 s, all at 4.6 s; in between the account was brought up to 4 s by a renewal."""
    hall = at_work(command_kw=6.0)
    after(hall, (1, 1, {"power_kw": 0.0}))
    hall.fleet.energy_ns[3] = T0 + 4 * S
    after(hall, (4.6, 4.6, {"power_kw": 6.0}))
    assert hall.row()["dead_s"] == pytest.approx(1.8)


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
    assert hall.registry.wishes(np.zeros(0, WISH), T0) == 0
    assert hall.bytes() == before
