"""What a statement rests on besides frequency and meters: the recorded modes, and what was before an event."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from droop.products import load
from settlement import baselines
from settlement.align import NS, Grid
from settlement.facts import Meters, Modes
from settlement.interval import Sold, settle
from settlement.statement import differing, from_dict
from tests.settlement.test_accuracy import T0, facts

FCR = load("ce_fcr")
FFR = load("nordic_ffr_a")


def modes(weight):
    t_ns = T0 + NS * np.arange(-3600, 900)
    nothing = np.zeros(t_ns.size)
    return Modes(t_ns, np.full(t_ns.size, weight), nothing, nothing, np.zeros(t_ns.size, np.int64))


def test_the_modes_of_its_interval_are_in_its_digest():
    def stated(**recorded):
        own = facts([100.0], [])._replace(modes=recorded)
        return settle([Sold(FCR, 1000.0)], own, T0, T0 + 900 * NS)[0]

    plain, one, other = stated(), stated(ce_fcr=modes(0.0)), stated(ce_fcr=modes(1e-12))
    assert plain.modes is None
    assert 900 < one.modes.count < 1000  # the lead-in, and not all that was ever recorded
    assert differing(one, other)[0] == "modes.sha256"
    assert from_dict(one.to_dict()).modes == one.modes


def test_an_event_that_began_before_what_is_known_declares_nothing():
    product = replace(FFR, baseline={"fn": "pre_event", "last_s": 60.0})
    grid = Grid(T0, NS, 600)
    t_ns = T0 + NS * np.arange(-300, 600)
    meters = Meters(t_ns, np.full(t_ns.size, 50.0), np.zeros(t_ns.size, np.int64), np.ones(t_ns.size, bool))
    asked = np.zeros(600)
    asked[:20] = asked[100:130] = 1.0
    found = baselines.declare(product, meters, asked, grid)
    assert found.start_ns.tolist() == [T0 + 100 * NS]
    assert found.power_kw.tolist() == [50.0]


@pytest.mark.parametrize(("hold_s", "most"), [(30.0, 200.0), (7200.0, 3661.0)])
def test_the_history_reaches_before_the_longest_event(hold_s, most):
    product = replace(
        FFR, trigger=replace(FFR.trigger, hold_s=hold_s), baseline={"fn": "pre_event", "last_s": 60.0}
    )  # fmt: skip
    assert min(hold_s, 3600.0) + 60.0 <= baselines.lead_s(product) <= most
