"""The whole catalogue: a fleet that answers is scored and paid as one, a fleet that does not is found out."""

from __future__ import annotations

import numpy as np
import pytest

from aggregator import prequalifying
from aggregator.contracts import Contract, CoreSettings
from droop.products import catalogue
from settlement import prequalification as pq
from settlement.align import NS
from tests.aggregator.matrix import ABLE, BORDER_NS, SOLD_KW, driven, outcome

PRODUCTS = catalogue()
PERFECT_LEAST = 0.999
# What helped the frequency, and not what was asked: near the nominal value the two are not one.
COARSE = {"nem_reg_raise": 0.9, "nem_reg_lower": 0.9}
# Of an idle fleet: rules that score a mean distance give something for staying within reach (both from memory).
IDLE_MOST = {
    "nyiso_reg": 0.8,
    "isone_reg": 0.6,
    "nordic_fcr_n": 0.2,
    "nordic_fcr_d_up": 0.05,
    "nordic_fcr_d_down": 0.05,
}
# Scored by nothing: what the note then says.
UNSCORED = {
    "pjm_reg_v2": "score.unverified",
    **dict.fromkeys(
        ("en50549", "lfsm_o", "lfsm_u", "ieee1547", "ieee1547_cat1", "ieee1547_cat3", "ercot_reg_up",
         "ercot_reg_down", "spp_reg_up", "spp_reg_down"),
        "no scoring rule",
    ),
}  # fmt: skip
# Our own answer may be late and slow within the market's [s].
LATE_S = 2.0
# The statement's energy is that of the slowest way; freedoms give more, and let go no faster than they must.
LATER_S = {"afrr_up": 6.0, "afrr_down": 6.0, "ce_fcr_de": 25.0}


def judged(statements):
    """The statement on which the trace's excursion is judged: the first with a score from the border on, or before."""
    after = [s for s in statements if s.start_ns >= BORDER_NS and s.score is not None]
    return (after or [s for s in statements if s.score is not None] or statements)[0]


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_fleet_that_answers_is_scored_as_one(name):
    row, statements = outcome(driven(PRODUCTS[name]))
    found = judged(statements)
    if name in UNSCORED:
        assert found.score is None
        assert UNSCORED[name] in found.score_note
    else:
        assert found.score >= COARSE.get(name, PERFECT_LEAST), found.score_note
        assert "inadequate" not in found.score_note
    assert row["bound_violations"] == 0
    assert row["energy_balance_error_kwh"] < 1e-6
    assert row["max_sum_error_kw"] < 1e-3
    assert row["unserved_kwh"] == pytest.approx(0.0, abs=1e-6)
    # From the border on, where both are known; before it there was no baseline for some seconds.
    for s in (s for s in statements if s.start_ns >= BORDER_NS):
        asked, given = (s.requested_up_kwh, s.requested_down_kwh), (s.delivered_up_kwh, s.delivered_down_kwh)
        np.testing.assert_allclose(given, asked, rtol=0.0, atol=LATER_S.get(name, LATE_S) * SOLD_KW / 3600.0)
    assert sum(s.requested_up_kwh + s.requested_down_kwh for s in statements) > 0.02


@pytest.mark.parametrize("name", [name for name in PRODUCTS if name not in UNSCORED])
def test_a_fleet_that_only_charges_is_not_paid(name):
    _, statements = outcome(driven(PRODUCTS[name], answers=False))
    found = judged(statements)
    if found.score is None:
        assert PRODUCTS[name].score["fn"] == "fpp"
        assert "nothing helped" in found.score_note
    else:
        assert found.score <= IDLE_MOST.get(name, 0.0) + 1e-9
    given = [s.delivered_up_kwh + s.delivered_down_kwh for s in statements]
    assert max(given) < 0.01


TESTED = [name for name, product in PRODUCTS.items() if product.prequalification.get("plans")]
BENCH_KW, BENCH_VEHICLES = 10.0, 6


@pytest.mark.parametrize("name", TESTED)
def test_a_perfect_fleet_passes_the_market_s_own_test(name):
    """Long holds shortened; what counts in minutes of readiness is played whole."""
    product = PRODUCTS[name]
    hold_s = None if product.trigger is not None else 100.0
    options = pq.Options(hold_s=hold_s, operation_s=120.0, fme_s=0.0)
    plan = pq.plan_of(product, options)
    settings = CoreSettings("bench", BENCH_VEHICLES, (Contract(product, BENCH_KW),), signal_max_kw=BENCH_KW)
    recording = prequalifying.play(plan, settings, seed=1, behaviour=ABLE)
    assert recording.t_s[-1] * NS >= 0.99 * (plan.duration_s - 1.0 / plan.rate_hz) * NS
    found = pq.judge(product, plan, recording, BENCH_KW, options)
    assert {(row.id, row.part, row.measured) for row in found.rows if row.passed is False} == set()
    assert found.passed
