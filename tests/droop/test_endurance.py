"""What was sold for a quarter of an hour is delivered for a quarter of an hour: the whole tick over virtual time."""

from __future__ import annotations

import numpy as np
import pytest

from droop.bounds import Rules
from droop.capability import sustained
from droop.commands import Sending
from droop.fleet import PLUGGED
from droop.handle import hold
from droop.products import load
from droop.step import Running, Settings, engine, tick_held
from droop.watch import Verdict
from tests.naive_charger import Chargers

S = 1_000_000_000
NOW = 1_700_000_000 * S
SETTINGS = Settings(Rules(), Sending(), S, 1.0)
USABLE = int(Verdict.USABLE)
QUARTER_S = 900


def plugged_in(fleet, seed, spread, least=0.0):
    """Vehicles anywhere in their windows, `spread` of the capacity wide; every second one has a least power.

    Windows keep clear of the edges where ratings fall: how far they fall is no part of what is sold.
    """
    rng = np.random.default_rng(seed)
    n = fleet.state.size
    usable = rng.uniform(30.0, 90.0, n)
    fleet.state[:] = PLUGGED
    fleet.usable_kwh[:] = usable
    fleet.charge_max_kw[:] = fleet.discharge_max_kw[:] = rng.choice([3.7, 7.4, 11.0, 22.0], n)
    fleet.eta_charge[:] = fleet.eta_discharge[:] = rng.uniform(0.9, 0.97, n)
    fleet.soc_floor_kwh[:] = (0.5 - spread / 2) * usable
    fleet.ceiling_kwh[:] = (0.5 + spread / 2) * usable
    fleet.energy_kwh[:] = rng.uniform(fleet.soc_floor_kwh, fleet.ceiling_kwh)
    fleet.min_kw[:] = np.where(rng.random(n) < 0.5, least, 0.0)
    fleet.report_ns[:] = fleet.energy_ns[:] = NOW


def deliver(rows, seed, spread, least, sign, sold_for_s):
    """Power sold, and the power delivered in each second of a full activation [kW]."""
    bare = engine(rows, [])
    plugged_in(bare.fleet, seed, spread, least)
    sold = sustained(bare.fleet, NOW, sold_for_s / 3600.0)[0 if sign > 0 else 1]
    one = engine(rows, [(load("ce_fcr"), sold)])
    plugged_in(one.fleet, seed, spread, least)
    held = hold(Running(one, SETTINGS))
    world = Chargers(one.fleet, NOW)
    given = np.zeros(QUARTER_S)
    for k in range(QUARTER_S):
        found = tick_held(held, False, world.now_ns, 50.0 - 0.2 * sign, USABLE, 0.0, 0.0)
        assert found.broken == 0
        assert found.request_kw == pytest.approx(sign * sold, rel=1e-6)
        out, sent = one.out, one.out.sent[0]
        world.hear(out.slot[:sent], out.setpoint_kw[:sent], world.now_ns + SETTINGS.sending.validity_ns)
        world.advance(world.now_ns + S)
        world.report(one.fleet)
        given[k] = world.power_kw.sum()
    return sold, given


@pytest.mark.parametrize("least", [0.0, 1.38, 4.14])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("spread", [0.1, 0.3, 0.8])
@pytest.mark.parametrize("seed", range(2))
def test_a_quarter_of_an_hour_is_delivered(seed, spread, sign, least):
    """In windows of a tenth of the capacity most vehicles are short of energy, in those of eight tenths one in ten."""
    sold, given = deliver(80, seed, spread, least, sign, QUARTER_S)
    assert sold > 0.0
    assert sign * given.sum() >= 0.99 * sold * QUARTER_S
    assert sign * given[:60] == pytest.approx(sold, rel=1e-5)


def test_what_was_sold_for_less_time_runs_out():
    """The same fleet, sold for five minutes, does not last for fifteen: the model's batteries do run empty."""
    sold, given = deliver(80, 0, 0.1, 0.0, 1, 300)
    assert given[:300] == pytest.approx(sold, rel=1e-5)
    assert given[-300:].sum() < 0.7 * sold * 300
