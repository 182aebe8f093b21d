"""What-if changes of a product go through its own curve, are refused by option, and are told wherever they count."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aggregator import whatif
from aggregator.contracts import Contract, CoreSettings
from aggregator.gateways.population import Behaviour
from aggregator.whatif import WhatIfError
from droop.curve import fractions
from droop.products import load


@settings(deadline=None)
@given(band=st.floats(0.0, 0.1), full=st.floats(0.15, 0.5), dev=st.floats(-0.6, 0.6))
def test_a_step_dead_band_and_a_droop_are_what_they_say(band, full, dev):
    product = whatif.changed(load("ce_fcr"), band, full)
    wanted = 0.0 if abs(dev) < band else max(-1.0, min(1.0, -dev / full))
    assert fractions(product.response, [dev])[0] == pytest.approx(wanted, abs=1e-9)


@settings(deadline=None)
@given(band=st.floats(0.001, 0.1), dev=st.floats(-0.7, 0.7))
@example(band=0.061120920035150225, dev=0.0)  # times the quotient of the edges it is not the edge by a last digit
def test_an_offset_dead_band_moves_with_its_edge(band, dev):
    """Dynamic Regulation: nothing to the edge of the dead band, then straight to the end of its curve."""
    before = load("gb_dr_low")
    assert before.deadband_kind == "offset"
    product = whatif.changed(before, band, None)
    full = max(abs(x) for x in before.curve_hz)
    inside = abs(dev) <= band
    stretched = math.copysign(before.deadband_hz + (abs(dev) - band) * (full - before.deadband_hz) / (full - band), dev)
    wanted = 0.0 if inside else fractions(before.response, [stretched])[0]
    assert fractions(product.response, [dev])[0] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("name", ["ce_fcr", "gb_dr_low", "gb_dc_high", "nordic_fcr_n", "ieee1547"])
def test_what_is_not_changed_stays(name):
    product = load(name)
    same = whatif.changed(product, product.deadband_hz, None)
    assert same == product
    assert whatif.told(same) == {}
    full = max(abs(x) for x in product.curve_hz)
    wide = whatif.changed(product, None, 2.0 * full)
    assert (wide.id, wide.score, wide.deadband_hz) == (product.id, product.score, product.deadband_hz)
    assert wide.title.endswith("(changed)")
    assert whatif.told(wide) == {"changed": [f"full_hz {full:g} -> {2 * full:g}"]}
    assert max(abs(x) for x in wide.curve_hz) == pytest.approx(2.0 * full)


def test_without_a_dead_band_there_is_none():
    assert whatif.changed(load("ce_fcr"), 0.0, None).deadband_kind == "none"
    offset = whatif.changed(load("gb_dr_low"), 0.0, None)
    assert offset.deadband_kind == "none"
    assert (np.diff(offset.curve_hz) > 0).all()


@pytest.mark.parametrize(
    ("name", "band", "full", "why"),
    [("ce_fcr", -0.01, None, "--deadband-hz"), ("ce_fcr", 0.2, None, "--full-hz"), ("ce_fcr", None, 0.005, "--full-hz"),
     ("ce_fcr", None, math.inf, "--full-hz"), ("ce_fcr", math.nan, None, "--deadband-hz"),
     ("pjm_rega_v1", 0.01, None, "no droop"), ("nordic_ffr_a", None, 0.4, "no droop")],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_its_option(name, band, full, why):
    with pytest.raises(WhatIfError, match=why):
        whatif.changed(load(name), band, full)


def test_every_product_of_the_settings_is_changed_and_chargers_are_all_alike():
    settings = CoreSettings("ce", 5, (Contract(load("ce_fcr"), 5.0), Contract(load("gb_dr_low"), 5.0)))
    assert whatif.sold(settings, None, None) is settings
    found = whatif.sold(settings, 0.02, None)
    assert [item.product.deadband_hz for item in found.contracts] == [0.02, 0.02]
    assert [item.sold_kw for item in found.contracts] == [5.0, 5.0]
    how = whatif.chargers(Behaviour(), 1.5, 4.0)
    assert (how.dead_s, how.ramp_kw_s) == ((1.5, 1.5), (4.0, 4.0))
    assert whatif.chargers(Behaviour(), None, None) == Behaviour()
    for bad in ((-1.0, None), (math.nan, None), (None, 0.0), (None, math.nan)):
        with pytest.raises(WhatIfError, match=r"--dead-s|--ramp-kw-s"):
            whatif.chargers(Behaviour(), *bad)
