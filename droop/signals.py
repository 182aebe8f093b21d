"""A balancing authority's set-point as the share of power that the products on a signal owe.

The set-point is one signed power for all of them: what is above 0 belongs to those that can give, what is below to
those that can take, each in proportion to what is sold of it (PJM: target = signal x cleared MW; aFRR up and down are
two products on one set-point; rulebook 5.1, 8). A set-point whose validity has run out stands for the time the product
allows, then fades: never full power on no news.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from droop.numerics import strict

if TYPE_CHECKING:
    from droop.dynamics import Terms


@strict
def standing(now_ns: int, until_ns: int, hold_s: float, fade_s: float) -> float:
    """How much of a set-point stands at `now_ns`, 0..1. until_ns : end of its validity"""
    if now_ns < until_ns:
        return 1.0
    left = 1.0 - ((now_ns - until_ns) / 1e9 - hold_s) / fade_s
    return min(max(left, 0.0), 1.0)


@strict
def asked(terms: Terms, signal_kw: float) -> float:
    """The set-point in units of what is sold in its direction; 0 where nothing is."""
    sold_kw = terms.signal_kw[0] if signal_kw > 0.0 else terms.signal_kw[1]
    return signal_kw / sold_kw if sold_kw > 0.0 else 0.0
