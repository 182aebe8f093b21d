"""What the core shows of itself: JSON-ready at any moment, and never a number that is none."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from aggregator import figures
from aggregator.contracts import Contract, CoreSettings
from aggregator.core import Aggregator
from aggregator.gateways.population import Behaviour
from aggregator.gateways.simulated import SimulatedFleet
from aggregator.views import FLEETVIEW
from droop.products import load
from telemetry.samples import FREQUENCY, SESSION, Quality, SlotState

S = 10**9
T0 = 1_790_000_000 * S
N = 40

KEYS = {
    "t_ns", "rx_ns", "area", "nominal_hz", "hz", "quality", "mode", "products", "signal_kw", "request_kw",
    "baseline_kw", "response_kw", "dealt_kw", "commanded_kw", "unserved_kw", "unserved_by_reason", "headroom_up_kw",
    "headroom_down_kw", "capability", "metered_kw", "meter_t_ns", "delivered_kw", "vehicles", "soc_hist", "ticks",
    "commands", "rejected", "alarms", "requested_kwh", "delivered_kwh",
}  # fmt: skip


def sample(t_ns, hz, quality=0):
    block = np.zeros(1, FREQUENCY)
    block["t_ns"] = block["rx_ns"] = t_ns
    block["hz"], block["quality"] = hz, quality
    return block


@pytest.fixture
def line():
    core = Aggregator(CoreSettings("ce", N, (Contract(load("ce_fcr"), 50.0),)), journal=False)
    # Real chargers, some of them free, but none that breaks off.
    return core, SimulatedFleet(N, 1, T0, behaviour=Behaviour(dropouts_per_h=0.0, refusals_per_h=0.0))


def drive(core, fleet, seconds, hz=49.95):
    for k in range(seconds):
        now = T0 + k * S
        core.on_sessions(fleet.sessions(now), now)
        core.on_vehicles(fleet.reports(now), now)
        core.on_meters(fleet.meter(now), now)
        core.on_samples(sample(now, hz), now)
        for command in core.drain_commands():
            fleet.apply(command.rows, command.valid_until_ns, now)
    return T0 + (seconds - 1) * S


def shown(core, now_ns):
    """As it travels: through JSON, in which a number that is none would be null."""
    live = figures.live(core, now_ns, figures.survey(core, now_ns))
    assert orjson.loads(orjson.dumps(live)) == orjson.loads(orjson.dumps(live, option=orjson.OPT_SERIALIZE_NUMPY))
    return orjson.loads(orjson.dumps(live))


def test_before_the_first_decision_everything_has_a_value(line):
    live = shown(line[0], T0)
    assert set(live) >= KEYS
    assert {key for key, value in live.items() if value is None} == {"hz", "metered_kw", "delivered_kw"}
    assert (live["mode"], live["ticks"], live["quality"]) == ("starting", 0, [])
    assert live["vehicles"] == {"total": N, "plugged": 0, "stale": 0, "unplugged": N, "fault": 0}


def test_live_figures_agree_with_each_other_and_with_the_fleet(line):
    core, fleet = line
    now = drive(core, fleet, 30)
    live = shown(core, now)
    assert (live["hz"], live["mode"], live["quality"]) == (49.95, "normal", [])
    assert live["products"] == [{"id": "ce_fcr", "sold_kw": 50.0, "fraction": pytest.approx(0.25)}]
    assert live["response_kw"] == pytest.approx(12.5)
    assert live["request_kw"] == pytest.approx(live["baseline_kw"] + 12.5)
    assert live["commanded_kw"] == pytest.approx(live["request_kw"], abs=1e-3)
    assert live["headroom_up_kw"] == pytest.approx(core.last.hi_kw - live["dealt_kw"])
    assert live["headroom_down_kw"] == pytest.approx(live["dealt_kw"] - core.last.lo_kw)
    assert live["delivered_kw"] == pytest.approx(live["metered_kw"] - live["baseline_kw"])
    assert live["delivered_kw"] == pytest.approx(12.5, abs=1.5)
    plugged = int(fleet.truth().plugged.sum())
    assert live["vehicles"] == {"total": N, "plugged": plugged, "stale": 0, "unplugged": N - plugged, "fault": 0}
    assert sum(live["soc_hist"]) == plugged
    assert len(live["soc_hist"]) == 20
    capability = live["capability"]
    for way in ("up_kw", "down_kw"):
        assert capability[way]["15"] >= capability[way]["30"] >= capability[way]["60"] >= 0
    assert live["requested_kwh"] == pytest.approx(12.5 * 29 / 3600)


def test_a_dead_bus_shows_its_ghost_and_its_alarm(line):
    core, fleet = line
    now = drive(core, fleet, 5) + S
    core.on_samples(sample(now, 45.0, int(Quality.DEAD_BUS | Quality.RANGE)), now)
    live = shown(core, now)
    assert (live["hz"], live["mode"], live["quality"]) == (45.0, "baseline", ["range", "dead_bus"])
    assert [alarm["code"] for alarm in live["alarms"]] == ["DEAD_BUS"]
    assert live["rejected"] == {"range": 1, "dead_bus": 1}
    core.on_samples(sample(now + S, np.nan, int(Quality.NAN)), now + S)
    assert shown(core, now + S)["hz"] is None


def test_the_fleet_view_is_the_fleet_and_a_car_that_left_leaves_nothing(line):
    core, fleet = line
    now = drive(core, fleet, 20)
    rows = figures.fleetview(core, now)
    assert rows.dtype == FLEETVIEW
    truth = fleet.truth()
    assert (rows["slot"] == np.arange(N)).all()
    assert (rows["state"] == truth.plugged).all()
    assert (rows["session"] == truth.session).all()
    here = truth.plugged
    assert rows["soc_frac"][here] == pytest.approx(truth.soc_frac[here], abs=0.01)
    assert (rows["soc_frac"][~here] == 0).all()
    assert (rows["age_s"][here] < 4).all()
    assert (rows["age_s"][~here] == 0).all()
    assert ((rows["lo_kw"] <= rows["setpoint_kw"] + 1e-5) & (rows["setpoint_kw"] <= rows["hi_kw"] + 1e-5)).all()
    slot = int(np.flatnonzero(here)[0])
    assert rows["vehicle"][slot].startswith(b"sim-")
    gone = np.zeros(1, SESSION)
    gone["slot"], gone["session"], gone["t_ns"], gone["state"] = slot, truth.session[slot], now, SlotState.UNPLUGGED
    core.on_sessions(gone, now)
    after = figures.fleetview(core, now)[slot]
    assert (after["state"], after["soc_frac"], after["age_s"], after["vehicle"]) == (0, 0.0, 0.0, b"")


def test_reading_changes_nothing(line):
    core, fleet = line
    now = drive(core, fleet, 10)
    before = b"".join(column.tobytes() for column in core.engine.fleet), core.sums.ticks
    shown(core, now + 3600 * S)
    figures.fleetview(core, now + 3600 * S)
    assert (b"".join(column.tobytes() for column in core.engine.fleet), core.sums.ticks) == before
