"""A fleet that cannot lose: perfect chargers and more energy than anyone asks for score 1 by every market's rule.

The oracle knows no settlement: what a perfect fleet gives in a second is what the trace asked at its beginning.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aggregator.backtest import Backtest
from aggregator.backtesting import recorded_gate
from aggregator.contracts import Contract, CoreSettings
from aggregator.declared import SETTLE_NS
from aggregator.gateways.population import PERFECT
from aggregator.metered import Metered
from aggregator.signal_file import Recorded
from droop.products import load
from settlement.scores import RULES
from telemetry.samples import FREQUENCY, POWER

S = 10**9
T0 = 1_790_000_000 * S // (3600 * S) * (3600 * S)
VEHICLES, SOLD_KW = 60, 50.0  # of chargers that could give ten times as much
FOLLOWED = (
    "pjm_reg_v1", "pjm_reg_v2", "caiso_reg_up", "caiso_reg_down", "miso_reg", "isone_reg", "nyiso_reg", "afrr_up",
    "afrr_down",
)  # fmt: skip
BY_CURVE = (
    "ce_fcr", "ce_fcr_nl", "nordic_fcr_n", "nordic_fcr_d_up", "nordic_fcr_d_down", "nordic_fcr_d_up_static",
    "gb_dc_low", "gb_dc_high", "gb_dm_low", "gb_dr_low", "gb_dr_high",
)  # fmt: skip


def noise(count, seed=7, width=20):
    """Wanders within about -1..1, and no two values are the same."""
    rng = np.random.default_rng(seed)
    return np.clip(np.convolve(rng.normal(size=count + width - 1), np.ones(width) / np.sqrt(width), "valid") / 3, -1, 1)


def rows_of(dev_hz, nominal_hz=50.0, start_ns=T0, period_ns=S):
    rows = np.zeros(dev_hz.size, FREQUENCY)
    rows["t_ns"] = rows["rx_ns"] = start_ns + period_ns * np.arange(dev_hz.size)
    rows["hz"], rows["volt_frac"] = nominal_hz + dev_hz, np.nan
    return rows


def product_of(name):
    found = load(name)
    return replace(found, score={**found.score, "unverified": True}) if name == "pjm_reg_v2" else found


def ran(name, rows=None, signal=None, behaviour=PERFECT, early_ns=SETTLE_NS, vehicles=VEHICLES):
    product = product_of(name) if isinstance(name, str) else name
    settings = CoreSettings("x", vehicles, (Contract(product, SOLD_KW),), signal_max_kw=1e6)
    first_ns = int((signal.t_ns if rows is None else rows["t_ns"])[0])
    test = Backtest(settings, recorded_gate(product.nominal_hz), first_ns - early_ns, 1, behaviour=behaviour,
                    signal=signal)  # fmt: skip
    if rows is None:
        test.follow(signal.t_ns.size)
    else:
        test.feed(rows)
    return test


# ---- by every rule ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BY_CURVE)
def test_by_its_curve(name):
    test = ran(name, rows_of(0.25 * noise(900)))
    scores = [statement.score for statement in test.statements()]
    assert scores == [1.0] * len(scores)
    assert len(scores) >= 1
    assert test.core.sums.unserved_kwh == 0.0


@pytest.mark.parametrize("name", FOLLOWED)
def test_after_a_signal(name):
    product = product_of(name)
    period_ns = round(product.signal_s * S)
    count = round(900 / product.signal_s)
    signal = Recorded(T0 + period_ns * np.arange(count), noise(count, width=5))
    scores = [statement.score for statement in ran(name, signal=signal).statements()]
    assert scores == pytest.approx([1.0] * len(scores), abs=1e-5)
    assert len(scores) == 900 // min(product.interval_s, 900)


@pytest.mark.parametrize(
    ("name", "depth_hz"), [("nordic_ffr_a", 0.6), ("nordic_ffr_c", 0.6), ("gb_sffr", 0.6), ("ercot_rrs_ffr", 0.6),
                           ("ercot_pfr", 0.6), ("nem_r6", 0.6)]
)  # fmt: skip
def test_in_a_disturbance(name, depth_hz):
    """Eight seconds down, and twenty minutes back."""
    at = np.arange(1500)
    dev_hz = np.interp(at, [0, 100, 108, 300, 1500], [0, 0, -depth_hz, -depth_hz, 0]) + 1e-4 * noise(1500)
    scores = [s.score for s in ran(name, rows_of(dev_hz, load(name).nominal_hz)).statements() if s.score is not None]
    assert scores
    assert scores == pytest.approx([1.0] * len(scores), abs=1e-6)


def test_every_rule_is_in_here():
    """But for `fpp`, by which nobody is owed anything: it says whether a deviation helped."""
    tried = {load(name).score["fn"] for name in (*FOLLOWED, *BY_CURVE, "gb_sffr", "ercot_pfr", "nem_r6")}
    assert set(RULES) - tried == {"fpp"}


def test_a_run_is_judged_from_its_first_row_on():
    """The baseline is declared before it; without that time the first six seconds had none, and no availability."""
    rows = rows_of(0.25 * noise(1800))
    early, late = (next(iter(ran("gb_dc_low", rows, early_ns=ns).statements())) for ns in (SETTLE_NS, 0))
    assert early.coverage["baseline"] == 1.0
    assert early.kpis["available_frac"] > 0.999
    assert early.score == 1.0
    assert late.coverage["baseline"] == pytest.approx(1 - 6 / 1800, abs=1e-3)
    assert late.score == 0.0


# ---- what is compared with what --------------------------------------------------------------------------------


@pytest.mark.parametrize("offset_ms", [0, 370])
def test_a_second_s_power_is_what_was_asked_in_that_second(offset_ms):
    """By hand: the curve at every row, held to the next one. Rows within a second share it by their time."""
    product = load("ce_fcr")
    dev_hz = 0.15 * noise(300)
    test = ran("ce_fcr", rows_of(dev_hz, start_ns=T0 + offset_ms * 10**6))
    (declared,) = test.core.declared_rows()
    asked = SOLD_KW * np.clip(-dev_hz / 0.2, -1, 1)
    asked[np.abs(dev_hz) < product.deadband_hz] = 0.0
    share = offset_ms / 1000
    by_second = asked[1:] * (1 - share) + asked[:-1] * share  # of the second at whose `share` row k comes
    meters = test.meters
    given = dict(zip(meters["t_ns"].tolist(), (meters["power_kw"] - declared["power_kw"]).tolist(), strict=True))
    seconds = [given[T0 + k * S] for k in range(1, 299)]
    assert seconds == pytest.approx(by_second[: len(seconds)], abs=1e-4)


def test_what_was_metered_is_the_energy_that_flowed():
    """Of chargers with dead times, ramps and losses: by the second, and in sum."""
    test = ran("ce_fcr", rows_of(0.15 * noise(400)), behaviour=replace(PERFECT, dead_s=(0.1, 0.8), ramp_kw_s=(5, 50)))
    meters = test.meters
    assert np.array_equal(np.diff(meters["t_ns"]), np.full(meters.size - 1, S))
    assert meters["power_kw"].sum() / 3600 == pytest.approx(meters["energy_kwh"][-1], rel=1e-12)
    assert meters["power_kw"].sum() / 3600 == pytest.approx(test.fleet.energy().grid_kwh, rel=1e-12)


def test_readings_are_of_the_second_that_they_end():
    """Against a twin that adds up a power it knows."""
    rng = np.random.default_rng(3)
    start_ns, ends_s = T0 + 400_000_000, [1, 2, 3, 6, 7]  # it began within a second, and missed two readings
    ends_ns = [T0 + s * S for s in ends_s]
    begins_ns, kw = [start_ns, *ends_ns[:-1]], rng.normal(0, 80, 5)
    register = np.cumsum([p * (e - b) / 3.6e12 for p, b, e in zip(kw, begins_ns, ends_ns, strict=True)])
    readings = np.zeros(5, POWER)
    readings["t_ns"], readings["energy_kwh"], readings["power_kw"] = ends_ns, register, 1e6
    readings["rx_ns"], readings["meter"] = ends_ns, 1
    metered = Metered(start_ns)
    parts = []
    for low, high in ((0, 1), (1, 2), (2, 2), (2, 5)):
        metered.read(readings[low:high])
        if high > 1:
            parts.append(metered.seconds())
    found = np.concatenate(parts)
    assert found["t_ns"].tolist() == begins_ns
    assert found["power_kw"] == pytest.approx(kw, rel=1e-9)
    assert found["rx_ns"].tolist() == ends_ns
    assert metered.until_ns == ends_ns[-1]
    assert readings["power_kw"].tolist() == [1e6] * 5  # the core's own are left alone


def test_nothing_is_settled_that_was_not_metered():
    """The last row's second is not over, and an interval of which nothing is has no statement."""
    whole, more = (list(ran("ce_fcr", rows_of(0.1 * noise(n))).statements()) for n in (900, 901))
    assert [s.until_ns - T0 for s in whole] == [899 * S]
    assert [s.until_ns - T0 for s in more] == [900 * S]
    assert whole[0].coverage_frac == more[0].coverage_frac == 1.0


