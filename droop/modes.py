"""The energy rules of the products sold, as they run: once a second the modes, at every tick what they ask.

`manage` looks at the frequency and at the energy left in the fleet and sets the modes: alert state, reserve mode, NEM,
AEM, and how the provider's freedoms are used. `managed` turns what a curve asks into what is asked under them; a
product without such rules never gets there. The rules themselves are `alert`, `reserve_mode`, `management` and
`freedoms`; this file holds their state, one row a product, in arrays.

Means are of one value a second, that of the first tick within it; a second without a tick repeats the one before. A
second without a frequency counts as one at the reference, in which nothing was asked.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.alert import counted
from droop.curve import response
from droop.freedoms import SUMS, banded, leaning, overfulfilled, paced, slope_band, within_deadband
from droop.management import allowed, answered, saturated_hz, switched
from droop.numerics import strict
from droop.products import Product
from droop.promises import CRITERIA, WINDOW_S, Reservoir
from droop.reserve_mode import reserved, short_term_hz, weighted

Column = npt.NDArray[Any]

NS: Final = 1_000_000_000
WINDOW: Final = WINDOW_S
# NEM works within the standard frequency range of its area: +-100 mHz in the Nordic (SO GL Annex III).
STANDARD_HZ: Final = 0.1


class Mode(IntEnum):
    """What can be on; also the columns of `Modes.seconds`."""

    ALERT = 0
    RESERVE = 1
    NEM = 2
    AEM = 3


ALERT, RESERVE, NEM, AEM = (int(mode) for mode in Mode)


class Duties(NamedTuple):
    """The rules of the products sold, one row each; all 0 where a product has none. `_h`: hours of full activation."""

    any: Column  # bool[p]
    alert_hz: Column  # float64[p, CRITERIA]  infinite: no such criterion
    alert_ns: Column  # int64[p, CRITERIA]
    reserve_s: Column  # float64[p]  aFRR's full activation time; 0: no reserve mode
    nem_on_h: Column  # float64[p]
    nem_off_h: Column
    nem_pu: Column
    nem_s: Column  # int64[p]  seconds of its mean
    aem_on_h: Column
    aem_off_h: Column
    aem_s: Column  # int64[p]
    lower: Column  # bool[p]  asks energy upwards
    upper: Column
    zero_hz: Column  # float64[p]  the curve as a line, and what its controller saturates at
    slope: Column
    low_hz: Column
    high_hz: Column
    floor_pu: Column
    ceiling_pu: Column
    overfulfil: Column  # float64[p]
    deadband: Column  # bool[p]
    full_s: Column  # float64[p]  slowest full activation to choose from; 0: no choice
    band: Column  # float64[p]  largest slope of what is given over what is due that the market's score admits; inf: any
    band_s: Column  # float64[p]  the interval over which it is taken


class Modes(NamedTuple):
    """What is on, and what the means remember."""

    second: Column  # int64[1]  last second looked at
    heads: Column  # int64[1]  seconds remembered so far
    since_ns: Column  # int64[p, CRITERIA]
    alert: Column  # int64[p]  0, 1
    reserve: Column  # int64[p]  0, 1
    weight: Column  # float64[p]  of the short-term deviation
    nem: Column  # int64[p]  -1 lower threshold, 1 upper, 0 off
    aem: Column  # int64[p]
    past_hz: Column  # float64[p, WINDOW]  deviations of the reserve mode; of AEM its reference less the curve's zero
    past_nem: Column  # float64[p, WINDOW]
    mean_hz: Column  # float64[p]  mean of past_hz
    nem_pu: Column  # float64[p]  NEM's power now, of that sold
    lean: Column  # float64[p]  see `freedoms.leaning`
    most: Column  # float64[p]  over-fulfilment that the fleet has room for
    given: Column  # float64[p]  share asked at the last tick
    slopes: Column  # float64[p, SUMS]  see `freedoms.banded`, of the interval so far
    seconds: Column  # int64[p, modes]  time each mode was on so far
    active: Column  # int64[2]  whether anything is other than if there were no modes: now, and the second before


def at_rest(products: int) -> Modes:
    """Nothing is on."""
    whole = {"second", "heads", "since_ns", "alert", "reserve", "nem", "aem", "seconds", "active"}
    shapes: dict[str, tuple[int, ...]] = {
        "second": (1,), "heads": (1,), "active": (2,), "since_ns": (products, CRITERIA),
        "past_hz": (products, WINDOW), "past_nem": (products, WINDOW), "seconds": (products, len(Mode)),
        "slopes": (products, SUMS),
    }  # fmt: skip
    found = {
        name: np.zeros(shapes.get(name, (products,)), np.int64 if name in whole else np.float64)
        for name in Modes._fields
    }
    found["most"][:] = 1.0
    return Modes(**found)


def duties(sold: list[tuple[Product, float]]) -> Duties:
    """The products' rules as the columns the kernels take."""
    kinds = {"any": np.bool_, "lower": np.bool_, "upper": np.bool_, "deadband": np.bool_, "alert_ns": np.int64,
             "nem_s": np.int64, "aem_s": np.int64}  # fmt: skip
    wide = {"alert_hz", "alert_ns"}
    table = Duties(**{
        name: np.zeros((len(sold), CRITERIA) if name in wide else len(sold), kinds.get(name, np.float64))
        for name in Duties._fields
    })  # fmt: skip
    table.alert_hz[:] = np.inf
    table.overfulfil[:] = 1.0
    table.band[:], table.band_s[:] = np.inf, 1.0
    for row, (product, _) in enumerate(sold):
        if product.input != "frequency":
            continue
        free = product.freedoms
        table.overfulfil[row], table.deadband[row] = free.overfulfil_max, free.deadband
        table.full_s[row] = product.full_s if free.speed else 0.0
        if product.reservoir is not None:
            _fill(table, row, product, product.reservoir)
        freely = free.overfulfil_max > 1.0 or free.deadband or free.speed
        if freely:
            table.band[row], table.band_s[row] = slope_band(product.score), product.interval_s
        table.any[row] = freely or (product.reservoir is not None and _rules(product.reservoir))
    return table


