"""The reserve mode of Continental Europe: near its end a reservoir follows the short-term deviation alone.

In an alert state, and with less energy left than full activation takes over the full activation time of aFRR, a unit
answers the deviation less its mean over that time, which costs no energy: the slow part is aFRR's by then. The change
is gradual both ways (TenneT NL 3.2.5 and annex 8.1). That the weight grows linearly is from memory [M], and so is when
the mode ends: once the alert state is over and the energy is back within the limits.
"""

from __future__ import annotations

from droop.numerics import strict


@strict
def reserved(on: bool, alert: bool, up_h: float, down_h: float, least_h: float) -> bool:
    """Whether the mode holds from now on.

    on           : whether it held until now
    up_h, down_h : energy left each way, as hours of full activation
    least_h      : full activation time of aFRR [h]; limits of the state of charge are this over the reservoir's hours
    """
    within = up_h >= least_h and down_h >= least_h
    return alert or not within if on else alert and not within


@strict
def weighted(weight: float, on: bool, elapsed_s: float, over_s: float) -> float:
    """The weight of the short-term deviation after `elapsed_s`: from 0 to 1 in `over_s` once on, and back."""
    step = elapsed_s / over_s
    return min(weight + step, 1.0) if on else max(weight - step, 0.0)


@strict
def short_term_hz(dev_hz: float, mean_hz: float, weight: float) -> float:
    """What is answered: (1 - w) dev + w (dev - mean) [Hz]."""
    return dev_hz - weight * mean_hz
