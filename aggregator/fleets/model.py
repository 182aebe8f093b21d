"""How drivers behave, as tables that were fitted to sessions: the file of a generator, and its built-in one.

A quantile table holds values at evenly spaced probabilities from 0 to 1; between them the distribution is taken for
linear. The file is TOML, so that it can be read and edited; what cannot be true is refused by field.
"""

from __future__ import annotations

import itertools
import math
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from aggregator.fleets.errors import FleetError
from droop.tables import TableError, record
from telemetry.traces.stamps import zone_of

FORMAT: Final = 1
WEEK_H: Final = 168
# Stays are told apart by when they begin: three hours of a working day, or of a weekend's.
GROUPS: Final = 16
GROUP_H: Final = 3
Quantiles = tuple[float, ...]


@dataclass(frozen=True)
class Model:
    """Arrivals, stays, energies and what drivers say.

    zone             : of the clock that hours are meant by
    per_charger_week : stays that one charger sees in a week
    hour_of_week     : share of the arrivals in each hour, from Monday 0 h on; they sum to 1
    stay_h           : quantiles of the stay by group of arrival hours (`group_of`) [h]
    stay_edges_h     : edges between classes of stays [h]; energy_kwh : quantiles by class [kWh]
    most_kw          : highest mean power of a stay [kW]
    soc_frac         : quantiles of the state of charge at arrival
    told_frac        : share of drivers who give a departure; told_ratio : quantiles of the stay told over the true one
    asked_frac       : share who ask for an energy; asked_ratio : quantiles of it over what was charged
    leave_missing_frac : share of sessions without an end; for the record
    """

    zone: str
    per_charger_week: float
    hour_of_week: tuple[float, ...]
    stay_h: tuple[Quantiles, ...]
    stay_edges_h: tuple[float, ...]
    energy_kwh: tuple[Quantiles, ...]
    most_kw: float
    soc_frac: Quantiles
    told_frac: float = 0.0
    told_ratio: Quantiles = (1.0, 1.0)
    asked_frac: float = 0.0
    asked_ratio: Quantiles = (1.0, 1.0)
    leave_missing_frac: float = 0.0
    sessions: int = 0
    source: str = ""

    def __post_init__(self) -> None:
        try:
            zone_of(self.zone)
        except ValueError as error:
            raise TableError(f"field `zone`: {error}") from None
        if not 0.0 < self.per_charger_week <= 1000.0:
            raise TableError("field `per_charger_week` takes a number above 0, at most 1000")
        shares = self.hour_of_week
        if len(shares) != WEEK_H or min(shares) < 0.0 or not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
            raise TableError(f"field `hour_of_week` takes {WEEK_H} shares that sum to 1")
        if len(self.stay_h) != GROUPS:
            raise TableError(f"field `stay_h` takes {GROUPS} tables")
        if len(self.energy_kwh) != len(self.stay_edges_h) + 1 or list(self.stay_edges_h) != sorted(self.stay_edges_h):
            raise TableError("field `energy_kwh` takes a table more than `stay_edges_h` has edges, and these rise")
        if not 0.0 < self.most_kw < math.inf:
            raise TableError("field `most_kw` takes a number above 0")
        for name, tables, low, high in (
            ("stay_h", self.stay_h, 1e-3, 744.0), ("energy_kwh", self.energy_kwh, 0.0, 2000.0),
            ("soc_frac", (self.soc_frac,), 0.0, 1.0), ("told_ratio", (self.told_ratio,), -1e6, 1e6),
            ("asked_ratio", (self.asked_ratio,), 0.0, 1e6),
        ):  # fmt: skip
            for table in tables:
                _check(name, table, low, high)
        for name in ("told_frac", "asked_frac", "leave_missing_frac"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise TableError(f"field `{name}` takes a share from 0 to 1")


def _check(name: str, table: Quantiles, low: float, high: float) -> None:
    if len(table) < 2 or any(not low <= value <= high for value in table):
        raise TableError(f"field `{name}` takes tables of two values or more, from {low:g} to {high:g}")
    if any(a > b for a, b in itertools.pairwise(table)):
        raise TableError(f"field `{name}`: a table of quantiles falls; they rise, or stay")


def group_of(hour_of_week: Any) -> Any:
    """Which table of stays an arrival belongs to. hour_of_week : whole hours since Monday 0 h"""
    hour = np.asarray(hour_of_week)
    return np.where(hour >= 5 * 24, GROUPS // 2, 0) + hour % 24 // GROUP_H


def write(path: Path, model: Model) -> None:
    """The model as a TOML file. Raises OSError."""
    lines = ["# Drivers as fitted by `flyball fleet fit`; `flyball backtest --fleet` takes this file.", "[model]"]
    lines.append(f"format = {FORMAT}")
    for name, value in asdict(model).items():
        lines.append(f"{name} = {_toml(value)}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        if value and isinstance(value[0], (tuple, list)):
            return "[\n" + "".join(f"  {_toml(row)},\n" for row in value) + "]"
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, str):
        escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\u{ord(c):04x}" for c in value)
        return f'"{escaped}"'
    return repr(float(value)) if isinstance(value, float) else repr(value)


def read(path: Path) -> Model:
    """The model of a file. Raises FleetError."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FleetError(f"{path}: no fleet model ({error}); `flyball fleet fit` writes one") from None
    found = table.get("model")
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise FleetError(f"{path}: table `model` with `format = {FORMAT}` is missing; `flyball fleet fit` writes one")
    try:
        return record(Model, {name: value for name, value in found.items() if name != "format"}, "model.")
    except TableError as error:
        raise FleetError(f"{path}: {error}") from None


def builtin() -> Model:
    """Drivers of a mixed fleet: home chargers in the evening, workplaces in the morning, shops in between.

    Round figures from memory, a parameter and no statistics: fit a model to sessions of one's own.
    """
    shares = [_arrivals(hour) for hour in range(WEEK_H)]
    total = sum(shares)
    stays = []
    for group in range(GROUPS):
        hour = group % (GROUPS // 2) * GROUP_H + GROUP_H / 2
        # Until about seven in the morning for who comes in the evening, a working day for who comes in the morning.
        middle = (31.0 - hour) % 24.0 if hour >= 15 else (8.0 if 6 <= hour < 12 and group < GROUPS // 2 else 3.0)
        stays.append(tuple(middle * factor for factor in (0.1, 0.4, 0.75, 0.9, 1.0, 1.1, 1.3, 1.8, 4.0)))
    return Model(
        "UTC", 7.0, tuple(share / total for share in shares), tuple(stays), (2.0, 6.0, 12.0),
        ((0.5, 3.0, 6.0, 10.0, 20.0), (1.0, 5.0, 9.0, 15.0, 30.0), (1.5, 6.0, 11.0, 19.0, 45.0),
         (2.0, 7.0, 13.0, 22.0, 60.0)),
        22.0, (0.05, 0.25, 0.4, 0.55, 0.7, 0.95), told_frac=0.85,
        told_ratio=(0.5, 0.85, 1.0, 1.0, 1.0, 1.0, 1.0, 1.1, 1.5), source="built-in",
    )  # fmt: skip


def _arrivals(hour_of_week: int) -> float:
    hour, weekend = hour_of_week % 24, hour_of_week >= 120
    evening = math.exp(-(((hour - 17.5) / 2.5) ** 2))
    morning = 0.0 if weekend else 0.8 * math.exp(-(((hour - 8.0) / 1.2) ** 2))
    return 0.03 + evening + morning + 0.3 * math.exp(-(((hour - 12.5) / 3.0) ** 2))