def heeds(product: Product) -> bool:
    """Whether a product's rules, or its provider's freedoms, look at the energy left in the fleet."""
    free = product.freedoms
    return product.reservoir is not None or free.overfulfil_max > 1.0 or free.deadband or free.speed


def _rules(reservoir: Reservoir) -> bool:
    return bool(reservoir.alert or reservoir.reserve_min or reservoir.nem or reservoir.aem)


def _fill(table: Duties, row: int, product: Product, reservoir: Reservoir) -> None:
    x, y = product.curve_hz, product.curve_frac
    for k, (beyond_hz, for_s) in enumerate(reservoir.alert):
        table.alert_hz[row, k], table.alert_ns[row, k] = beyond_hz, round(for_s * NS)
    table.reserve_s[row] = reservoir.reserve_min * 60.0
    for name, rule in (("nem", reservoir.nem), ("aem", reservoir.aem)):
        if rule is not None:
            getattr(table, f"{name}_on_h")[row] = rule.on_min / 60.0
            getattr(table, f"{name}_off_h")[row] = rule.off_min / 60.0
            getattr(table, f"{name}_s")[row] = round(rule.window_s)
    nem_pu = reservoir.nem.share_pu if reservoir.nem is not None else 0.0
    table.nem_pu[row] = nem_pu
    table.lower[row], table.upper[row] = product.direction != "down", product.direction != "up"
    # FCR-N saturates at both ends of its curve, FCR-D only where it begins: beyond its full deviation it goes on.
    table.low_hz[row] = x[0] if table.upper[row] else -np.inf
    table.high_hz[row] = x[-1] if table.lower[row] else np.inf
    # What is given whole or in steps has no line whose reference could move: AEM then tells that it is unavailable.
    table.slope[row] = (y[-1] - y[0]) / (x[-1] - x[0]) if product.trigger is None else 0.0
    table.zero_hz[row] = x[-1] if product.direction == "up" else (x[0] if product.direction == "down" else 0.0)
    table.floor_pu[row] = min(y) - (nem_pu if table.lower[row] else 0.0)
    table.ceiling_pu[row] = max(y) + (nem_pu if table.upper[row] else 0.0)


