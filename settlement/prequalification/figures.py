"""The figures of a test that a product's file may set: its table `prequalification`, read figure by figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from droop.products import Product
from settlement.prequalification.plan import PrequalificationError


class Figures:
    """One table; PrequalificationError names the product and the field."""

    def __init__(
        self, product: Product, table: Mapping[str, Any] | None = None, where: str = "prequalification"
    ) -> None:
        self.table = product.prequalification if table is None else table
        self._product, self._where = product, where

    def number(self, name: str, default: float) -> float:
        """A finite number of 0 or more."""
        value = self.table.get(name, default)
        if not _counts(value):
            raise self._refused(name, "a number of 0 or more", value)
        return float(value)

    def numbers(self, name: str, default: Sequence[float]) -> tuple[float, ...]:
        """At least one finite number, all above 0."""
        value = self.table.get(name, default)
        if not isinstance(value, Sequence) or not value or not all(_counts(item) and item > 0 for item in value):
            raise self._refused(name, "numbers above 0", value)
        return tuple(float(item) for item in value)

    def within(self, name: str) -> Figures:
        """A table in this one; empty where there is none."""
        value = self.table.get(name, {})
        if not isinstance(value, Mapping):
            raise self._refused(name, "a table", value)
        return Figures(self._product, value, f"{self._where}.{name}")

    def _refused(self, name: str, takes: str, value: object) -> PrequalificationError:
        return PrequalificationError(f"{self._product.id}: field `{self._where}.{name}` takes {takes}, not {value!r}")


def _counts(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value) and value >= 0
