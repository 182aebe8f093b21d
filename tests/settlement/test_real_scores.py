"""Recorded signals scored end to end: PJM's regulation signal of a day, a British day under Dynamic Containment.

The files are not part of the repository: FLYBALL_DATA, or `shared/data` beside it.
"""

from __future__ import annotations

import csv
import gzip
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from droop.curve import fractions
from droop.products import load
from settlement.align import NS
from settlement.facts import Declarations, Facts, Meters, Samples, no_shortfall, no_signal
from settlement.interval import Sold, settle, verify
from settlement.scores import neso_bounds, pjm_v1
from settlement.scores.rolling import slew
from tests import naive_scores

DATA = Path(os.environ.get("FLYBALL_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no recorded data in {DATA}")


@pytest.fixture(scope="module")
def pjm():
    """One day of the 2 s signal as 10 s samples, in units of the cleared power."""
    with next((DATA / "regulation" / "pjm_2s").glob("*.csv")).open(newline="", encoding="utf-8") as file:
        values = [float(row[1]) for row in csv.reader(file) if row[0] and row[1]]
    return np.array(values)[::5]


@pytest.fixture(scope="module")
def british():
    """Deviation from nominal, second by second [Hz]."""
    with gzip.open(DATA / "frequency" / "gb_neso_1s" / "f_2026-06-23.csv.gz", "rt", encoding="utf-8") as file:
        return np.array([float(row["f"]) for row in csv.DictReader(file)]) - 50.0


def delayed(signal, cells):
    return np.concatenate([np.full(cells, signal[0]), signal[: signal.size - cells]])


def test_pjm_day(pjm):
    whole = (pjm.size - 30) // 30 * 30
    scores = [pjm_v1.score(pjm[:whole], delayed(pjm, k), 1.0) for k in (0, 1, 3, 12)]
    assert scores[0].score == pytest.approx(1.0)
    assert (scores[0].correlation, scores[0].delay) == (pytest.approx(1.0), 1.0)
    values = [found.score for found in scores]
    assert values == sorted(values, reverse=True)
    assert values[0] - values[1] > 0.01
    assert pjm_v1.score(pjm[:whole], 0.0 * pjm, 1.0).score < 0.4  # flat windows forgive some


def test_pjm_hour_equals_the_naive_twin(pjm):
    signal, answer = pjm[1000:1360], delayed(0.9 * pjm, 2)[1000:1390]
    found = pjm_v1.windows(signal, answer, 1.0)
    twin = naive_scores.pjm_windows(signal.tolist(), answer.tolist())
    for k, parts in enumerate(twin):
        got = (found.correlation[k], found.delay[k], found.precision[k])
        assert got == pytest.approx(parts, abs=1e-8)


@pytest.mark.parametrize("name", ["gb_dc_low", "gb_dc_high"])
def test_british_day_with_an_ideal_response(british, name):
    """At 1 Hz the ideal answer is the curve itself, and nothing of it lies outside."""
    product = load(name)
    target = np.abs(fractions(product.response, british))
    assert target.max() > 0.02
    known = np.ones(target.size, bool)
    found = neso_bounds.score(target, target, known, 1.0)
    assert (found.error_frac, found.k, found.available_frac) == (0.0, 1.0, 1.0)
    assert neso_bounds.score(0.0 * target, target, known, 1.0).error_frac > 0.01


def test_british_day_at_twenty_hertz(british):
    """The day between its seconds: late by 0.4 s and no faster than the ramp there is no error, by 3 s there is."""
    fine = np.interp(np.arange(0, 7200, 0.05), np.arange(7200), british[30_000:37_200])
    target = fractions(load("gb_dc_low").response, fine)
    known = np.ones(target.size, bool)
    quick, slow = (slew(delayed(target, k), 0.1, 0.1) for k in (8, 60))
    assert neso_bounds.score(quick, target, known, 0.05).error_frac == 0.0
    assert neso_bounds.score(slow, target, known, 0.05).error_frac > 0.0


def test_british_settlement_period_as_a_statement(british):
    product = replace(load("gb_dc_low"), score={"fn": "neso_bounds"})
    start_ns = 1_782_172_800 * NS + 36_000 * NS
    part = british[35_900:37_800]
    t_ns = start_ns + np.arange(-100, 1800) * NS
    power = 500.0 * fractions(product.response, part)
    facts = Facts(
        Samples(t_ns, 50.0 + part, np.ones(1900, bool)),
        Meters(t_ns, power - 200.0, np.ones(1900, np.int64), np.ones(1900, bool)),
        Declarations(*(np.array([v]) for v in (t_ns[0], t_ns[0], t_ns[0] + 3600 * NS, -200.0, 1, False))),
        no_signal(),
        no_shortfall(),
    )
    found = settle([Sold(product, 500.0)], facts, start_ns, start_ns + 1800 * NS)[0]
    assert found.score == 1.0
    assert found.kpis["available_frac"] == 1.0
    assert found.delivered_up_kwh == pytest.approx(power[100:].sum() / 3600)
    verify(found, facts, lambda _: product)
