"""TOML tables as records: the annotations are the schema, and what does not fit is named by its path."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from droop.tables import TableError, record, table


@dataclass(frozen=True)
class Inner:
    width_hz: float
    rows: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if self.width_hz < 0:
            raise ValueError("field `width_hz` takes a number of 0 or more")


@dataclass(frozen=True)
class Outer:
    name: str
    count: int = 1
    sure: bool = True
    side: Literal["up", "down"] = "up"
    inner: Inner | None = None
    pair: tuple[float, float] = (0.0, 1.0)
    other: Mapping[str, Any] = field(default_factory=dict)


def test_a_whole_table_and_back():
    plain = {
        "name": "a", "count": 3, "sure": False, "side": "down", "inner": {"width_hz": 2, "rows": [[1, 2.5], [3, 4]]},
        "pair": [1, 2], "other": {"fn": "x", "list": [1]},
    }  # fmt: skip
    found = record(Outer, plain)
    assert found == Outer("a", 3, False, "down", Inner(2.0, ((1.0, 2.5), (3.0, 4.0))), (1.0, 2.0), plain["other"])
    assert record(Outer, table(found)) == found


def test_what_is_at_its_default_is_not_written():
    assert table(Outer("a")) == {"name": "a"}


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ({}, "field `name` is missing"),
        ({"name": 1}, "field `name` takes a text"),
        ({"name": "a", "cuont": 1}, "unknown field `cuont`; did you mean `count`?"),
        ({"name": "a", "count": 1.0}, "field `count` takes a whole number"),
        ({"name": "a", "count": True}, "field `count` takes a whole number"),
        ({"name": "a", "sure": 1}, "field `sure` takes true or false"),
        ({"name": "a", "side": "left"}, "field `side` takes one of up, down"),
        ({"name": "a", "inner": 3}, "field `inner` takes a table"),
        ({"name": "a", "inner": {}}, "field `inner.width_hz` is missing"),
        ({"name": "a", "inner": {"width_hz": True}}, "field `inner.width_hz` takes a number"),
        ({"name": "a", "inner": {"width_hz": math.nan}}, "field `inner.width_hz` takes a number"),
        ({"name": "a", "inner": {"width_hz": -1}}, "table `inner`: field `width_hz` takes a number of 0 or more"),
        ({"name": "a", "inner": {"width_hz": 1, "rows": [[1]]}}, "field `inner.rows[0]` takes 2 values, not 1"),
        ({"name": "a", "inner": {"width_hz": 1, "rows": [1]}}, "field `inner.rows[0]` takes a list"),
        ({"name": "a", "inner": {"width_hz": 1, "rows": [["x", 1]]}}, "field `inner.rows[0][0]` takes a number"),
        ({"name": "a", "other": []}, "field `other` takes a table"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(plain, words):
    with pytest.raises(TableError) as refused:
        record(Outer, plain)
    assert str(refused.value) == words
