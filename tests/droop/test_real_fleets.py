"""Fleets of real cars in real sessions, on a real evening's frequency: every promise is kept at every tick.

The files are not part of the repository: FLYBALL_DATA, or `shared/data` beside it.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import numpy as np
import pytest

from droop.bounds import Rules
from droop.capability import sustained
from droop.commands import Sending
from droop.fleet import PLUGGED, SEGMENTS, UNPLUGGED
from droop.handle import hold
from droop.products import load
from droop.reasons import Reason
from droop.sites import Node, tree
from droop.step import Running, Settings, engine, tick_held
from droop.watch import Verdict
from tests.naive_charger import Chargers

DATA = Path(os.environ.get("FLYBALL_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
CARS = DATA / "vehicles" / "chargeprice_open-ev-data" / "ev-data.json"
ACN = DATA / "ev_sessions" / "acn" / "acndata_sessions_cal_dec2020_apr2021.json"
NORWAY = DATA / "ev_sessions" / "norway_12_sites" / "Dataset1_charging_reports_without_TRO_R.csv.gz"
GB = DATA / "frequency" / "gb_neso_1s" / "f_2026-06-23.csv.gz"

pytestmark = [
    pytest.mark.skipif(not path.is_file(), reason=f"no {path.name} in {path.parent}")
    for path in (CARS, ACN, NORWAY, GB)
]  # fmt: skip

S = 1_000_000_000
NOW = 1_700_000_000 * S
SETTINGS = Settings(Rules(), Sending(), S, 1.0)
USABLE, NO_SAMPLE = int(Verdict.USABLE), int(Verdict.NONE)
ROWS = 240
SEGMENT_OF = np.arange(ROWS) * SEGMENTS // ROWS
SECONDS = 1500
# Least current 6 A of a phase (IEC 61851-1) at 230 V; direct current: 5 A at 400 V.
LEAST_AC_KW, LEAST_DC_KW = 1.38, 2.0
SAYS_NOTHING = (Reason.NONE, Reason.RATING)


def cars():
    """(usable kWh, AC kW, phases, DC kW) of every battery car."""
    listed = json.loads(CARS.read_text())["data"]
    return [
        (c["usable_battery_size"], c["ac_charger"]["max_power"], c["ac_charger"]["usable_phases"],
         (c["dc_charger"] or {"max_power": 0.0})["max_power"])
        for c in listed if c["type"] == "bev" and c["vehicle_type"] == "car"
    ]  # fmt: skip


def acn_sessions():
    """(hours stayed, kWh charged, hours announced or None, kWh asked for or None), as the users gave them."""
    sessions = []
    for item in json.loads(ACN.read_text())["_items"]:
        begun = parsedate_to_datetime(item["connectionTime"])

        def after(text, begun=begun):
            return (parsedate_to_datetime(text) - begun).total_seconds() / 3600.0

        said = (item["userInputs"] or [{}])[-1]
        leaves = said.get("requestedDeparture")
        sessions.append(
            (after(item["disconnectTime"]), item["kWhDelivered"], after(leaves) if leaves else None,
             said.get("kWhRequested"))
        )  # fmt: skip
    return sessions


def norway_sessions():
    """As `acn_sessions`; the plug-out is what is announced, where there is one."""
    sessions = []
    with gzip.open(NORWAY, "rt", encoding="utf-8", errors="replace") as lines:
        for row in csv.DictReader(lines, delimiter=";"):
            stay = None
            if "NA" not in (row["plugout_time"], row["plugin_time"]):
                begun, ended = (datetime.fromisoformat(row[name]) for name in ("plugin_time", "plugout_time"))
                stay = (ended - begun).total_seconds() / 3600.0
            kwh = float(row["energy_session"].replace(",", ".").replace("NA", "0"))
            sessions.append((stay, kwh, stay, None))
    return sessions


def evening():
    """GB's frequency from 18:50 on, 49.657 Hz at 19:00:17 the lowest of the day, each second."""
    with gzip.open(GB, "rt") as lines:
        rows = list(csv.reader(lines))[1:]
    first = next(k for k, row in enumerate(rows) if row[0].endswith("18:50:00"))
    return [float(row[1]) for row in rows[first : first + SECONDS]]


