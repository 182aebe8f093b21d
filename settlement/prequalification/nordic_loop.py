"""Nordic FCR in the frequency domain: sines fitted, Requirements 8 to 10, and the delay that the loop affords.

Nordic TSOs, Technical requirements for FCR, 28 March 2025. The transfer function is taken from control error to
power, in units of what the product owes per Hz: 1 for a perfect response. A frequency injected in software goes round
the frequency measurement, so the result is multiplied by 1/(T_FME s + 1). The official evaluation sees periods of 10
s and more; the delay budget is of the whole curve, which is stricter, and rests on no document.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from droop.products import Product
from settlement.align import Floats
from settlement.prequalification import loop
from settlement.prequalification.figures import Figures
from settlement.prequalification.loop import Complexes, System
from settlement.prequalification.nordic import REQUIREMENTS, WIDTH_HZ
from settlement.prequalification.options import Options
from settlement.prequalification.plan import Part, PrequalificationError
from settlement.prequalification.recording import Played, Recording
from settlement.prequalification.rows import Row, Rule

REQ_8: Final = Rule("Req. 8", "distance of the loop from -1, on and between tested periods", "", "V", REQUIREMENTS)
REQ_8_SIDE: Final = Rule("Req. 8, side", "the loop passes -1 on the right", "times round", "V", REQUIREMENTS)
REQ_9: Final = Rule("Req. 9", "performance, largest 0.95 |G/(1+FG)| |D|", "", "V", REQUIREMENTS)
REQ_10: Final = Rule("Req. 10", "error of the fitted sine over its size", "", "V", REQUIREMENTS)
DELAY: Final = Rule(
    "delay", "measured delay within what the whole loop affords", "s", "D", "whole Nyquist curve, Req. 8"
)


class Sine(NamedTuple):
    """A fitted sine: complex amplitude about the mean, and Req. 10's error over size."""

    amplitude: complex
    misfit: float


class Point(NamedTuple):
    """One tested period: F(j omega), and how well the power was a sine."""

    period_s: float
    response: complex
    misfit: float


def fit(t_s: Floats, y: Floats, period_s: float) -> Sine:
    """Least-squares sine of a known period: y = mean + Im(amplitude exp(j omega t)).

    t_s, y : float64[n]  at least 3 of them

    Misfit is sqrt(sum (y - fit)^2) / sqrt(sum (fit - mean)^2); infinite where there is no sine at all.
    """
    if t_s.size < 3:
        raise PrequalificationError(f"period {period_s:g} s: {t_s.size} samples; a sine takes at least 3")
    omega = 2.0 * np.pi / period_s
    columns = np.column_stack([np.sin(omega * t_s), np.cos(omega * t_s), np.ones(t_s.size)])
    found, *_ = np.linalg.lstsq(columns, y, rcond=None)
    wave = columns[:, :2] @ found[:2]
    error, size = float(np.linalg.norm(y - columns @ found)), float(np.linalg.norm(wave))
    return Sine(complex(found[0], found[1]), error / size if size > 0.0 else float("inf"))


def point(product: Product, part: Part, recording: Recording, sold_kw: float) -> Point | None:
    """F at a part's period; None where too little is known."""
    keep = (recording.t_s >= part.at["from"]) & (recording.t_s < part.at["to"]) & np.isfinite(recording.net_kw)
    if np.count_nonzero(keep) < 3:
        return None
    t_s, period_s = recording.t_s[keep], part.at["period"]
    # Low frequency is what is answered with power into the grid, whatever the product's direction.
    error = fit(t_s, -(recording.hz[keep]) / WIDTH_HZ[product.direction], period_s)
    power = fit(t_s, recording.net_kw[keep] / sold_kw, period_s)
    if error.amplitude == 0:
        return None
    return Point(period_s, power.amplitude / error.amplitude, power.misfit)


def points(product: Product, played: Played, sold_kw: float) -> list[Point]:
    """F at every tested period, the slowest first."""
    found = [point(product, part, cut, sold_kw) for part, cut in played]
    return sorted((item for item in found if item is not None), key=lambda item: -item.period_s)


def corrected(omega: Floats, response: Complexes, fme_s: float) -> Complexes:
    """F behind the frequency measurement that was gone round: times 1/(T_FME s + 1)."""
    return np.asarray(response / (1.0 + 1j * omega * fme_s))


def curve(measured: list[Point], fme_s: float) -> tuple[Floats, Complexes]:
    """(omega, F) of measured points, corrected, ascending in frequency."""
    omega = np.array([2.0 * np.pi / item.period_s for item in measured])
    return omega, corrected(omega, np.array([item.response for item in measured], np.complex128), fme_s)


def system_of(product: Product) -> System:
    """The system that a product is judged in."""
    own = loop.FCR_N if product.direction == "symmetric" else loop.FCR_D
    stable, performing = (Figures(product).within(name) for name in ("stab", "perf"))
    need, width = stable.number("dp_mw", 0.0), stable.number("df_hz", 0.0)
    return System(
        need / width if need and width else own.mw_per_hz,
        (stable.number("sn_mw", own.stability[0]), stable.number("e_mws", own.stability[1])),
        (performing.number("sn_mw", own.performance[0]), performing.number("e_mws", own.performance[1])),
    )


def verdict(product: Product, played: Played, sold_kw: float, options: Options) -> list[Row]:
    """Req. 8 to 10 of the sines, and the delay that the loop affords."""
    return [*_requirements(product, played, sold_kw, options), budget_row(product, options)]


def _requirements(product: Product, played: Played, sold_kw: float, options: Options) -> list[Row]:
    wanted = [part.at["period"] for part, _ in played]
    measured = points(product, played, sold_kw)
    known = {item.period_s: item for item in measured}
    nan = float("nan")
    rows = [
        REQ_10.below(f"sine {period_s:g} s", known[period_s].misfit if period_s in known else nan, 1.0)
        for period_s in wanted
    ]
    if len(wanted) < 2:
        why = "one period is no curve; play all sines"
        return [rule.not_applicable("sines", why) for rule in (REQ_8, REQ_8_SIDE, REQ_9)] + rows
    note = f"with T_FME {options.fme_s:g} s" if options.fme_s else "the frequency measurement is in the loop"
    if len(measured) < len(wanted) or any(item.response == 0 for item in measured):
        return [rule.at_least("sines", nan, 0.0) for rule in (REQ_8, REQ_8_SIDE, REQ_9)] + rows
    found = loop.margins(system_of(product), *curve(measured, options.fme_s))
    return [
        REQ_8.at_least("sines", found.distance, loop.RADIUS * loop.MARGIN, note),
        REQ_8_SIDE.within("sines", float(found.encirclements), 0, 0, note),
        REQ_9.below("sines", found.performance, 1.0, note),
        *rows,
    ]


def budget_row(product: Product, options: Options) -> Row:
    """The measured latency against the delay that the loop affords (with the chargers' lag and T_FME in it)."""
    if options.latency_s is None:
        return DELAY.not_applicable(
            "all", "no latency given; `--latency SUMMARY.json` takes that of `flyball run --json`"
        )
    lags = [tau for tau in (options.actuator_s, options.fme_s) if tau > 0]
    budget_s = loop.delay_budget_s(system_of(product), *lags)
    left_s = budget_s - options.latency_s
    note = f"left over {left_s:.3f} s; lags in the loop: {', '.join(f'{tau:g} s' for tau in lags) or 'none'}"
    return DELAY.at_most("all", options.latency_s, budget_s, note)