@strict
def manage(
    modes: Modes, duties: Duties, nominal_hz: Column, sold_kw: Column, hz: float, now_ns: int, up_kwh: float,
    down_kwh: float, room_up_kw: float, room_down_kw: float,
) -> None:  # fmt: skip
    """Before every tick's request: the clocks of the alert state, and once a second everything else.

    hz                 : frequency acted on; NaN: there is none
    up_kwh, down_kwh   : energy that the vehicles which go both ways have left, at the grid; both 0: there are none
    room_up/down_kw    : power that the fleet could go beyond its baseline each way
    """
    for row in range(duties.any.size):
        if duties.any[row]:
            alert = counted(
                modes.since_ns[row], duties.alert_hz[row], duties.alert_ns[row], hz - nominal_hz[row], now_ns
            )
            modes.alert[row] = 1 if alert else 0
    second = now_ns // NS
    if second <= modes.second[0]:
        return
    passed = second - modes.second[0] if modes.heads[0] > 0 else 1
    for row in range(duties.any.size):
        if second // duties.band_s[row] != modes.second[0] // duties.band_s[row]:
            modes.slopes[row, :] = 0.0
    modes.second[0] = second
    modes.active[1] = modes.active[0]
    modes.active[0] = 0
    lean = leaning(up_kwh, down_kwh)
    room_kw = room_up_kw if lean > 0.0 else room_down_kw
    for row in range(duties.any.size):
        if duties.any[row]:
            hold_on(modes, row, passed - 1)
            # Nobody's reservoir is no reservoir that runs dry: chargers of one direction have none to manage.
            has = sold_kw[row] > 0.0 and up_kwh + down_kwh > 0.0
            up_h = up_kwh / sold_kw[row] if has else np.inf
            down_h = down_kwh / sold_kw[row] if has else np.inf
            switch(modes, duties, row, hz - nominal_hz[row], up_h, down_h, passed)
            modes.lean[row] = lean
            # What is given freely must not become a shortfall.
            modes.most[row] = max(min(duties.overfulfil[row], room_kw / max(sold_kw.sum(), 1e-9)), 1.0)
            for mode, on in ((ALERT, modes.alert[row]), (RESERVE, modes.reserve[row]), (NEM, modes.nem[row]),
                             (AEM, modes.aem[row])):  # fmt: skip
                modes.seconds[row, mode] += passed if on != 0 else 0
            touched = modes.weight[row] > 0.0 or modes.nem_pu[row] != 0.0 or modes.nem[row] != 0
            shifted = duties.aem_s[row] > 0 and modes.mean_hz[row] != 0.0
            if touched or shifted or modes.alert[row] != 0 or modes.aem[row] != 0:
                modes.active[0] = 1
    modes.heads[0] += passed


@strict
def hold_on(modes: Modes, row: int, missed: int) -> None:
    """Seconds in which nobody asked: as the one before them."""
    head = modes.heads[0]
    if head == 0:
        return
    last = (head - 1) % WINDOW
    for k in range(min(missed, WINDOW)):
        modes.past_hz[row, (head + k) % WINDOW] = modes.past_hz[row, last]
        modes.past_nem[row, (head + k) % WINDOW] = modes.past_nem[row, last]