def park(fleet, sessions, seed):
    """Plug real cars into real sessions, each at some moment of its stay; return when each really leaves [ns].

    A car had 80 % less what it charged when it came, and has charged evenly since. Every fifth charger is for direct
    current; on alternating current the least power goes with the phases.
    """
    rng = np.random.default_rng(seed)
    listed, leaves_ns = cars(), np.zeros(fleet.state.size, np.int64)
    for row in range(fleet.state.size):
        stay_h, kwh, said_h, asked_kwh = sessions[rng.integers(len(sessions))]
        usable, ac_kw, phases, dc_kw = listed[rng.integers(len(listed))]
        direct = row % 5 == 0 and dc_kw > 0
        came = max(0.8 * usable - kwh, 0.1 * usable)
        there_h = (stay_h if stay_h and stay_h > 0 else 4.0) * rng.random()
        done = there_h / stay_h if stay_h and stay_h > 0 else 0.5
        fleet.state[row] = PLUGGED
        fleet.usable_kwh[row] = usable
        fleet.soc_floor_kwh[row], fleet.ceiling_kwh[row] = 0.15 * usable, 0.9 * usable
        fleet.energy_kwh[row] = min(came + done * kwh, 0.9 * usable)
        rating = min(dc_kw, 50.0) if direct else min(ac_kw, 22.0)
        fleet.charge_max_kw[row] = fleet.discharge_max_kw[row] = rating
        fleet.min_kw[row] = LEAST_DC_KW if direct else min(LEAST_AC_KW * phases, rating)
        fleet.depart_ns[row] = NOW + int((said_h - there_h) * 3600 * S) if said_h is not None else 0
        fleet.depart_kwh[row] = min(came + (asked_kwh or kwh), usable)
        leaves_ns[row] = NOW + int((stay_h - there_h) * 3600 * S) if stay_h and stay_h > 0 else 0
    fleet.eta_charge[:], fleet.eta_discharge[:] = 0.94, 0.93
    fleet.report_ns[:] = fleet.energy_ns[:] = NOW
    return leaves_ns


