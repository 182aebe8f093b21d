"""Expected power follows the engine's curve, sample by sample, and never fills what was rejected."""

from __future__ import annotations

import numpy as np
import pytest

from droop.products import load
from settlement import expected
from settlement.align import NS, Grid
from settlement.facts import Samples

FCR = load("ce_fcr")


def samples(hz, period_s=0.1, usable=None):
    hz = np.array(hz, np.float64)
    t_ns = np.round(np.arange(hz.size) * period_s * NS).astype(np.int64)
    return Samples(t_ns, hz, np.ones(hz.size, bool) if usable is None else np.array(usable))


@pytest.mark.parametrize(
    ("hz", "kw"),
    [(49.95, 250), (50.30, -1000), (49.90, 500), (49.992, 0)],
    ids=["FCR-1", "FCR-3", "FCR-4", "FCR-2: inside the dead band"],
)
def test_rulebook_vectors(hz, kw):
    cells = expected.power_kw(FCR, 1000.0, samples([hz] * 10), Grid(0, NS, 1))
    assert cells.mean[0] == pytest.approx(kw)
    assert cells.coverage_frac[0] == 1.0


def test_the_curve_comes_before_the_mean():
    """Half the second far beyond full activation: averaging the frequency first would give -1000."""
    cells = expected.power_kw(FCR, 1000.0, samples([50.0] * 5 + [52.0] * 5), Grid(0, NS, 1))
    assert cells.mean[0] == pytest.approx(-500.0)


def test_unusable_and_nan_cover_nothing():
    hz = [49.9] * 5 + [np.nan] * 5 + [10.0] * 10
    cells = expected.power_kw(FCR, 1000.0, samples(hz, usable=[True] * 10 + [False] * 10), Grid(0, NS, 2))
    assert cells.mean[0] == pytest.approx(500.0)
    np.testing.assert_allclose(cells.coverage_frac, [0.5, 0.0])


def test_a_lost_frequency_is_held_no_longer_than_the_product_allows():
    cells = expected.power_kw(FCR, 1000.0, samples([49.9] * 10), Grid(0, NS, 4))
    np.testing.assert_allclose(cells.coverage_frac, [1, 0.9, 0, 0])  # last sample at 0.9 s, hold 1 s
    slow = expected.power_kw(FCR, 1000.0, samples([49.9] * 5, period_s=1.0), Grid(0, NS, 9))
    np.testing.assert_allclose(slow.coverage_frac, [1] * 7 + [0, 0])  # three periods of 1 s


def test_deviation():
    cells = expected.deviation_hz(FCR, samples([50.1] * 5 + [49.9] * 5), Grid(0, NS, 1))
    assert cells.mean[0] == pytest.approx(0.0, abs=1e-12)
