"""The settings that head every journal: through JSON and back they are the same."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import orjson
import pytest

from aggregator.contracts import Contract, CoreSettings, from_json
from droop.products import catalogue, load, parse

CATALOGUE = catalogue()


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_product_of_the_catalogue_survives_json(name):
    settings = CoreSettings("xy", 7, (Contract(CATALOGUE[name], 1234.5678901234567),), epoch=2**60)
    again = from_json(settings.to_json())
    assert again == settings
    assert again.to_json() == settings.to_json()
    product = again.contracts[0].product
    assert (product.ramp_pu_s == math.inf) == (CATALOGUE[name].ramp_pu_s == math.inf)
    assert np.array_equal(product.response.x_hz, CATALOGUE[name].response.x_hz)
    assert product.response.deadband_hz == CATALOGUE[name].response.deadband_hz


def test_both_kinds_of_ramp_are_in_the_catalogue():
    assert {math.isinf(product.ramp_pu_s) for product in CATALOGUE.values()} == {True, False}


def test_settings_of_a_stack_and_of_every_field_survive():
    own = parse(
        {"id": "own", "title": "t", "area": "x", "nominal_hz": 50.0, "direction": "up", "curve": [[-0.3, 0.1], [0, 0]],
         "notes": ["a", "b"], "sources": [], "delay_s": 0.25, "ramp_pu_s": 0.5, "interval_s": 600}, "test",
    )  # fmt: skip
    settings = CoreSettings(
        "xy", 9, (Contract(own, 1.0), Contract(load("ce_fcr"), 0.0)), 3, 4, 5.0, 0.6, 0.7, 2.5, 4.5, 1.5, 8.0, 2.0, 0.1,
    )  # fmt: skip
    assert from_json(settings.to_json()) == settings
    assert (settings.interval_s, settings.nominal_hz) == (600, 50.0)


def test_no_key_is_in_it():
    table = orjson.loads(CoreSettings("xy", 7, (Contract(load("ce_fcr"), 1.0),)).to_json())
    assert set(table) == {field.name for field in dataclasses.fields(CoreSettings)}
    assert table["key_id"] == 1


def test_kernel_settings_are_in_the_kernels_units():
    settings = CoreSettings(
        "xy", 7, (Contract(load("ce_fcr"), 1.0),), refresh_s=0.5, validity_s=8.0, renew_s=2.5, fresh_s=2.0, stale_s=4.0
    ).engine()
    assert (settings.rules.period_ns, settings.hold_ns, settings.fade_s) == (500_000_000, 1_000_000_000, 5.0)
    assert (settings.sending.validity_ns, settings.sending.renew_ns) == (8_000_000_000, 2_500_000_000)
    assert settings.rules.ages == (2.0, 4.0, 2.0, 0.5)


def test_a_stack_holds_no_longer_than_its_least_patient_and_fades_as_fast_as_its_quickest_product():
    slow = dataclasses.replace(load("ce_fcr"), hold_s=3.0, fade_s=9.0)
    settings = CoreSettings("xy", 7, (Contract(load("ce_fcr"), 1.0), Contract(slow, 1.0))).engine()
    assert (settings.hold_ns, settings.fade_s) == (1_000_000_000, 5.0)


@pytest.mark.parametrize("sold_kw", [-1.0, math.nan, math.inf])
def test_power_that_cannot_be_sold_is_refused(sold_kw):
    with pytest.raises(ValueError, match=r"sold_kw .*ce_fcr"):
        Contract(load("ce_fcr"), sold_kw)


def test_a_baseline_that_a_stack_cannot_be_settled_by_is_refused_before_it_is_sold():
    table = {"fn": "regression", "coefficients": {f"hour_{h}": 1.0 for h in range(24)}, "until_ns": 0}
    own = dataclasses.replace(load("ce_fcr"), baseline=table)
    assert CoreSettings("xy", 7, (Contract(own, 1.0), Contract(own, 2.0))).contracts
    with pytest.raises(ValueError, match="goes with one product alone"):
        CoreSettings("xy", 7, (Contract(own, 1.0), Contract(load("afrr_up"), 1.0)))


def test_an_interval_that_a_restart_could_not_rebuild_is_refused():
    assert Contract(dataclasses.replace(load("ce_fcr"), interval_s=3600), 1.0)
    with pytest.raises(ValueError, match=r"`interval_s` takes at most 3600 s .* `market\.block_s`"):
        Contract(dataclasses.replace(load("ce_fcr"), interval_s=14400), 1.0)
