"""Plants that answer a plan: ideal, or with one fault each. Written from the rules, not from the code under test."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from settlement.prequalification import Recording

SOLD_KW = 1000.0
BASELINE_KW = -3000.0
FINE = 20  # steps of the plant in one sample


def static_fraction(product, value):
    """The product's curve, by plain interpolation; a step dead band is cut out."""
    dev = np.asarray(value) - (product.nominal_hz if product.input == "frequency" else 0.0)
    asked = np.interp(dev, product.curve_hz, product.curve_frac)
    if product.deadband_kind == "step":
        asked = np.where(np.abs(dev) < product.deadband_hz, 0.0, asked)
    return asked


def delayed(y, delay_s, dt):
    shift = round(delay_s / dt)
    return np.concatenate([np.full(shift, y[0]), y])[: y.size]


def lagged(y, tau_s, dt):
    """Exact first-order lag of a value held over each step."""
    if tau_s == 0:
        return y
    keep = np.exp(-dt / tau_s)
    # Output at a sample is of inputs before it.
    before = np.concatenate([[y[0]], y[:-1]])
    out, _ = lfilter([1 - keep], [1, -keep], before, zi=[keep * y[0]])
    return out


def ramped(y, rate_pu_s, dt):
    if np.isinf(rate_pu_s):
        return y
    out, level = np.empty_like(y), y[0]
    for k, goal in enumerate(y):
        level += min(max(goal - level, -rate_pu_s * dt), rate_pu_s * dt)
        out[k] = level
    return out


def played(product, plan, answer=None, *, gain=1.0, delay_s=0.0, tau_s=0.0, ramp_pu_s=np.inf, change=None, noise=0.0):
    """A recording of the plan.

    answer : (t_s, value, dt) -> fraction; the product's curve if None
    change : (t_s, fraction) -> fraction, last of all
    """
    rate = plan.rate_hz * FINE
    t_s, value = plan.series(rate)
    dt = 1.0 / rate
    fraction = static_fraction(product, value) if answer is None else answer(t_s, value, dt)
    fraction = gain * ramped(lagged(delayed(fraction, delay_s, dt), tau_s, dt), ramp_pu_s, dt)
    if change is not None:
        fraction = change(t_s, fraction)
    t_s, fraction, value = t_s[::FINE], fraction[::FINE], value[::FINE]
    if noise:
        fraction = fraction + np.random.default_rng(3).normal(0.0, noise, fraction.size)
    baseline = np.full(t_s.size, BASELINE_KW)
    return Recording(t_s, value, baseline + SOLD_KW * fraction, baseline)


def failed(verdict):
    return {row.id for row in verdict.rows if row.passed is False}


def failed_in(verdict):
    return {(row.id, row.part) for row in verdict.rows if row.passed is False}
