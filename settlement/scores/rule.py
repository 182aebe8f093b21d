"""What a scoring rule is given, what it answers, and how it reads its parameters from a product's table.

This file knows shapes only: no market. A rule is a pure function over arrays on a regular grid; what stands here lets
the statement find out which grid a rule wants, and lets a product's file set the rule's figures.

Two masks tell apart what is missing. `asked` marks cells whose expected power is known: where it is not, nobody can
say what was owed, and the cell is left out. `given` marks cells whose delivery is known: where it is not, each rule
says how the cell counts against the seller, for a silent meter must never pay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from droop.products import Product
from settlement.align import Bools, Floats

Kpis = dict[str, float | bool | None]
ROUNDING: Final = 1e-9  # of the capacity: what lies on an edge is inside


class ScoreError(ValueError):
    """A scoring rule that cannot be applied; the message names the product, the field and the remedy."""


class Delivery(NamedTuple):
    """What a rule judges, on a regular grid.

    net_kw    : float64[n]  delivered, this product's part; NaN where unknown
    target_kw : float64[n]  expected, known everywhere (what could not be known was held, then 0)
    dev_hz    : float64[n]  frequency minus nominal; NaN where unknown
    sold_kw   : float
    valid     : bool[n]     cells of the interval in which everything is known
    step_s    : float
    asked, given : bool[n]  expected power known; delivery known; history and sequel included (None: all, `valid`)
    set_point_kw : float64[n]  of a product on a signal whose `target_kw` is the slowest way after it; None: the same
    first, last  : cells [first, last) are the interval, as far as it is computed; before it history, after it sequel
    """

    net_kw: Floats
    target_kw: Floats
    dev_hz: Floats
    sold_kw: float
    valid: Bools
    step_s: float
    asked: Bools | None = None
    given: Bools | None = None
    first: int = 0
    last: int | None = None
    set_point_kw: Floats | None = None

    @property
    def inside(self) -> slice:
        """The cells of the interval."""
        return slice(self.first, self.net_kw.size if self.last is None else self.last)

    @property
    def asked_known(self) -> Bools:
        """bool[n]  cells in which it is known what was owed."""
        return np.ones(self.net_kw.size, np.bool_) if self.asked is None else self.asked

    @property
    def given_known(self) -> Bools:
        """bool[n]  cells in which it is known what was delivered."""
        return (self.valid if self.given is None else self.given) & ~np.isnan(self.net_kw)

    @property
    def asked_or_nan(self) -> Floats:
        """float64[n]  what was owed, NaN where it is unknown."""
        return np.where(self.asked_known, self.target_kw, np.nan)

    @property
    def given_or_nan(self) -> Floats:
        """float64[n]  the delivery, NaN where it is unknown."""
        return np.where(self.given_known, self.net_kw, np.nan)

    @property
    def wanted_kw(self) -> Floats:
        """float64[n]  the set point itself."""
        return self.target_kw if self.set_point_kw is None else self.set_point_kw

    def given_kw(self) -> Floats:
        """float64[n]  the delivery, 0 where it is unknown."""
        return np.where(self.given_known, self.net_kw, 0.0)


class Verdict(NamedTuple):
    """A score in 0..1 or none, why, and the rule's own indicators."""

    score: float | None
    note: str
    kpis: Kpis


def unmeasured(kpis: Kpis | None = None) -> Verdict:
    """The verdict where no meter spoke."""
    return Verdict(None, "no telemetry: nothing was measured in this interval", kpis or {})


class Reach(NamedTuple):
    """The grid a rule wants.

    step_s  : length of a cell as the market judges
    lead_s  : history before the interval
    tail_s  : sequel after it: an answer that the rule still awaits
    follows : whether coarser data are judged on coarser cells, which the note then says; else cells hold what is there
    """

    step_s: float = 1.0
    lead_s: int = 32
    tail_s: int = 0
    follows: bool = False


