"""The rule book's vectors of triggers, set-points, aFRR and IEEE 1547: one table each, with mark and origin.

Marks: V verified in the primary document, V2 in a secondary one, M from memory, D derived by hand.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from droop.curve import fractions
from droop.dynamics import at_rest, requested_kw, steps_of, terms
from droop.products import load, parse
from settlement import expected
from settlement.align import NS, Grid
from settlement.facts import Facts, Samples, Signal, floats, ints, no_shortfall, no_signal

S = NS
T0 = 1_700_000_000 * S
UP = {"title": "T", "area": "X", "direction": "up"}


def ffr(hz, hold_s=5.0, nominal_hz=50.0, **more):
    trigger = {"hz": hz, "hold_s": hold_s, "ready_s": 900.0, **more}
    return parse({**UP, "id": "ffr", "nominal_hz": nominal_hz, "trigger": trigger}, "rule book")


SEVEN = [49.9 - 0.4 * (k - 0.5) / 7 for k in range(1, 8)]


def static(bias_hz=0.010):
    rule = {
        "hz": SEVEN[0] + bias_hz, "steps_hz": [hz + bias_hz for hz in SEVEN], "release_hz": 49.9, "release_s": 60.0,
        "pause_hz": 49.8, "fall_pu_s": 0.025, "fall_step_pu": 0.2, "ready_s": 900.0,
    }  # fmt: skip
    return parse({**UP, "id": "sfd", "nominal_hz": 50.0, "trigger": rule}, "rule book")


def answered(item, hz, period_s):
    """Share of sold power at each sample, and the times since the first [s]."""
    sold = [(item, 1.0)]
    table, motion = terms(sold), at_rest(1, steps_of(sold))
    period_ns = round(period_s * S)
    shares = [
        requested_kw(motion, table, f, 1.0, True, T0 + k * period_ns, period_s if k else 0.0, 0.0, 0)
        for k, f in enumerate(hz)
    ]
    return np.array(shares), np.arange(len(shares)) * period_s


# id, threshold, nominal, frequency, activated, full within [s], mark, origin
ACTIVATIONS = [
    ("FFR-1", 49.7, 50.0, 49.69, True, 1.3, "V", "Fingrid, FFR"),
    ("FFR-2", 49.6, 50.0, 49.65, False, 1.0, "V", "Fingrid, FFR"),
    ("FFR-3", 49.5, 50.0, 49.49, True, 0.7, "V", "Fingrid, FFR"),
    ("ERC-1", 59.85, 60.0, 59.84, True, 0.25, "V2", "ERCOT AS study"),
    ("ERC-1", 59.85, 60.0, 59.86, False, 0.25, "V2", "ERCOT AS study"),
]


@pytest.mark.parametrize("row", ACTIVATIONS, ids=lambda row: f"{row[0]} {row[3]} Hz [{row[6]}]")
def test_activation(row):
    _, threshold, nominal_hz, hz, activated, full_s, _, _ = row
    shares, at_s = answered(ffr(threshold, nominal_hz=nominal_hz), [nominal_hz] + [hz] * 300, 0.01)
    if activated:
        assert (shares[at_s >= 0.01 + full_s] == 1.0).all()
        assert shares[1] == 1.0  # asked at once: the chargers have all of the market's time
    else:
        assert not shares.any()


def test_ffr_1_support_and_second_activation():
    """FFR-1: hold 5 s at least; no second activation before t0 + 900 s. [V: Fingrid, FFR]"""
    shares, at_s = answered(ffr(49.7, fall_pu_s=0.2, fall_step_pu=0.2), [49.69] + [49.65] * 9500, 0.1)
    assert (shares[at_s < 5.0] == 1.0).all()
    assert (np.diff(shares[at_s < 905.0]) <= 1e-12).all()
    assert (np.diff(shares)[at_s[1:] < 905.0] >= -0.2 * 0.1 - 1e-12).all()  # 20 %/s [M]
    assert shares[np.searchsorted(at_s, 904.9)] == 0.0
    assert shares[at_s >= 905.0].max() == 1.0  # ready again: it is still below the threshold


def test_sfd_1():
    """SFD-1: above 49.9 Hz for 59 s it stays, for 60 s it may go; 2.5 %/s; ready in 15 min. [V: Nordic FCR, Req. 7]"""
    low, back = [49.53] * 20, [49.91] * 1100
    shares, _ = answered(static(), low + back, 1.0)
    assert shares[:80] == pytest.approx(1.0)  # 20 s low, and 59 s of frequency that is back
    assert shares[80] == pytest.approx(1.0)  # the 60th second: it may go from here
    assert shares[81] == pytest.approx(0.975)
    assert shares[100:140].max() < 0.6
    mean_10_s = np.convolve(-np.diff(shares), np.ones(10) / 10, "valid")
    assert mean_10_s.max() <= 0.025 + 1e-12
    again, _ = answered(static(), low + back[:960] + low, 1.0)
    assert again[980:].max() == pytest.approx(1.0)  # 20 + 60 + 900 s
    early, _ = answered(static(), low + back[:950] + low[:9], 1.0)
    assert early[971:].max() == 0.0


def test_sfd_1_interrupted():
    """A second at 49.9 Hz breaks the minute; at 49.8 Hz what goes down stands still; unused steps stay ready."""
    shares, _ = answered(static(), [49.53] * 5 + [49.91] * 59 + [49.9] + [49.91] * 59, 1.0)
    assert shares == pytest.approx(1.0)
    shares, _ = answered(static(), [49.53] * 5 + [49.91] * 71 + [49.8] * 30 + [49.81] * 10, 1.0)
    standing = shares[76:106]
    assert standing.max() == standing.min() == pytest.approx(1.0 - 0.025 * 10, abs=1e-9)
    assert shares[-1] == pytest.approx(standing[0] - 0.25, abs=1e-9)
    shares, _ = answered(static(), [49.8] * 5 + [49.91] * 66 + [49.53] * 5, 1.0)
    assert shares[4] == pytest.approx(2 / 7)
    assert shares[70] == pytest.approx(2 / 7 - 0.025 * 5)
    assert shares[-1] == pytest.approx(2 / 7 - 0.025 * 5 + 5 / 7)  # 2 falling, 5 were never used


# id, bias [mHz], stays in the band of -5/+10 % around the line, mark, origin
SFD_2 = [(0.0, False), (8.5, False), (8.6, True), (10.0, True), (11.4, True), (11.5, False)]


@pytest.mark.parametrize(("bias_mhz", "inside"), SFD_2, ids=[f"SFD-2 {bias} mHz [D]" for bias, _ in SFD_2])
def test_sfd_2(bias_mhz, inside):
    """SFD-2: seven equal steps stay in the band of Req. 11 only with thresholds nearer to 49.9 Hz by 8.6-11.4 mHz."""
    hz = np.linspace(49.5, 49.9, 400_001)
    given = fractions(static(bias_mhz / 1000).response, hz - 50.0)
    error = given - (49.9 - hz) / 0.4
    assert bool(((error >= -0.05) & (error <= 0.10)).all()) == inside


def aggregated(start_s, kw, until_s):
    starts = ints(*(T0 + round(s * S) for s in start_s))
    ends = np.append(starts[1:], T0 + until_s * S)
    none = Samples(ints(), floats(), np.zeros(0, bool))
    return Facts(none, None, None, Signal(starts, ends, floats(*kw)), no_shortfall())


AFRR = {
    **UP, "id": "afrr", "nominal_hz": 50.0, "input": "signal", "signal_s": 4.0, "curve": [[0, 0], [1, 1]],
    "ramp_pu_s": 1 / 300, "ramp_min_pu_s": 1 / 300,
}  # fmt: skip


def tracked(start_s, kw, until_s, step_s=4.0):
    """What the engine asks every 4 s of 1 000 kW of aFRR."""
    table, motion = terms([(parse(AFRR, "rule book"), 1000.0)]), at_rest(1)
    found = []
    for k in range(round(until_s / step_s) + 1):
        # A ramp follows what stood until now.
        at_s = k * step_s
        stands = max(i for i, s in enumerate(start_s) if s < at_s or i == 0)
        found.append(requested_kw(
            motion, table, 50.0, 1.0, True, T0 + round(at_s * S), step_s if k else 0.0, kw[stands], T0 + 10**15
        ))  # fmt: skip
    return np.array(found)


def test_af_1():
    """AF-1: 1 MW, 0.01333 MW a step of 4 s at least; full after 300 s. [V: 5 min FAT, 4 s cycle; D]"""
    found = tracked([0.0], [1000.0], 320)
    assert np.diff(found)[:75] == pytest.approx(13.3333, abs=1e-3)
    assert found[75] == pytest.approx(1000.0)
    assert found[74] < 1000.0


def test_af_2():
    """AF-2: 0 -> 1 -> 0.5 MW at 0 and 120 s: 0.40 MW at 120 s, 0.50 MW at 150 s, holds. [D]"""
    found = tracked([0.0, 120.0], [1000.0, 500.0], 240, step_s=2.0)
    assert (found[60], found[75]) == pytest.approx((400.0, 500.0))
    assert found[75:] == pytest.approx(500.0)
    # Settlement gets there by itself: means of seconds, known while a set-point is in force.
    item = parse(AFRR, "rule book")
    facts = aggregated([-4.0, 0.0, 120.0], [0.0, 1000.0, 500.0], 240)
    cells = expected.of([(item, 1000.0)], 0, facts, Grid(T0, S, 240))
    assert cells.mean[[0, 119, 120, 149, 150, 239]] == pytest.approx(
        [5 / 3, 398.33333, 401.6667, 498.3333, 500.0, 500.0]
    )
    assert cells.coverage_frac.min() == 1.0


def test_af_3():
    """AF-3: 50 kWh, efficiency 0.95, 1 MW, 5 min: deliverable 0.57 MW; what is asked is not cut by it. [D]"""
    assert min(1.0, 50.0 / 1000 * 0.95 / (5 / 60)) == pytest.approx(0.57)
    assert tracked([0.0], [1000.0], 300)[-1] == pytest.approx(1000.0)


# after [s], share of the change, mark, origin
@pytest.mark.parametrize(("after_s", "share"), [(1, 0.36904), (2, 0.60189), (5, 0.90000)])
def test_1547_2(after_s, share):
    """1547-2: step response with an open-loop response time of 5 s. [V: OpenDER's equations; D]"""
    shares, at_s = answered(load("ieee1547"), [60.0] + [59.5] * 1000, 0.01)
    change = (0.5 - 0.036) / 3
    assert shares[100 * after_s] == pytest.approx(share * change, rel=2e-5)
    assert shares[-1] == pytest.approx(change * (1 - 0.1 ** (at_s[-1] / 5)), rel=1e-3)


# after [s], kW by OpenDER at 50 ms, mark, origin; its bilinear filter sees half a step more or less than ours.
@pytest.mark.parametrize(("after_s", "kw"), [(1.0, 25.589), (5.0, 33.898), (20.0, 35.465)])
def test_1547_3(after_s, kw):
    """1547-3: 20 kW on 100 kW, 60 to 59.5 Hz; the declared baseline is the power before the disturbance. [D, run]"""
    shares, _ = answered(load("ieee1547"), [60.0] + [59.5] * 500, 0.05)
    assert 20.0 + 100.0 * shares[round(after_s / 0.05)] == pytest.approx(kw, abs=0.15)
    assert 20.0 + 100.0 * fractions(load("ieee1547").response, [-0.5])[0] == pytest.approx(35.467, abs=1e-3)


def test_a_set_point_of_zero_is_known_and_none_is_not():
    facts = aggregated([0.0], [0.0], 10)
    item = parse({**AFRR, "hold_s": 3.0}, "rule book")
    cells = expected.of([(item, 1000.0)], 0, facts, Grid(T0 - 5 * S, S, 30))
    assert cells.coverage_frac.tolist() == [0.0] * 5 + [1.0] * 13 + [0.0] * 12
    assert not np.nan_to_num(cells.mean).any()
    assert math.isnan(cells.mean[0])
    empty = expected.of([(item, 1000.0)], 0, facts._replace(signal=no_signal()), Grid(T0, S, 3))
    assert empty.coverage_frac.tolist() == [0.0, 0.0, 0.0]
