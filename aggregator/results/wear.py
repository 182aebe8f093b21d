"""What a stay wore of its battery, and what of that was regulation: shares of a life, by two published laws.

A battery that is cycled until it has lost `droop.ageing.END_OF_LIFE` has used up its life; a stay uses up a share of
it, by its cycles (rainflow, `droop.rainflow`) and by its calendar. Shares add up over stays, for the sums behind the laws
do (`droop.ageing`): the mean over the life and not the slope of the loss today, as the wear price of the split. What
it costs is the share times the battery's price.

Assumed, and said in every result: the battery of each car is of either chemistry; the price is a parameter; the
counterfactual is the same stay in which the vehicle does its own charging plan, as it stood along the way, at the
charger's nominal efficiency, within the same battery and at the same temperature. A plan that later made good what
regulation took is thereby charged to the plan; over a stay whose regulation is balanced the two cancel.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

from droop import ageing
from droop.ageing import END_OF_LIFE, Law, Lfp, Nmc
from droop.rainflow import Counts

Floats = npt.NDArray[np.float64]

CHEMISTRIES: Final[dict[str, Law]] = {"lfp": Lfp(), "nmc": Nmc()}
SOURCES: Final = {"lfp": "Naumann et al. 2018, 2020", "nmc": "Schmalstieg et al. 2014"}
# [M] a pack's price to replace it, less what the worn one still fetches: a parameter.
BATTERY_PRICE: Final = 100.0
ASSUMES: Final = (
    "battery price: a parameter [M]",
    "every battery of either chemistry",
    "worn out at a loss of 20 %, cycles and calendar each by themselves",
    "plan alone: the vehicle's own charging plan as it stood, nominal efficiency, same temperature",
    "states of charge looked at once a minute, of the plan alone once an accounting interval",
)
# The laws' range; a meter's noise must not leave it.
C_RATE_MAX: Final = 10.0


class Lived(NamedTuple):
    """How k batteries lived: means over the stay, and what was cycled in it.

    days_s : float64[k] length; soc_frac, temp_c, c_rate : float64[k]
    """

    days_s: Floats
    soc_frac: Floats
    temp_c: Floats
    c_rate: Floats
    counts: Counts


class Shares(NamedTuple):
    """Shares of a life, float64[k] each."""

    cycle: Floats
    calendar: Floats


def shares(law: Law, lived: Lived) -> Shares:
    """What a stay used up of a life."""
    k = lived.days_s.size
    health = ageing.new(k)
    rate = np.clip(lived.c_rate, 0.0, C_RATE_MAX)
    soc, temp_c = np.clip(lived.soc_frac, 0.0, 1.0), lived.temp_c
    ageing.advance(health, law, 0.0, soc, temp_c, lived.counts, rate)
    calendar = np.asarray(law.calendar(soc, temp_c) * lived.days_s, np.float64)
    return Shares(health.cycle / law.cycle_sum(END_OF_LIFE), calendar / calendar_sum(law))


@cache
def calendar_sum(law: Law) -> float:
    """Calendar sum of a battery that came to its end by its years alone."""

    def beyond(exponent: float) -> float:
        return float(law.loss(10.0**exponent, 0.0)) - END_OF_LIFE

    return float(10.0 ** brentq(beyond, -12.0, 3.0, xtol=1e-12))


def told(rows: dict[str, Any], price: float, currency: str) -> dict[str, Any]:
    """JSON-ready: sums over stays by chemistry. rows : sums of the columns of STAYED, by name"""
    found: dict[str, Any] = {
        "battery_price_per_kwh": price, "currency": currency, "marks": ["M"], "end_of_life_frac": END_OF_LIFE,
        "assumes": list(ASSUMES),
    }  # fmt: skip
    for law in CHEMISTRIES:
        figures = {name.removeprefix(f"{law}_"): value for name, value in rows.items() if name.startswith(f"{law}_")}
        figures["law"] = SOURCES[law]
        figures["regulation_life_frac"] = (
            figures["cycle_frac"] + figures["calendar_frac"]
            - figures["alone_cycle_frac"] - figures["alone_calendar_frac"]
        )  # fmt: skip
        found[law] = figures
    return found
