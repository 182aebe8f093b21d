"""The static response: the rule book's vectors, the twin, and the two kinds of dead band."""

# ruff: noqa: S311 - seeded cases, not secrets
from __future__ import annotations

import csv
import math
import random
from pathlib import Path

import numpy as np
import pytest

from droop import curve
from droop.curve import Curve, fractions, response
from droop.products import catalogue, load
from tests import naive

CATALOGUE = catalogue()
FREQUENCY = {product.id: product for product in CATALOGUE.values() if product.input == "frequency"}
SIGNAL = {product.id: product for product in CATALOGUE.values() if product.input == "signal"}
GOLDEN = Path(__file__).parent / "golden"


def vectors(name="curves.csv"):
    with (GOLDEN / name).open(encoding="utf-8", newline="") as file:
        return [pytest.param(row, id=row["id"]) for row in csv.DictReader(file)]


def share(product, hz):
    return float(fractions(product.response, [hz - product.nominal_hz])[0])


@pytest.mark.parametrize("row", vectors())
def test_rulebook_vector(row):
    found = share(load(row["product"]), float(row["hz"]))
    assert abs(found - float(row["expected"])) <= float(row["tolerance"])


@pytest.mark.parametrize("row", vectors("signals.csv"))
def test_signal_vector(row):
    found = fractions(load(row["product"]).response, [float(row["signal"])])[0]
    assert abs(found - float(row["expected"])) <= float(row["tolerance"])


def test_every_product_has_vectors():
    assert {row.values[0]["product"] for row in vectors()} == set(FREQUENCY)
    assert {row.values[0]["product"] for row in vectors("signals.csv")} == set(SIGNAL)


def test_stacked_products_add():
    """ND-1: 1 MW FCR-N and 2 MW FCR-D up at 49.70 Hz owe 2 MW."""
    total = 1.0 * share(load("nordic_fcr_n"), 49.7) + 2.0 * share(load("nordic_fcr_d_up"), 49.7)
    assert total == pytest.approx(2.0, abs=1e-9)


def test_dynamic_containment_breakpoints_and_energy():
    """E-1: 30 min at 49.8 Hz is 0.025 MWh per MW."""
    assert share(load("gb_dc_low"), 49.8) * 0.5 == pytest.approx(0.025, abs=1e-9)


@pytest.mark.parametrize("product", FREQUENCY.values(), ids=FREQUENCY)
class TestEveryProduct:
    hz = np.round(np.linspace(-3.5, 3.5, 70_001), 6)

    def test_never_rises_with_frequency(self, product):
        out = fractions(product.response, self.hz)
        # A step dead band lies between rise-free halves: inside it the response is 0, which both halves allow.
        assert (np.diff(out[self.hz <= -product.deadband_hz]) <= 0).all()
        assert (np.diff(out[self.hz >= product.deadband_hz]) <= 0).all()
        assert (np.diff(out) <= 0).all() or product.deadband_kind == "step"

    def test_never_more_than_sold_and_in_its_direction(self, product):
        out = fractions(product.response, self.hz)
        assert np.abs(out).max() == 1.0
        assert product.direction != "up" or out.min() == 0.0
        assert product.direction != "down" or out.max() == 0.0
        assert product.direction != "symmetric" or out.min() == -out.max()
        assert product.direction != "down" or out.min() == -1.0
        # Low frequency is answered by power into the grid, high by power out of it.
        assert (out[self.hz < 0] >= 0).all()
        assert (out[self.hz > 0] <= 0).all()

    def test_nothing_inside_the_dead_band(self, product):
        inside = self.hz[np.abs(self.hz) < product.deadband_hz]
        assert (fractions(product.response, inside) == 0.0).all()
        assert inside.size > 0 or product.deadband_kind == "none"

    def test_is_the_interpolation_outside_a_step_dead_band(self, product):
        outside = self.hz[np.abs(self.hz) >= product.response.deadband_hz]
        expected = np.interp(outside, product.curve_hz, product.curve_frac)
        np.testing.assert_allclose(fractions(product.response, outside), expected, rtol=0, atol=1e-15)

    def test_is_the_twin(self, product):
        points = list(zip(product.curve_hz, product.curve_frac, strict=True))
        step = product.deadband_hz if product.deadband_kind == "step" else 0.0
        rng = random.Random(4)
        for dev in [rng.uniform(-4, 4) for _ in range(500)] + list(product.curve_hz):
            expected = naive.fraction(dev, points, step)
            assert fractions(product.response, [dev])[0] == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("product", FREQUENCY.values(), ids=FREQUENCY)
