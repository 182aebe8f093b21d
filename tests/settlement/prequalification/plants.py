"""Plants that answer a plan: ideal, or with one fault each. Written from the rules, not from the code under test."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from settlement.prequalification import Recording

SOLD_KW = 1000.0
BASELINE_KW = -3000.0
FINE = 20  # steps of the plant in one sample
HOLD_MORE_S = 0.5  # of support than the least, which counts from full activation
SWITCHED_FINE = 2  # of one that is walked through step by step


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


def played(
    product, plan, answer=None, *, gain=1.0, delay_s=0.0, tau_s=0.0, ramp_pu_s=np.inf, change=None, noise=0.0, fine=FINE
):  # fmt: skip
    """A recording of the plan.

    answer : (t_s, value, dt) -> fraction; the product's curve if None
    change : (t_s, fraction) -> fraction, last of all
    """
    rate = plan.rate_hz * fine
    t_s, value = plan.series(rate)
    dt = 1.0 / rate
    fraction = static_fraction(product, value) if answer is None else answer(t_s, value, dt)
    fraction = gain * ramped(lagged(delayed(fraction, delay_s, dt), tau_s, dt), ramp_pu_s, dt)
    if change is not None:
        fraction = change(t_s, fraction)
    t_s, fraction, value = t_s[::fine], fraction[::fine], value[::fine]
    if noise:
        fraction = fraction + np.random.default_rng(3).normal(0.0, noise, fraction.size)
    baseline = np.full(t_s.size, BASELINE_KW)
    return Recording(t_s, value, baseline + SOLD_KW * fraction, baseline)


def failed(verdict):
    return {row.id for row in verdict.rows if row.passed is False}


def failed_in(verdict):
    return {(row.id, row.part) for row in verdict.rows if row.passed is False}


def switched(product, *, lag_s=0.0, gain=1.0, release_s=None, fall_pu_s=None, deaf_to_pause=False, rearms=True):
    """The answer of a product with a trigger: on at its thresholds, held, let go slowly, armed again."""
    trigger, f0 = product.trigger, product.nominal_hz
    up = trigger.hz < f0
    marks = trigger.steps_hz or (trigger.hz,)
    release_s = trigger.release_s if release_s is None else release_s
    fall = trigger.fall_pu_s if fall_pu_s is None else fall_pu_s

    def answer(t_s, value, dt):
        out, level, want, on_at, back_at, fired = np.zeros(t_s.size), 0.0, 0.0, -np.inf, None, False
        for k, f in enumerate(value):
            passed = sum((f <= hz) if up else (f >= hz) for hz in marks) / len(marks)
            if passed > want and (rearms or not fired):
                want, on_at = passed, t_s[k] if want == 0.0 else on_at
            away = trigger.release_hz and not ((f > trigger.release_hz) if up else (f < trigger.release_hz))
            back_at = None if (away or passed > 0) else (t_s[k] if back_at is None else back_at)
            letting = want > 0 and back_at is not None and t_s[k] - back_at >= release_s - 1e-9
            letting = letting and t_s[k] - on_at >= trigger.hold_s + HOLD_MORE_S
            paused = trigger.pause_hz and ((f <= trigger.pause_hz) if up else (f >= trigger.pause_hz))
            if letting:
                want, fired = 0.0, True
            if want >= level:
                level = want if lag_s == 0 else level + (want - level) * (1 - np.exp(-dt / lag_s))
            elif not (paused and not deaf_to_pause):
                level = max(level - fall * dt, want) if np.isfinite(fall) else want
            out[k] = level
        return (1 if up else -1) * gain * np.concatenate([[0.0], out[:-1]])

    return answer
