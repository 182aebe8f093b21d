"""Each rule is judged on its own grid, with its own history and sequel, and the statement still checks out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from droop.products import load
from settlement import interval
from settlement.align import NS
from settlement.facts import Meters, Samples
from settlement.interval import Sold, settle, verify
from settlement.scores import Reach
from settlement.statement import VerifyError

START_NS = 1_700_000_100 * NS
END_NS = START_NS + 900 * NS
BASELINE_KW = -800.0
NESO = replace(load("gb_dc_low"), score={"fn": "neso_bounds"})
PJM = replace(load("ce_fcr"), id="reg", score={"fn": "pjm_v1"})


def recorded(facts, rate_hz, delay_s, product, sold_kw, until_s=1300, meter_hz=None):
    """Frequency at a rate, and a meter that answers it so much later."""
    t_s = np.arange(-60 * rate_hz, until_s * rate_hz) / rate_hz
    dev = 0.1 * np.sin(t_s / 17.0) + 0.08 * np.sin(t_s / 5.0) - 0.1

    def answer(at_s):
        x = 0.1 * np.sin((at_s - delay_s) / 17.0) + 0.08 * np.sin((at_s - delay_s) / 5.0) - 0.1
        return sold_kw * np.interp(x, product.curve_hz, product.curve_frac)

    t_ns = START_NS + np.round(t_s * NS).astype(np.int64)
    every = 1 if meter_hz is None else rate_hz // meter_hz
    m = t_ns[::every]
    # A meter's reading stands for the time it holds.
    fine = t_s[::every][:, None] + np.arange(every)[None, :] / rate_hz
    power = BASELINE_KW + answer(fine).mean(axis=1)
    d = facts.declarations
    return facts._replace(
        samples=Samples(t_ns, 50.0 + dev, np.ones(t_ns.size, bool)),
        meters=Meters(m, power, np.ones(m.size, np.int64), np.ones(m.size, bool)),
        declarations=d._replace(end_ns=np.array([START_NS, START_NS + 1800 * NS])),
    )


def test_twenty_hertz_where_the_data_have_it(facts):
    fine = recorded(facts, 20, 0.3, NESO, 1000.0)
    found = settle([Sold(NESO, 1000.0)], fine, START_NS, END_NS)[0]
    assert found.score == 1.0
    assert found.kpis["error_frac"] == 0.0
    assert found.kpis["step_s"] == pytest.approx(0.05)
    assert "judged at" not in found.score_note
    late = recorded(facts, 20, 1.5, NESO, 1000.0)
    assert settle([Sold(NESO, 1000.0)], late, START_NS, END_NS)[0].kpis["error_frac"] > 0.01
    assert found.samples.count == 20 * 932  # as much history as every product has


def test_a_meter_of_a_second_is_judged_by_the_second(facts):
    coarse = recorded(facts, 20, 0.3, NESO, 1000.0, meter_hz=1)
    found = settle([Sold(NESO, 1000.0)], coarse, START_NS, END_NS)[0]
    assert found.kpis["step_s"] == 1.0
    assert found.score_note.endswith("judged at 1 s, the market judges at 0.05 s")
    assert found.score == 1.0


def test_the_sequel_of_an_interval_is_seen(facts):
    sold = [Sold(PJM, 1000.0)]
    late = recorded(facts, 1, 20, PJM, 1000.0)
    assert (interval.lead_s(sold), interval.tail_s(sold)) == (32, 300)
    found = settle(sold, late, START_NS, END_NS)[0]
    assert found.kpis["windows"] == 3
    assert found.kpis["delay_s"] == pytest.approx(20.0)
    assert found.kpis["correlation"] == pytest.approx(1.0, abs=0.01)
    assert found.samples.last_t_ns == END_NS + 299 * NS
    verify(found, late, lambda _: PJM)
    # Without it the last window has no later answer to be compared with.
    cut = late._replace(meters=Meters(*(column[late.meters.t_ns < END_NS] for column in late.meters)))
    assert settle(sold, cut, START_NS, END_NS)[0].score < found.score
    # A row of the sequel counts in the digest, one beyond it does not.
    for second, refused in ((1100, True), (1250, False)):
        power_kw = late.meters.power_kw.copy()
        power_kw[60 + second] += 1.0
        touched = late._replace(meters=late.meters._replace(power_kw=power_kw))
        if refused:
            with pytest.raises(VerifyError):
                verify(found, touched, lambda _: PJM)
        else:
            verify(found, touched, lambda _: PJM)


def test_energies_do_not_depend_on_a_neighbours_grid(facts):
    rows = recorded(facts, 20, 0.3, NESO, 1000.0)
    alone = settle([Sold(NESO, 1000.0)], rows, START_NS, END_NS)[0]
    plain = settle([Sold(replace(NESO, score={}), 1000.0)], rows, START_NS, END_NS)[0]
    for name in ("requested_up_kwh", "delivered_up_kwh", "mileage", "coverage_frac", "unserved_kwh", "samples"):
        assert getattr(alone, name) == getattr(plain, name)
    first, second = settle([Sold(NESO, 600.0), Sold(PJM, 400.0)], rows, START_NS, END_NS)
    assert first.kpis["step_s"] == pytest.approx(0.05)
    assert second.kpis["windows"] == 3
    assert first.samples == second.samples


def test_a_running_interval_has_no_sequel_yet(facts):
    late = recorded(facts, 1, 20, PJM, 1000.0)
    found = settle([Sold(PJM, 1000.0)], late, START_NS, END_NS, until_ns=START_NS + 650 * NS, final=False)[0]
    assert found.kpis["windows"] == 2
    assert found.samples.last_t_ns < START_NS + 650 * NS


def test_a_rule_nobody_knows_stops_nobody(facts):
    sold = [Sold(replace(PJM, score={"fn": "luck"}), 500.0), Sold(load("ce_fcr"), 500.0)]
    first, second = settle(sold, facts, START_NS, END_NS)
    assert first.score is None
    assert "names `luck`" in first.score_note
    assert second.score is not None
    nothing = facts._replace(meters=Meters(*(column[:0] for column in facts.meters)))
    assert settle([Sold(PJM, 500.0)], nothing, START_NS, END_NS)[0].score is None


def test_what_follows_the_interval_is_not_scored_in_it(facts, monkeypatch):
    monkeypatch.setattr(interval, "reach_of", lambda _: Reach(1.0, 40, 300))
    late = recorded(facts, 1, 0, PJM, 1000.0)
    found = settle([Sold(load("ce_fcr"), 1000.0)], late, START_NS, END_NS)[0]
    assert found.kpis["seconds"] == 900.0
    assert found.samples.count == 40 + 900 + 300