class Rule(NamedTuple):
    """A rule by its two functions."""

    judge: Callable[[Delivery, Product], Verdict]
    reach: Callable[[Product], Reach]


class Params:
    """A product's table `score`, read figure by figure; ScoreError names the field."""

    def __init__(self, product: Product) -> None:
        self.product = product.id
        self.table = product.score

    def _refuse(self, name: str, takes: str) -> ScoreError:
        return ScoreError(f"{self.product}: field `score.{name}` takes {takes}, not {self.table[name]!r}")

    def number(self, name: str, default: float, least: float = 0.0, most: float = math.inf) -> float:
        """A finite number within [least, most]."""
        if name not in self.table:
            return default
        value = _finite(self.table[name])
        if value is None or not least <= value <= most:
            raise self._refuse(name, f"a number of {least:g} to {most:g}" if most < math.inf else f"{least:g} or more")
        return value

    def pair(self, name: str, default: tuple[float, float]) -> tuple[float, float]:
        """Two ascending numbers of 0 or more."""
        if name not in self.table:
            return default
        value = self.table[name]
        found = [_finite(part) for part in value] if isinstance(value, Sequence) else []
        if len(found) != 2 or found[0] is None or found[1] is None or not 0.0 <= found[0] <= found[1]:
            raise self._refuse(name, "two ascending numbers of 0 or more")
        return found[0], found[1]

    def numbers(self, name: str, default: tuple[float, ...]) -> tuple[float, ...]:
        """As many finite numbers as the default has."""
        if name not in self.table:
            return default
        value = self.table[name]
        found = [_finite(part) for part in value] if isinstance(value, Sequence) else []
        known = tuple(part for part in found if part is not None)
        if len(found) != len(default) or len(known) != len(default):
            raise self._refuse(name, f"{len(default)} numbers")
        return known

    def text(self, name: str, *choices: str) -> str:
        """One of `choices`, the first if nothing is said."""
        value = self.table.get(name, choices[0])
        if value not in choices:
            raise self._refuse(name, f"one of {', '.join(choices)}")
        return str(value)

    def flag(self, name: str) -> bool:
        """True or false, false if nothing is said."""
        value = self.table.get(name, False)
        if not isinstance(value, bool):
            raise self._refuse(name, "true or false")
        return value

    def rows(self, name: str, width: int, default: Sequence[tuple[float, ...]]) -> list[tuple[float, ...]]:
        """Rows of `width` numbers each, at least one."""
        if name not in self.table:
            return list(default)
        value = self.table[name]
        rows: list[tuple[float, ...]] = []
        for row in value if isinstance(value, Sequence) and value else [None]:
            found = [_finite(part) for part in row] if isinstance(row, Sequence) else []
            known = tuple(part for part in found if part is not None)
            if len(found) != width or len(known) != width:
                raise self._refuse(name, f"rows of {width} numbers")
            rows.append(known)
        return rows


def _finite(value: Any) -> float | None:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if fits else None


def sign(product: Product) -> float:
    """Towards where a product of one direction delivers: 1 into the grid, -1 out of it. Raises ScoreError."""
    if product.direction == "symmetric":
        raise ScoreError(f"{product.id}: field `direction` must be up or down for rule `{product.score.get('fn')}`")
    return 1.0 if product.direction == "up" else -1.0


def coarse(step_s: float, market_s: float) -> str:
    """What a note adds where the data are coarser than the market's."""
    return f"; judged at {step_s:g} s, the market judges at {market_s:g} s" if step_s > market_s * 1.001 else ""


def cells(span_s: float, step_s: float, *, up: bool = False) -> int:
    """Whole cells in a span: as many as it holds, or `up` as many as it takes."""
    count = span_s / step_s
    return math.ceil(count - 1e-9) if up else math.floor(count + 1e-9)


def clamp(value: float) -> float:
    """Within 0..1."""
    return min(1.0, max(0.0, value))


def mean_or_none(values: Floats) -> float | None:
    """Mean of what is known; None where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None
