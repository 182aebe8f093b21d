"""Charge management: the power, part of the declared baseline, that brings a reservoir back after an event.

It belongs into the baseline and stays out of the response; it is fixed before the interval, from energies and never
from the frequency, and only in the normal state (TenneT NL 3.2.5, 4.3: no mirroring). Nordic NEM is another thing: its
power belongs to the product (`management`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from droop.entitlement import needs
from droop.products import Product


def _restores(product: Product) -> bool:
    """Whether the baseline restores the product's energy; what has NEM is restored by that."""
    return product.reservoir is not None and product.reservoir.restore_h > 0.0 and product.reservoir.nem is None


def kept_kwh(sold: Sequence[tuple[Product, float]]) -> tuple[float, float]:
    """Energy (up, down) that products with a time to restore it in want to find [kWh]."""
    up = down = 0.0
    for product, kw in sold:
        if product.reservoir is not None and _restores(product):
            need, window_h = needs(product), product.reservoir.window_min / 60.0
            up += kw * max(need.up_h, window_h if product.direction != "down" else 0.0)
            down += kw * max(need.down_h, window_h if product.direction != "up" else 0.0)
    return up, down


def working_point_kw(
    sold: Sequence[tuple[Product, float]], up_kwh: float, down_kwh: float, alert: bool, interval_h: float
) -> float:  # fmt: skip
    """Power to add to the plans of the interval that is declared: negative charges, 0 while nothing is missing [kW].

    up_kwh, down_kwh : energy left each way; both 0: nobody can be managed
    alert            : whether an alert state holds: nothing is restored then
    interval_h       : length of the interval

    What is missing comes back as soon as the power allows that the products reserve above their own; faster only where
    the shortest time that a product leaves for it would not suffice otherwise.
    """
    rules = [product.reservoir for product, _ in sold if product.reservoir is not None and _restores(product)]
    hours = min((rule.restore_h for rule in rules), default=0.0)
    if hours <= 0.0 or alert or up_kwh + down_kwh <= 0.0:
        return 0.0
    want_up, want_down = kept_kwh(sold)
    short_up, short_down = max(want_up - up_kwh, 0.0), max(want_down - down_kwh, 0.0)
    # Short of both it is too small for what is sold: whatever is taken from one side is missing at the other.
    missing = short_up - short_down
    if missing > 0.0:
        missing = min(missing, max(down_kwh - want_down, 0.0))
    else:
        missing = -min(-missing, max(up_kwh - want_up, 0.0))
    most_kw = max(_spare_kw(sold, missing > 0.0), abs(missing) / hours)
    return -math.copysign(min(abs(missing) / interval_h, most_kw), missing) if missing else 0.0


def _spare_kw(sold: Sequence[tuple[Product, float]], charging: bool) -> float:
    """Power that the products reserve beyond what they ask at full activation, the way that restores [kW]."""
    spare = 0.0
    for product, kw in (item for item in sold if _restores(item[0])):
        need = needs(product)
        asked = -min(*product.curve_frac, 0.0) if charging else max(*product.curve_frac, 0.0)
        spare += kw * max((need.down_frac if charging else need.up_frac) - asked, 0.0)
    return spare
