"""The page of a run: it stands alone, says what it shows in words and tables, and trusts no name."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import orjson
import pytest

from aggregator.backtesting import recorded_gate, run
from aggregator.contracts import Contract, CoreSettings
from aggregator.results import html
from aggregator.wanted import Wanted
from droop.products import load
from telemetry.traces import open_trace


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A run with a gap, zeros and a shortfall, whose product has a hostile name."""
    base = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(1)
    hz = 50 + 0.05 * np.convolve(rng.normal(0, 1, 3699), np.ones(100) / 10, "valid")
    times = np.datetime64("2026-06-22T21:30:00") + np.arange(3600)
    rows = [f"{str(t).replace('T', ' ')},{value:.3f}" for t, value in zip(times, hz, strict=True)]
    rows[300:330] = [row.split(",")[0] + ",0.000" for row in rows[300:330]]
    del rows[1000:1400]
    path = base / "day.csv"
    path.write_text("\n".join(["dtm,f", *rows]) + "\n", encoding="utf-8")
    product = replace(load("ce_fcr"), id="<script>alert(1)</script>")
    settings = CoreSettings("ce", 10, (Contract(product, 120.0),))
    found = run(Wanted([open_trace(path)], settings, recorded_gate(50.0), seed=1), out=base / "out")
    return base / "out", found, (base / "out" / "report.html").read_text(encoding="utf-8")


def test_the_page_stands_alone_and_trusts_no_name(written):
    _, _, page = written
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", page)
    assert "@import" not in page
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_it_can_be_read_by_everyone(written):
    _, _, page = written
    assert "<html lang=en>" in page
    assert "name=viewport" in page
    assert "prefers-color-scheme:dark" in page
    figures = re.findall(r"<figure role=img aria-label='([^']+)'", page)
    assert len(figures) >= 7
    assert all(len(told) > 20 for told in figures)
    assert page.count("<caption>") >= 7
    assert page.count("scope=col") > 30


def test_everything_the_run_has_to_say_is_on_it(written):
    _, found, page = written
    for title in ("Score and income by day", "Energy by day", "Not served, by reason", "State of charge", "Departures",
                  "Wear", "Worst blocks", "The trace", "In sum"):  # fmt: skip
        assert f"<h2>{title}</h2>" in page
    (gap,) = found["trace"]["gaps"]["listed"]
    assert gap["missing_s"] == 400.0
    assert gap["start"] in page
    assert gap["end"] in page
    assert found["trace"]["rejected"] == {"zero": 30}
    (zeros,) = found["trace"]["stretches"]
    assert zeros["start"] in page
    assert "[M]" in page
    for reason in found["unserved_by_reason"]:
        assert reason.replace("_", " ") in page


def test_a_gap_invents_no_energy(written):
    """What was asked is what the rows that came asked for, and no more than was held for after them."""
    out, found, _ = written
    assert found["gap_s"] == 400.0
    days = found["days"]
    assert sum(day["gap_s"] for day in days) == 400.0
    assert sum(day["gaps"] for day in days) == 1
    assert sum(day["rejected"].get("zero", 0) for day in days) == 30
    covered_s = sum(day["covered_s"] for day in days)
    assert 3600 - 400 - 30 - 5 < covered_s < 3600 - 400  # of the rows refused some seconds are held over
    assert orjson.loads((out / "result.json").read_bytes())["days"] == days


def test_a_long_table_says_how_much_it_leaves_out():
    text = html.table("days", ("a", "b"), [(k, 1.0) for k in range(html.ROWS_SHOWN + 7)])
    assert "7 more in the files beside this page" in text
    assert text.count("<tr>") == html.ROWS_SHOWN + 1
    assert html.text(None) == "-"
    assert html.table("x", ("",), [("<b>",)]).count("<b>") == 0
