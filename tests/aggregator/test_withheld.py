"""What limits take of the rated power: against an obvious twin, and against what `explain` says of each vehicle."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from aggregator import figures
from aggregator.contracts import Contract, CoreSettings, Site
from aggregator.core import Aggregator
from aggregator.explained import document
from aggregator.gateways.population import Behaviour
from aggregator.gateways.simulated import SimulatedFleet
from aggregator.withheld import withheld_kw
from droop import reasons
from droop.fleet import PLUGGED, Fleet, allocate
from droop.products import load
from droop.reasons import Reason
from telemetry.samples import FREQUENCY, WISH

S = 10**9
T0 = 1_790_000_000 * S
N = 120
SITE = Site("street", None, 10, 40, 60.0, 80.0)


def twin(fleet: Fleet) -> dict[str, dict[str, float]]:
    """One vehicle after the other, in plain numbers."""
    taken: dict[str, dict[str, float]] = defaultdict(lambda: {"up": 0.0, "down": 0.0})
    for i in range(fleet.state.size):
        if fleet.state[i] == 0:
            continue
        for way, rated, own, bound, own_why, why in (
            ("up", fleet.discharge_max_kw[i], fleet.free_hi_kw[i], fleet.hi_kw[i], fleet.own_up[i], fleet.reason_up[i]),
            ("down", fleet.charge_max_kw[i], -fleet.free_lo_kw[i], -fleet.lo_kw[i], fleet.own_down[i],
             fleet.reason_down[i]),
        ):  # fmt: skip
            if own < rated:
                taken[reasons.name(int(own_why))][way] += float(rated) - float(own)
            if bound < min(own, rated):
                taken[reasons.name(int(why))][way] += float(min(own, rated)) - float(bound)
    return dict(taken)


@pytest.fixture(scope="module")
def core() -> Aggregator:
    """A fleet with least powers, a capped street, empty chargers and three kinds of wishes, after 20 s."""
    core = Aggregator(CoreSettings("ce", N, (Contract(load("ce_fcr"), 150.0),), sites=(SITE,)), journal=False)
    fleet = SimulatedFleet(N, 3, T0, behaviour=Behaviour(dropouts_per_h=20.0))
    for second in range(1, 21):
        now_ns = T0 + second * S
        for block, take in ((fleet.sessions(now_ns), core.on_sessions), (fleet.reports(now_ns), core.on_vehicles)):
            if block.size:
                take(block, now_ns)
        if second == 5:
            rows = np.zeros(30, WISH)
            rows["t_ns"], rows["until_ns"], rows["slot"], rows["session"] = now_ns, now_ns + 3600 * S, np.arange(30), 1
            rows["wish"] = 1 + np.arange(30) % 3
            core.on_wishes(rows, now_ns)
        core.on_samples(np.array([(now_ns, now_ns, 49.95, 1.0, 0, 1)], FREQUENCY), now_ns)
        for command in core.drain_commands():
            fleet.apply(command.rows, command.valid_until_ns, now_ns)
    return core


def test_every_reason_counts_what_it_takes(core: Aggregator) -> None:
    found, wanted = withheld_kw(core.engine.fleet), twin(core.engine.fleet)
    assert found.keys() == wanted.keys() >= {"override", "site", "minimum"}
    for reason, taken in wanted.items():
        assert found[reason] == pytest.approx(taken, abs=1e-3), reason
    assert figures.survey(core, T0 + 20 * S)["withheld_kw"] == found


def test_an_overrides_cost_is_the_sum_of_what_is_said_of_each_vehicle(core: Aggregator) -> None:
    here = np.flatnonzero(core.engine.fleet.state).tolist()
    assert core.last is not None
    said = [document(core.engine, core.last, slot) for slot in here]
    assert withheld_kw(core.engine.fleet)["override"] == pytest.approx(
        {"up": sum(row["wish_up_kw"] for row in said), "down": sum(row["wish_down_kw"] for row in said)}, abs=1e-3
    )


def test_one_charger_after_the_other_in_figures() -> None:
    """11 kW each way: an owner has all of the discharge and asks for the charge, a site leaves 3 kW of discharge."""
    fleet = allocate(3)  # the third is empty and takes nothing
    fleet.state[:2] = PLUGGED
    fleet.charge_max_kw[:] = fleet.discharge_max_kw[:] = 11.0
    fleet.free_lo_kw[:2] = fleet.lo_kw[:2] = -11.0
    fleet.free_hi_kw[0] = fleet.hi_kw[0] = -11.0
    fleet.free_hi_kw[1], fleet.hi_kw[1] = 11.0, 3.0
    fleet.own_up[0] = fleet.reason_up[0] = Reason.OVERRIDE
    fleet.reason_up[1] = Reason.SITE
    assert withheld_kw(fleet) == {"override": {"up": 22.0, "down": 0.0}, "site": {"up": 8.0, "down": 0.0}}
    assert withheld_kw(allocate(3)) == {}