# ---- what the rules themselves hold against anybody ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "of"),
    [("nem_r1", lambda y: 2 * y), ("nem_r6", lambda y: y), ("nem_r60", lambda y: 2 * y), ("nem_r5", lambda y: y)],
)
def test_the_nem_counts_what_a_disturbance_called_forth(name, of):
    """A droop answers a small disturbance in part, and the quantity is measured against all that was sold. While the
    frequency stands still every mean is the same: what is left is the smallest factor, or the peak's of 1."""
    at = np.arange(900)
    dev_hz = np.where((at >= 100) & (at < 850), -0.2, 0.0)
    (statement,) = [s for s in ran(name, rows_of(dev_hz)).statements() if s.score is not None]
    product = load(name)
    y = float(np.interp(-0.2, product.curve_hz, product.curve_frac))
    assert 0.0 < y < 0.5
    assert statement.score == pytest.approx(of(y), rel=1e-6)


def test_frequency_performance_is_what_helped_and_not_what_was_asked():
    """Half the time the set-point goes with the frequency's need, half against it."""
    count = 225
    signal = Recorded(T0 + 4 * S * np.arange(count), np.full(count, 0.5))
    rows = rows_of(np.where(np.arange(900) < 450, -0.05, 0.05))
    scores = [s.score for s in ran("nem_reg_raise", rows, signal).statements()]
    assert scores == pytest.approx([1.0, 0.5, 0.0], abs=0.02)


def test_who_follows_slowly_by_right_has_a_flatter_slope():
    """The German freedom of speed, while a small fleet is too empty: down at once, up within half a minute."""
    dev_hz = 0.1 * np.sin(2 * np.pi * np.arange(900) / 60) - 0.1
    slow, quick = (
        next(iter(ran(replace(load("ce_fcr_de"), freedoms=freedoms), rows_of(dev_hz), vehicles=8).statements()))
        for freedoms in (load("ce_fcr_de").freedoms, replace(load("ce_fcr_de").freedoms, speed=False))
    )
    assert slow.kpis["slope_ratio"] < 0.9 < quick.kpis["slope_ratio"]
    assert slow.kpis["time_out_of_bound_frac"] == 0.0
    assert slow.score < 1.0 == quick.score
