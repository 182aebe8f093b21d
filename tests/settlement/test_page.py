"""The page on money: its example runs and it leaves no rule out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aggregator.pricefile import CONTRACTS, PRICES, prices
from droop.products import load
from settlement.payment import PENALTIES, RULES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "settlement.md").read_text(encoding="utf-8")


def block(language):
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return found


def test_the_example_runs_and_means_something():
    exec(compile(block("python"), "settlement.md", "exec"), {})  # noqa: S102 - our own text
    with pytest.raises(AssertionError):
        exec(compile(block("python").replace("25.00", "26.00"), "settlement.md", "exec"), {})  # noqa: S102


def test_the_file_of_prices_is_one(tmp_path):
    path = tmp_path / "prices.csv"
    path.write_text(block("csv"), encoding="utf-8")
    book, _ = prices(path, {"gb_dc_low": load("gb_dc_low")})
    assert (book.products, len(book)) == (("gb_dc_low",), 1)


def test_every_rule_and_column_is_named():
    for name in (*RULES, *PENALTIES, *PRICES, *CONTRACTS):
        assert re.search(rf"\b{name}\b", PAGE), name