def test_is_continuous_but_for_a_step_dead_band_and_a_trigger(product):
    """Between two neighbouring grid points no more than the steepest slope between the curve's points allows."""
    if product.trigger is not None:
        steps = len(product.trigger.steps_hz) or 1
        found = set(np.round(fractions(product.response, TestEveryProduct.hz), 9).tolist())
        assert found == {
            round((1 if product.direction == "up" else -1) * k / steps, 9) + 0.0 for k in range(steps + 1)
        }  # fmt: skip
        return
    out = fractions(product.response, TestEveryProduct.hz)
    steepest = np.abs(np.diff(product.curve_frac) / np.diff(product.curve_hz)).max()
    jumps = np.flatnonzero(np.abs(np.diff(out)) > 1.001 * steepest * 1e-4)
    edges = np.abs(TestEveryProduct.hz[jumps])
    assert jumps.size == (2 if product.deadband_kind == "step" else 0)
    assert (np.abs(edges - product.deadband_hz) < 1.5e-4).all()


@pytest.mark.parametrize("product", SIGNAL.values(), ids=SIGNAL)
def test_a_signal_is_followed_within_what_is_sold(product):
    signal = np.linspace(-1.5, 1.5, 3001)
    out = fractions(product.response, signal)
    low, high = {"up": (0.0, 1.0), "down": (-1.0, 0.0), "symmetric": (-1.0, 1.0)}[product.direction]
    np.testing.assert_allclose(out, np.clip(signal, low, high), rtol=0, atol=1e-12)


def test_step_dead_band_jumps_to_the_full_proportional_value():
    """Rulebook 1.2: the dead band takes nothing from the response beyond its edge."""
    c = Curve(np.array([-0.2, 0.0, 0.2]), np.array([1.0, 0.0, -1.0]), 0.0625)
    np.testing.assert_array_equal(fractions(c, [-0.0624, -0.0625, 0.0624, 0.0625]), [0, 0.3125, 0, -0.3125])


def test_offset_dead_band_starts_from_nothing():
    c = load("ieee1547").response
    assert 0.0 < fractions(c, [-0.0361])[0] < 1e-4
    assert -1e-4 < fractions(c, [0.0361])[0] < 0.0


def test_unknown_asks_for_nothing_and_does_not_spread():
    c = load("nordic_fcr_n").response
    np.testing.assert_array_equal(fractions(c, [-0.1, np.nan, 0.1]), [1.0, 0.0, -1.0])
    assert response(math.nan, c.x_hz, c.y_frac, c.deadband_hz) == 0.0


def test_infinite_deviation_is_the_end_of_the_curve():
    c = load("nordic_fcr_n").response
    np.testing.assert_array_equal(fractions(c, [-np.inf, np.inf]), [1.0, -1.0])


@pytest.mark.parametrize("shape", [(0,), (3,), (2, 3)])
def test_shape_is_kept(shape):
    assert fractions(load("ce_fcr").response, np.zeros(shape)).shape == shape


def test_does_not_touch_its_input():
    dev = np.array([-0.1, 0.1])
    fractions(load("ce_fcr").response, dev)
    np.testing.assert_array_equal(dev, [-0.1, 0.1])


def test_compiled_is_the_source():
    """The compiled function and the plain Python it was written as agree to the last bit."""
    c = load("gb_dc_low").response
    plain = getattr(curve.response, "py_func", curve.response)
    for dev in np.linspace(-0.7, 0.7, 401):
        assert response(dev, *c) == plain(dev, *c)
