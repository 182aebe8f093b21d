"""What a stay wore of its battery, and what of that was regulation: shares of a life, by two published laws.

A battery that is cycled until it has lost `droop.ageing.END_OF_LIFE` has used up its life; a stay uses up a share of
it, by its cycles (rainflow, `droop.rainflow`) and by its calendar. Shares add up over stays, for the sums behind the
laws do (`droop.ageing`): the mean over the life and not the slope of the loss today, as the wear price of the split.
What it costs is the share times the battery's price.

Assumed, and said in every result: the battery of each car is of either chemistry; the price is a parameter; the
counterfactual is the same stay in which the vehicle does its own charging plan and nothing else, at the charger's
nominal efficiency and the same temperature: even charging to the energy wanted by the departure told, as the engine
plans it, without what the plan as it stood made good of regulation; where no departure was told, the plan as it stood.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

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
    "plan alone: even charging to the energy wanted by the departure told, else the plan as it stood; nominal "
    "efficiency, same temperature",
    "states of charge looked at once a minute, of the plan alone once an accounting interval",
)
# The laws' range; a meter's noise must not leave it.
C_RATE_MAX: Final = 10.0


class Lived(NamedTuple):
    """How k batteries lived: means over the stay, and what was cycled in it.

    span_s, soc_frac, temp_c, c_rate : float64[k]
    """

    span_s: Floats
    soc_frac: Floats
    temp_c: Floats
    c_rate: Floats
    counts: Counts


class Shares(NamedTuple):
    """Shares of a life, float64[k] each."""

    cycle: Floats
    calendar: Floats


def shares(name: str, lived: Lived) -> Shares:
    """What stays used up of a life. name : of the chemistry"""
    law, k = CHEMISTRIES[name], lived.span_s.size
    health = ageing.new(k)
    rate = np.clip(lived.c_rate, 0.0, C_RATE_MAX)
    soc, temp_c = np.clip(lived.soc_frac, 0.0, 1.0), lived.temp_c
    ageing.advance(health, law, 0.0, soc, temp_c, lived.counts, rate)
    calendar = np.asarray(law.calendar(soc, temp_c) * lived.span_s, np.float64)
    return Shares(health.cycle / law.cycle_sum(END_OF_LIFE), calendar / calendar_sum(name))


@cache
def calendar_sum(name: str) -> float:
    """Calendar sum of a battery that came to its end by its years alone; by bisection, for the loss rises with it."""
    law, low, high = CHEMISTRIES[name], 0.0, 1.0
    while float(law.loss(high, 0.0)) < END_OF_LIFE:
        high *= 2.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if float(law.loss(middle, 0.0)) < END_OF_LIFE else (low, middle)
    return 0.5 * (low + high)


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
