"""One product, one interval, sealed: what was sold, asked, delivered, and from which rows each number came.

This file knows the record, its JSON form and how to check it; `settlement.interval` computes it. A statement carries
the digests of the rows it was computed from and everything else needed to compute it again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Final

from settlement.align import NS
from settlement.balance import EnergyBalance

VERSION: Final = 3
READABLE: Final = (1, 2, 3)  # version 1 knew neither late history nor corrections
# What a version before did not state: nothing of it can differ.
ADDED: Final = {3: ("state_of_energy", "modes", "accuracy")}
TOLERANCE: Final = 1e-9  # relative, for another machine's sums


class StatementError(ValueError):
    """A statement that cannot be read; the message names the field and the remedy."""


class VerifyError(StatementError):
    """A statement that its rows do not bear out; `field` names the first number that differs."""

    def __init__(self, key: str, name: str, stated: object, found: object) -> None:
        super().__init__(f"statement {key}: field `{name}` states {stated!r}, its rows give {found!r}")
        self.field, self.stated, self.found = name, stated, found


@dataclass(frozen=True)
class Used:
    """Rows a statement was computed from, the lead-in before the interval included."""

    count: int
    first_t_ns: int | None
    last_t_ns: int | None
    sha256: str


@dataclass(frozen=True)
class BaselineUsed:
    """The declared baseline of the interval."""

    mean_kw: float | None  # time-weighted; None where nothing was declared
    declared_ns: int | None  # when the latest row that counts was declared
    rows: int
    late: bool  # the first of a run, declared after its start: counts from its declaration on
    refused: int  # declared after the fact
    sha256: str


@dataclass(frozen=True)
class HistoryUsed:
    """Late history that fills gaps of the frequency (`settlement.history`)."""

    rows: int = 0  # that fill a gap
    seconds: float = 0.0  # of the interval, in which the frequency is known by them alone
    through: str = ""  # "epoch-seq" of the newest entry of late history among them, lead-in included


@dataclass(frozen=True)
class StateOfEnergy:
    """Whether an interval began with the energy that the market asks for then (`settlement.soe`)."""

    up_kwh: float | None  # that the fleet could give at the start; None: not on record
    down_kwh: float | None  # that it could take
    least_up_kwh: float  # what had to be there, after what was delivered before
    least_down_kwh: float
    available: bool | None  # None: not judged, the note says why
    note: str
    sha256: str  # of the rows it rests on: energies, meters, baseline


@dataclass(frozen=True)
class Accuracy:
    """How far the sum of the meters can be wrong over the interval (`settlement.metering.budget`)."""

    error_kw: float | None  # None: unknown, the note says why
    error_frac: float | None  # of the magnitudes read
    limit_frac: float | None  # the product's own; None: it names none
    precise: bool | None  # within it; None: one of the two is not known
    note: str


@dataclass(frozen=True)
class Statement:
    """All figures of one product over one interval. Positive power is into the grid; energies are 0 or more."""

    product: str
    start_ns: int
    end_ns: int
    until_ns: int  # computed up to here; end_ns once the interval is complete
    final: bool
    sold_kw: float
    stack: Mapping[str, float]  # everything sold on this fleet, this product included
    samples: Used
    meters: Used
    signal: Used
    baseline: BaselineUsed
    requested_up_kwh: float
    requested_down_kwh: float
    delivered_up_kwh: float
    delivered_down_kwh: float
    mileage: float  # sum of |change| of the expected power, in units of the power sold
    coverage_frac: float  # share of the time in which frequency, meter and baseline are all known
    coverage: Mapping[str, float]  # each of them alone
    score: float | None
    score_note: str
    kpis: Mapping[str, float | bool | None]
    unserved_kwh: Mapping[str, float]  # by reason, this product's part
    energy_balance: EnergyBalance  # of the whole fleet
    notes: tuple[str, ...] = ()
    history: HistoryUsed = field(default_factory=HistoryUsed)
    revision: int = 0  # 0: the first; a correction is a new statement with the next number, the old one stays
    version: int = field(default=VERSION)
    accuracy: Accuracy | None = None
    modes: Used | None = None  # what the product's energy rules had turned on; None: nothing is on record
    state_of_energy: StateOfEnergy | None = None  # of the whole fleet; None: no product sold asks for one

    @property
    def key(self) -> str:
        """Identity of what is stated: an interval and a product; of several statements the newest revision counts."""
        return f"{self.start_ns}:{self.product}"

    @property
    def partial(self) -> bool:
        """Whether part of the interval is not covered."""
        return self.until_ns < self.end_ns or self.coverage_frac < 1.0 - TOLERANCE

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, no NaN; times both as ns and as ISO 8601."""
        plain = asdict(self)
        plain["notes"] = list(self.notes)
        return {"key": self.key, "start": iso(self.start_ns), "end": iso(self.end_ns), "partial": self.partial} | plain


def iso(t_ns: int) -> str:
    """ISO 8601 in UTC, to the microsecond where there is a fraction."""
    whole, rest_ns = divmod(t_ns, NS)
    moment = datetime.fromtimestamp(whole, UTC).replace(microsecond=rest_ns // 1000)
    return moment.isoformat().replace("+00:00", "Z")


def from_dict(plain: Mapping[str, Any]) -> Statement:
    """The statement that `to_dict` wrote; StatementError names a field that is missing or has the wrong shape."""
    if plain.get("version") not in READABLE:
        raise StatementError(f"field `version` is {plain.get('version')!r}; this reader knows {VERSION}")
    values: dict[str, Any] = {}
    for item in fields(Statement):
        if item.name in plain:
            values[item.name] = plain[item.name]
        elif plain["version"] == VERSION or item.default_factory is MISSING is item.default:
            raise StatementError(f"field `{item.name}` is missing")
    shapes = {
        "samples": Used,
        "meters": Used,
        "signal": Used,
        "baseline": BaselineUsed,
        "energy_balance": EnergyBalance,
        "history": HistoryUsed,
        "state_of_energy": StateOfEnergy,
        "modes": Used,
        "accuracy": Accuracy,
    }
    for name, shape in shapes.items():
        if values.get(name) is None:
            continue
        try:
            values[name] = shape(**values[name])
        except TypeError as error:
            raise StatementError(f"field `{name}`: {error}") from error
    values["notes"] = tuple(values["notes"])
    return Statement(**values)


def differing(stated: Statement, found: Statement) -> tuple[str, object, object] | None:
    """First field that differs beyond rounding, digests first: (name, stated, found)."""
    left, right = _flat(stated.to_dict()), _flat(found.to_dict())
    unsaid = tuple(name for version, added in ADDED.items() if stated.version < version for name in added)
    names = sorted(
        (name for name in left.keys() | right.keys() if name.partition(".")[0] not in unsaid),
        key=lambda name: (not name.endswith("sha256"), name),
    )
    for name in names:
        a, b = left.get(name), right.get(name)
        if not _same(a, b):
            return name, a, b
    return None


def _flat(plain: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in plain.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _same(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return a == b
