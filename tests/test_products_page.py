"""The page of products is the catalogue: every row of its table, and the examples in its text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from droop.products import catalogue, load

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "products.md").read_text(encoding="utf-8")
HEAD = ["id", "title", "area", "Hz", "direction", "answers to", "valid", "confidence"]


def rows():
    found = {}
    for line in PAGE.splitlines():
        if re.match(r"\| `\w+` \|", line):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert len(cells) == len(HEAD)
            assert cells[0] not in found
            found[cells[0].strip("`")] = dict(zip(HEAD, cells, strict=True))
    return found


def test_every_product_has_a_row_and_every_row_a_product():
    assert sorted(rows()) == sorted(catalogue())


@pytest.mark.parametrize("product", catalogue().values(), ids=catalogue())
def test_a_row_says_what_the_file_says(product):
    row = rows()[product.id]
    assert (row["title"], row["area"], row["direction"]) == (product.title, product.area, product.direction)
    assert float(row["Hz"]) == product.nominal_hz
    kind = "signal" if product.input == "signal" else "threshold" if product.trigger else "frequency"
    assert row["answers to"].split(",")[0] == kind
    assert kind != "signal" or row["answers to"] == f"signal, {product.signal_s:g} s"
    dates = re.findall(r"(from|until) (\S+)", row["valid"])
    assert dict(dates) == {
        word: day for word, day in (("from", product.effective_from), ("until", product.effective_to)) if day
    }  # fmt: skip
    assert bool(dates) != (row["valid"] == "open")
    whole, _, others = row["confidence"].partition(" ")
    assert whole == product.confidence
    assert set(re.findall(r"\w+", others)) == set(product.marks.values()) - {product.confidence}


def test_the_names_of_the_text_lead_where_it_says():
    found = re.findall(r"`([^`]+)`\s+to\s+`([^`]+)`", PAGE)
    assert len(found) >= 4
    for name, leads_to in found:
        assert load(name).id == leads_to