class Evening:
    """A fleet lives through the evening; every tick is looked at."""

    def __init__(self, sessions, seed, nodes=()):
        caps = tree(nodes, ROWS)[0] if nodes else None
        bare = engine(ROWS, [])
        park(bare.fleet, sessions, seed)
        up, down = sustained(bare.fleet, NOW, 0.25)
        self.sold_kw = 0.5 * min(up, down)
        self.one = engine(ROWS, [(load("ce_fcr"), self.sold_kw)], caps)
        self.fleet = self.one.fleet
        self.leaves_ns = park(self.fleet, sessions, seed)
        self.begun_kwh = self.fleet.energy_kwh.copy()
        self.world = Chargers(self.fleet, NOW)
        # Every fiftieth falls silent after a while.
        self.silent_ns = np.where(np.arange(ROWS) % 50 == 7, NOW + 300 * S, np.iinfo(np.int64).max)
        self.held = hold(Running(self.one, SETTINGS))
        self.capped = bool(nodes)
        self.left = self.promised = self.short_ticks = 0
        self.reasons: set[int] = set()

    def run(self):
        tick_held(self.held, self.capped, NOW - 1, 50.0, USABLE, 0.0, 0.0)
        baseline_kw = self.one.totals.plan_kw.sum()
        for k, hz in enumerate(evening()):
            now_ns = self.world.now_ns
            # A sample is missing now and then.
            found = tick_held(
                self.held, self.capped, now_ns, hz, NO_SAMPLE if k % 97 == 50 else USABLE, baseline_kw, 0.0
            )
            self.check(found)
            sent = self.one.out.sent[0]
            slots, told = self.one.out.slot[:sent], self.one.out.setpoint_kw[:sent]
            self.world.hear(slots, told, now_ns + SETTINGS.sending.validity_ns)
            self.world.advance(now_ns + S)
            self.world.report(self.fleet, np.flatnonzero(self.world.now_ns < self.silent_ns))
            self.leave()

    def check(self, found):
        fleet = self.fleet
        assert found.broken == 0
        wide = max(found.hi_kw, -found.lo_kw)
        assert found.dealt_kw == pytest.approx(found.request_kw - found.unserved_kw, abs=2e-6 * wide)
        assert found.commanded_kw == pytest.approx(found.request_kw - found.unserved_kw, abs=4e-6 * wide)
        assert self.one.unserved_kw.sum() == pytest.approx(found.unserved_kw, abs=1e-9 * wide)
        self.short_ticks += found.unserved_kw != 0.0
        up, down = fleet.reason_up, fleet.reason_down
        hears = (fleet.state == PLUGGED) & (up != Reason.STALE) & (up != Reason.REFUSED)
        power = fleet.command_kw
        assert (power[hears] >= fleet.lo_kw[hears] - 1e-4).all()
        assert (power[hears] <= fleet.hi_kw[hears] + 1e-4).all()
        assert (fleet.lo_kw >= -fleet.charge_max_kw - 1e-4).all()
        assert (fleet.hi_kw <= fleet.discharge_max_kw + 1e-4).all()
        between = hears & (np.abs(power) > 1e-4) & (np.abs(power) < fleet.min_kw - 1e-4)
        assert not between.any()
        # A bound that is less than the rating has a reason of its own; one switched since, from its next renewal on.
        hears &= fleet.switched_ns < self.one.totals.refreshed_ns[SEGMENT_OF]
        assert not np.isin(up[hears & (fleet.hi_kw < fleet.discharge_max_kw - 1e-3)], SAYS_NOTHING).any()
        assert not np.isin(down[hears & (fleet.lo_kw > -fleet.charge_max_kw + 1e-3)], SAYS_NOTHING).any()
        self.reasons |= set(np.unique(up)) | set(np.unique(down))
        caps = self.one.room.tree
        for node in range(caps.first.size):
            flow = fleet.power_kw[caps.first[node] : caps.last[node]].astype(float).sum()
            assert caps.lower_kw[node] - 1e-3 <= flow + min(-caps.over_kw[node], 0.0)
            assert flow - max(caps.over_kw[node], 0.0) <= caps.upper_kw[node] + 1e-3

    def charged(self, row, seconds):
        """Energy aboard after charging all the time, as the taper lets it [kWh]."""
        kwh, usable, taper = self.begun_kwh[row], self.fleet.usable_kwh[row], SETTINGS.rules.derating
        for _ in range(seconds):
            left = (1 - kwh / usable) / (1 - taper.taper_from_frac)
            share = min(taper.taper_least_frac + (1 - taper.taper_least_frac) * left, 1.0)
            kwh += 0.94 * self.fleet.charge_max_kw[row] * share / 3600
        return kwh

    def leave(self):
        """Cars whose announced departure was in the last second, and cars that go."""
        fleet, now_ns = self.fleet, self.world.now_ns
        said = (fleet.depart_ns > now_ns - S) & (fleet.depart_ns <= now_ns) & (fleet.state == PLUGGED)
        for row in np.flatnonzero(said & (now_ns < self.silent_ns)):
            # What was wanted, as far as charging all the time could have brought it.
            most = self.charged(row, (fleet.depart_ns[row] - NOW) // S)
            could = min(fleet.depart_kwh[row], fleet.ceiling_kwh[row], most)
            assert self.world.energy_kwh[row] >= could - fleet.charge_max_kw[row] * 4 / 3600, row
            self.promised += 1
        for row in np.flatnonzero((self.leaves_ns > now_ns - S) & (self.leaves_ns <= now_ns)):
            fleet.state[row] = UNPLUGGED
            self.world.told_kw[row] = 0.0
            self.one.totals.refreshed_ns[SEGMENT_OF[row]] = 1
            self.left += 1


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("sessions", [acn_sessions, norway_sessions])
def test_every_promise_is_kept(sessions, seed):
    one = Evening(sessions(), seed)
    one.run()
    assert one.left > 10
    assert one.promised > 0
    assert one.short_ticks == 0
    assert one.reasons >= {Reason.RATING, Reason.SOC, Reason.DEPARTURE, Reason.STALE, Reason.HELD, Reason.MINIMUM}


def test_every_promise_is_kept_under_caps():
    nodes = [Node("garage", None, 0, 120, 250.0, 350.0), Node("row", "garage", 10, 37, 60.0, 90.0)]
    one = Evening(acn_sessions(), 5, nodes)
    one.run()
    assert Reason.SITE in one.reasons
