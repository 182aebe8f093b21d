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


def restore_h(product: Product) -> float:
    """Time in which the baseline restores the product's energy; infinite where it does not: NEM does, or nothing."""
    rule = product.reservoir
    if rule is None or rule.nem is not None or not (rule.restore_h > 0.0 or rule.recovery_frac > 0.0):
        return math.inf
    # NESO asks for a share of the volume each settlement period.
    return rule.restore_h if rule.restore_h > 0.0 else product.interval_s / 3600.0 / rule.recovery_frac


def kept_kwh(sold: Sequence[tuple[Product, float]]) -> tuple[float, float]:
    """Energy (up, down) that the products which the baseline restores want to find [kWh]."""
    up = down = 0.0
    for product, kw in sold:
        if product.reservoir is not None and restore_h(product) < math.inf:
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
    hours = min((restore_h(product) for product, _ in sold), default=math.inf)
    if hours == math.inf or alert or up_kwh + down_kwh <= 0.0:
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
    for product, kw in (item for item in sold if restore_h(item[0]) < math.inf):
        need = needs(product)
        asked = -min(*product.curve_frac, 0.0) if charging else max(*product.curve_frac, 0.0)
        spare += kw * max((need.down_frac if charging else need.up_frac) - asked, 0.0)
    return spare
