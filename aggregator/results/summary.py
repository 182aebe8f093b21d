"""Sums over stays, kept while they end: vehicles, drivers and wear of the whole run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from aggregator.results import wear
from aggregator.results.ending import ROUNDING_KWH, Departure
from aggregator.results.rows import COUNTED, LAWS, SHARES, SUMS, Rows

# Less than this lacks to nobody [kWh].
SHORT_KWH: Final = 0.1
# Share of the energy wanted that was aboard, in classes of a twentieth; the last one is all of it.
CLASSES: Final = 20
DEPARTED: Final = (
    "stays", "left_short", "owed_short", "wanted_kwh", "owed_kwh", "left_short_kwh", "owed_short_kwh",
)  # fmt: skip
WORN: Final = (
    *(f"{law}_{share}_frac" for law in LAWS for share in SHARES),
    *(f"{law}_{what}" for law in LAWS for what in ("cost", "marginal_cost")),
)


@dataclass
class Summary:
    """Running sums over stays."""

    stays: int = 0
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys((*SUMS, "cycles", "rainflow_cycles"), 0.0))
    worn: dict[str, float] = field(default_factory=lambda: dict.fromkeys(WORN, 0.0))
    soc_min_frac: float = 1.0
    soc_max_frac: float = 0.0
    reasons: dict[str, float] = field(default_factory=dict)  # of what was short, by reason [kWh]
    departures: dict[str, dict[str, float]] = field(default_factory=dict)
    worst_kwh: float = 0.0
    satisfied: Any = field(default_factory=lambda: np.zeros(CLASSES + 1, np.int64))

    def add(self, rows: Rows) -> None:
        """More stays that are over. rows : STAYED[k]"""
        self.stays += int(rows.size)
        for sums in (self.sums, self.worn):
            for name in sums:
                sums[name] += float(rows[name].sum())
        self.soc_min_frac = min(self.soc_min_frac, float(rows["soc_min_frac"].min()))
        self.soc_max_frac = max(self.soc_max_frac, float(rows["soc_max_frac"].max()))
        for reason in np.unique(rows["reason"]):
            kwh = float(rows["short_kwh"][rows["reason"] == reason].sum())
            if kwh > ROUNDING_KWH:
                self.reasons[reason.decode()] = self.reasons.get(reason.decode(), 0.0) + kwh
        self._depart(rows)

    def _depart(self, rows: Rows) -> None:
        for how in Departure:
            those = rows[rows["departure"] == how.encode()]
            if not those.size:
                continue
            found = self.departures.setdefault(how.value, dict.fromkeys(DEPARTED, 0))
            short, owed = those["left_short_kwh"], those["owed_short_kwh"]
            found["stays"] += int(those.size)
            found["left_short"] += int(np.count_nonzero(short > SHORT_KWH))
            found["owed_short"] += int(np.count_nonzero(owed > SHORT_KWH))
            for name in DEPARTED[3:]:
                found[name] += float(those[name].sum())
            self.worst_kwh = max(self.worst_kwh, float(short.max()))
        told = rows[(rows["told_ns"] > 0) & rows["ended"] & (rows["wanted_kwh"] > 0)]
        share = np.minimum(told["had_kwh"] / told["wanted_kwh"], 1.0)
        whole = told["left_short_kwh"] <= SHORT_KWH
        places = np.where(whole, CLASSES, np.minimum((share * CLASSES).astype(np.int64), CLASSES - 1))
        self.satisfied += np.bincount(places, minlength=CLASSES + 1)

    def told(self, price: float, currency: str) -> dict[str, Any]:
        """JSON-ready."""
        sums = {name: round(value) if name in COUNTED else value for name, value in self.sums.items()}
        return {
            "vehicles": {
                "stays": self.stays, **sums, "throughput_kwh": sums["energy_up_kwh"] + sums["energy_down_kwh"],
                "short_by_reason_kwh": dict(self.reasons),
            },
            "drivers": self._drivers(),
            "wear": wear.told(self.worn, price, currency),
        }  # fmt: skip

    def _drivers(self) -> dict[str, Any]:
        kinds = {how: dict(found) for how, found in self.departures.items()}
        gone = [found for how, found in kinds.items() if how != Departure.HERE]

        def total(name: str) -> Any:
            return sum(found.get(name, 0) for found in gone)

        return {
            "left": total("stays"),
            "still_here": kinds.get(Departure.HERE, {}).get("stays", 0),
            "left_short": total("left_short"),
            "left_short_kwh": float(total("left_short_kwh")),
            "worst_short_kwh": self.worst_kwh,
            "owed_short": total("owed_short"),
            "owed_short_kwh": float(total("owed_short_kwh")),
            "by_departure": kinds,
            "satisfied": {
                "from_frac": [k / CLASSES for k in range(CLASSES + 1)], "stays": self.satisfied.tolist(),
            },
        }  # fmt: skip