@strict
def switch(
    modes: Modes, duties: Duties, row: int, dev_hz: float, up_h: float, down_h: float, passed: int
) -> None:  # fmt: skip
    """One product's modes for the second that begins, and its means with that second in them."""
    at = modes.heads[0] + passed - 1
    if duties.reserve_s[row] > 0.0:
        least_h = duties.reserve_s[row] / 3600.0
        on = reserved(modes.reserve[row] != 0, modes.alert[row] != 0, up_h, down_h, least_h)
        modes.weight[row] = weighted(modes.weight[row], on, np.float64(passed), duties.reserve_s[row])
        modes.reserve[row] = 1 if on else 0
        modes.past_hz[row, at % WINDOW] = dev_hz if dev_hz == dev_hz else 0.0
        modes.mean_hz[row] = mean(modes.past_hz[row], at + 1, min(at + 1, int(duties.reserve_s[row])))
    if duties.nem_s[row] > 0:
        modes.nem[row] = switched(
            modes.nem[row], up_h, down_h, duties.nem_on_h[row], duties.nem_off_h[row], duties.lower[row],
            duties.upper[row],
        )  # fmt: skip
        modes.past_nem[row, at % WINDOW] = allowed(modes.nem[row], dev_hz, STANDARD_HZ)
        modes.nem_pu[row] = duties.nem_pu[row] * mean(modes.past_nem[row], at + 1, duties.nem_s[row])
    if duties.aem_s[row] > 0:
        modes.aem[row] = switched(
            modes.aem[row], up_h, down_h, duties.aem_on_h[row], duties.aem_off_h[row], duties.lower[row],
            duties.upper[row],
        )  # fmt: skip
        on = modes.aem[row] != 0 and dev_hz == dev_hz and duties.slope[row] != 0.0
        inside = saturated_hz(dev_hz, duties.low_hz[row], duties.high_hz[row]) - duties.zero_hz[row]
        modes.past_hz[row, at % WINDOW] = inside if on else 0.0
        modes.mean_hz[row] = mean(modes.past_hz[row], at + 1, duties.aem_s[row])


@strict
def mean(past: Column, count: int, over: int) -> float:
    """Mean of the last `over` values of `count` remembered; those before the first are 0.

    Summed anew each time: a running sum would gather rounding, and two ways to the same second would differ.
    """
    total = 0.0
    for back in range(1, min(over, count) + 1):
        total += past[(count - back) % WINDOW]
    return total / over


@strict
def managed(
    modes: Modes, duties: Duties, row: int, dev_hz: float, target: float, x_hz: Column, y_frac: Column,
    deadband_hz: float, elapsed_s: float,
) -> float:  # fmt: skip
    """What is asked of the power sold, where the curve alone asks `target`."""
    answer = ruled(
        target, dev_hz, modes.weight[row], modes.mean_hz[row], modes.nem_pu[row], x_hz, y_frac, deadband_hz, duties, row
    )
    lean, due = modes.lean[row], answer
    if lean != 0.0 and dev_hz == dev_hz:
        if duties.deadband[row] and abs(dev_hz) < deadband_hz:
            answer = within_deadband(response(dev_hz, x_hz, y_frac, 0.0), lean)
        answer = overfulfilled(answer, lean, modes.most[row])
        answer = paced(answer, modes.given[row], lean, elapsed_s, duties.full_s[row])
    if duties.band[row] < np.inf and dev_hz == dev_hz:
        answer = banded(modes.slopes[row], dev_hz, due, answer, elapsed_s, duties.band[row])
    modes.given[row] = answer
    return answer


@strict
def lay_over(
    owed: Column, dev_hz: Column, weight: Column, mean_hz: Column, nem_pu: Column, x_hz: Column, y_frac: Column,
    deadband_hz: float, duties: Duties,
) -> None:  # fmt: skip
    """`ruled` over a column of what the curve alone asks, written in place; of one product, `duties` has its row."""
    for k in range(owed.size):
        owed[k] = ruled(
            owed[k], dev_hz[k], weight[k], mean_hz[k], nem_pu[k], x_hz, y_frac, deadband_hz, duties, 0
        )  # fmt: skip


@strict
def ruled(
    target: float, dev_hz: float, weight: float, mean_hz: float, nem_pu: float, x_hz: Column, y_frac: Column,
    deadband_hz: float, duties: Duties, row: int,
) -> float:  # fmt: skip
    """What the market wants while its modes are on, without anything given freely: settlement asks this as well.

    weight, mean_hz, nem_pu : the row's columns of `Modes`
    """
    if weight > 0.0:
        return response(short_term_hz(dev_hz, mean_hz, weight), x_hz, y_frac, deadband_hz)
    if duties.aem_s[row] == 0 and duties.nem_s[row] == 0:
        return target
    zero_hz = duties.zero_hz[row]
    return answered(
        target, dev_hz, duties.low_hz[row], duties.high_hz[row], zero_hz, duties.slope[row], zero_hz + mean_hz, nem_pu,
        duties.floor_pu[row], duties.ceiling_pu[row],
    )  # fmt: skip
