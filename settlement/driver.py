"""A vehicle's own statement: what it did in a period, what it earned, why, and what it missed and why.

For its driver, and for whoever checks it: the same numbers in plain words and as a table. This file knows accounts and
shares (`settlement.accounts`, `settlement.attribution`); without shares it tells energies alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from droop import reasons
from droop.reasons import WORDS, Reason
from settlement.accounts import ACCOUNT, TimeQuality
from settlement.attribution import Attribution
from settlement.statement import iso

Rows = npt.NDArray[Any]

SUMMED: Final = tuple(
    name for name in ACCOUNT.names or () if name.endswith(("_kwh", "_s")) and name not in ("bound_s", "coverage_frac")
)
COUNTED: Final = ("commands", "acknowledged", "refused")
NEGLIGIBLE_KWH: Final = 0.005  # below this people are told of none


class DriverError(ValueError):
    """No such statement; the message names the field and the remedy."""


def statement(
    vehicle: str, rows: Rows, attributions: Iterable[Attribution] = (), sites: Sequence[str] = ()
) -> dict[str, Any]:
    """One vehicle's statement, JSON-ready. Energies in kWh, positive power into the grid; amounts as decimal text.

    rows  : ACCOUNT[n], of any vehicles; sites : names by leaf of the tree of caps

    Raises DriverError where the vehicle has no account.
    """
    own = rows[rows["vehicle"] == vehicle.encode()]
    if not own.size:
        raise DriverError(f"vehicle `{vehicle}` has no account in this period; `flyball journal` says what there is")
    own = own[np.lexsort((own["slot"], own["start_ns"]))]
    sums = {name: float(own[name].sum()) for name in SUMMED} | {name: int(own[name].sum()) for name in COUNTED}
    income = [entry for item in attributions for entry in _income(vehicle, item)]
    found = {
        "vehicle": vehicle,
        "start": iso(int(own["start_ns"].min())),
        "end": iso(int(own["end_ns"].max())),
        "stays": len({(int(row["slot"]), int(row["session"])) for row in own}),
        "sites": sorted({_site(int(site), sites) for site in own["site"]}),
        **sums,
        "coverage_frac": sums["reported_s"] / sums["plugged_s"],
        "quality": TimeQuality(int(own["quality"].max())).name.lower(),
        "shortfall_by_reason": _by_reason(own, "shortfall_kwh"),
        "bound_s_by_reason": _by_reason(own, "bound_s"),
        "earned": _totals(income, "earned"),
        "income": income,
        "intervals": [_interval(row, sites) for row in own],
    }
    return found | {"sentences": sentences(found)}


def sentences(found: dict[str, Any]) -> list[str]:
    """The statement in plain words, energies to a hundredth of a kWh."""
    told = [
        f"{found['vehicle']} was plugged in for {_length(found['plugged_s'])} "
        f"and reported {100.0 * found['coverage_frac']:.0f} % "
        f"of that time.",
        f"It held {found['headroom_up_kwh']:.2f} kWh of discharge and {found['headroom_down_kwh']:.2f} kWh of "
        f"charge available for the grid.",
        f"Beyond its own charging it was asked for {found['asked_up_kwh']:.2f} kWh up and "
        f"{found['asked_down_kwh']:.2f} kWh down, and gave {found['delivered_up_kwh']:.2f} and "
        f"{found['delivered_down_kwh']:.2f} kWh.",
    ]
    missed = {name: kwh for name, kwh in found["shortfall_by_reason"].items() if kwh >= NEGLIGIBLE_KWH}
    for name, kwh in sorted(missed.items(), key=lambda item: -item[1]):
        told.append(f"{kwh:.2f} kWh fell short: {WORDS[Reason[name.upper()]]}.")
    for currency, amount in found["earned"].items():
        parts = {part: _totals(found["income"], part).get(currency, "0") for part in ("capacity", "energy", "penalty")}
        told.append(
            f"It earned {amount} {currency}: {parts['capacity']} for being available, {parts['energy']} for what it "
            f"gave, less {parts['penalty']} for what fell short."
        )
    if found["quality"] != "good":
        told.append(QUALITIES[found["quality"]])
    return told


def _length(seconds: float) -> str:
    """A time as people tell it: whole seconds, whole minutes, tenths of an hour."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 3570.0 else f"{seconds / 3600.0:.1f} h"


QUALITIES: Final = {
    "late": "Some of its reports arrived late.",
    "ahead": "The charger's clock runs ahead; have it set.",
    "silent": "For at least one interval there is not one report: nothing counts as given in it.",
}


def _income(vehicle: str, item: Attribution) -> list[dict[str, Any]]:
    """A vehicle's shares of one pot, one entry an account."""
    pot, entries = item.pot, []
    for k in np.flatnonzero(item.rows["vehicle"] == vehicle.encode()).tolist():
        entries.append(
            {
                "product": pot.product,
                "start": iso(pot.start_ns),
                "end": iso(pot.end_ns),
                "slot": int(item.rows["slot"][k]),
                "currency": pot.currency,
                "capacity": str(item.amount(item.capacity[k])),
                "energy": str(item.amount(item.energy[k])),
                "penalty": str(item.amount(item.penalty[k])),
                "earned": str(item.amount(item.earned[k])),
                "reserved_kwh": float(item.reserved_kwh[k]),
                "credited_kwh": float(item.credited_kwh[k]),
                "blamed_kwh": float(item.blamed_kwh[k]),
                "pool": {name: str(getattr(pot, name)) for name in ("capacity", "energy", "penalty")},
            }
        )
    return entries


def _totals(income: list[dict[str, Any]], name: str) -> dict[str, str]:
    sums: dict[str, Decimal] = {}
    for entry in income:
        sums[entry["currency"]] = sums.get(entry["currency"], Decimal(0)) + Decimal(entry[name])
    return {currency: str(amount) for currency, amount in sums.items()}


def _by_reason(rows: Rows, name: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for row in rows:
        if row[name] > 0.0:
            why = reasons.name(int(row["reason"]))
            found[why] = found.get(why, 0.0) + float(row[name])
    return found


def _interval(row: Any, sites: Sequence[str]) -> dict[str, Any]:
    plain = {name: row[name].item() for name in ACCOUNT.names or () if name not in ("vehicle", "site")}
    return plain | {
        "start": iso(int(row["start_ns"])),
        "end": iso(int(row["end_ns"])),
        "site": _site(int(row["site"]), sites),
        "reason": reasons.name(int(row["reason"])),
        "quality": TimeQuality(int(row["quality"])).name.lower(),
    }


def _site(leaf: int, sites: Sequence[str]) -> str:
    return sites[leaf] if 0 <= leaf < len(sites) else ""
