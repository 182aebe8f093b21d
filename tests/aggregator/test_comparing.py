"""Two runs side by side: what was asked differently by name, every result, and no comparison of unlike runs."""

from __future__ import annotations

import re

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from aggregator import whatif
from aggregator.backtesting import recorded_gate, run
from aggregator.contracts import Contract, CoreSettings
from aggregator.gateways.population import Behaviour
from aggregator.results.comparing import CompareError, compare, load, write
from aggregator.wanted import Wanted
from droop.products import load as product_of
from telemetry.traces import open_trace


def written(path, seconds=2000, seed=1, first=0):
    rng = np.random.default_rng(seed)
    hz = 50 + 0.05 * np.convolve(rng.normal(0, 1, seconds + 99), np.ones(100) / 10, "valid")
    times = np.datetime64("2026-06-22T00:00:00") + first + np.arange(seconds)
    rows = [f"{str(t).replace('T', ' ')},{value:.3f}" for t, value in zip(times, hz, strict=True)]
    path.write_text("\n".join(["dtm,f", *rows]) + "\n", encoding="utf-8")
    return path


def lived(out, path, *, sold_kw=24.0, vehicles=12, band=None, full=None, dead_s=None):
    settings = CoreSettings("ce", vehicles, (Contract(product_of("ce_fcr"), sold_kw),))
    how = whatif.chargers(Behaviour(), dead_s, None)
    run(
        Wanted([open_trace(path)], whatif.sold(settings, band, full), recorded_gate(50.0), seed=1, behaviour=how),
        out=out,
    )
    return load(out)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    base = tmp_path_factory.mktemp("compared")
    day = written(base / "day.csv")
    copy = base / "copy.csv"
    copy.write_bytes(day.read_bytes())
    plain = lived(base / "plain", day)
    return base, plain, lived(base / "wide", copy, band=0.03, full=0.25, dead_s=1.5), lived(base / "again", day)


def test_what_was_changed_is_told_by_name_and_nothing_else(runs):
    _, plain, wide, again = runs
    found = compare(plain, wide)
    assert {row["name"]: (row["a"], row["b"]) for row in found["asked"]} == {
        "settings.contracts.0.product.deadband_hz": (0.01, 0.03),
        "settings.contracts.0.product.curve": ([[-0.2, 1.0], [0.0, 0.0], [0.2, -1.0]],
                                               [[-0.25, 1.0], [0.0, 0.0], [0.25, -1.0]]),
        "fleet.dead_s": ([0.1, 0.8], [1.5, 1.5]),
    }  # fmt: skip
    assert found["notes"] == []
    same = compare(plain, again)
    assert same["asked"] == []
    assert all(row["a"] == row["b"] for row in same["results"])
    assert all(value == 0.0 for row in same["days"] for name, value in row.items() if name.endswith("_difference"))


def test_every_result_stands_with_its_difference_and_ratio(runs):
    _, plain, wide, _ = runs
    rows = {row["name"]: row for row in compare(plain, wide)["results"]}
    for name in ("requested_up_kwh", "throughput_kwh", "vehicles.cycles", "drivers.left_short", "wear.lfp.cost"):
        a, b = plain.result, wide.result
        for part in name.split("."):
            a, b = a[part], b[part]
        assert (rows[name]["a"], rows[name]["b"]) == (a, b)
        assert rows[name]["difference"] == pytest.approx(b - a)
        assert rows[name]["ratio"] == (pytest.approx(b / a) if a else None)
    assert rows["requested_up_kwh"]["b"] < rows["requested_up_kwh"]["a"]
    assert "difference" not in rows["score_note"]


def test_days_are_compared_day_by_day(runs):
    _, plain, wide, _ = runs
    (row,) = compare(plain, wide)["days"]
    (a,), (b,) = plain.result["days"], wide.result["days"]
    assert (row["day"], row["product_a"]) == (a["day"], "ce_fcr")
    assert row["delivered_up_kwh_difference"] == pytest.approx(b["delivered_up_kwh"] - a["delivered_up_kwh"])
    assert (row["score_a"], row["score_b"]) == (a["score"], b["score"])


@pytest.mark.parametrize(("how", "why"), [({"seed": 2}, "another trace"), ({"seconds": 1900}, "another span")])
def test_unlike_runs_are_refused_by_name_unless_told_otherwise(runs, tmp_path, how, why):
    _, plain, _, _ = runs
    other = lived(tmp_path / "other", written(tmp_path / "other.csv", **how))
    with pytest.raises(CompareError, match=f"other: of .*{why}.* than plain.*--any"):
        compare(plain, other)
    found = compare(plain, other, anyway=True)
    assert why in found["notes"]
    assert found["results"]


def test_the_folder_holds_the_comparison_and_a_page_that_stands_alone(runs, tmp_path):
    _, plain, wide, _ = runs
    found = compare(plain, wide)
    write(tmp_path / "out", plain, wide, found)
    assert orjson.loads((tmp_path / "out" / "compare.json").read_bytes()) == found
    assert pq.read_table(tmp_path / "out" / "days.parquet").num_rows == 1
    html = (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", html)
    for text in ("deadband_hz", "Asked differently", "difference", "Score by day"):
        assert text in html
    (tmp_path / "file").touch()
    with pytest.raises(CompareError, match="--out"):
        write(tmp_path / "file", plain, wide, found)


def test_what_is_no_run_is_refused_with_the_remedy(runs, tmp_path):
    base, *_ = runs
    with pytest.raises(CompareError, match=r"no result\.json.*flyball backtest"):
        load(tmp_path)
    for name in ("result.json", "settings.json"):
        (tmp_path / name).write_bytes((base / "plain" / name).read_bytes())
    assert load(tmp_path).result["samples"] == 2000
    (tmp_path / "settings.json").write_text("{", encoding="utf-8")
    with pytest.raises(CompareError, match=r"settings\.json: not JSON"):
        load(tmp_path)
    (tmp_path / "settings.json").write_text("[]", encoding="utf-8")
    with pytest.raises(CompareError, match="not the result of a run"):
        load(tmp_path)
    (tmp_path / "settings.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CompareError, match="older version"):
        load(tmp_path)
