"""Recorded traces: the readers give the figures their README states, the gate marks what is known to be wrong.

The files are not part of the repository: FLYBALL_DATA, or `shared/data` beside it.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from telemetry.quality import Gate, GateSettings
from telemetry.samples import Quality
from telemetry.traces import UnknownFormat, inspect, open_trace, recognise

DATA = Path(os.environ.get("FLYBALL_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
FREQUENCY_DATA = DATA / "frequency"

pytestmark = pytest.mark.skipif(not FREQUENCY_DATA.is_dir(), reason=f"no recorded traces in {FREQUENCY_DATA}")

EASTERN = {"start": "2022-08-28T00:00:00-04:00", "step_s": 2.0}
DAY = "gb_neso_1s/f_2026-06-{}.csv.gz"

# file, options, format, nominal, rows, period, start, min, max, std: data README, "checked"
FILES = [
    (DAY.format(22), {}, "neso", 50, 86_400, 1.0, "2026-06-22T00:00:00Z", 49.762, 50.208, 0.083),
    (DAY.format(23), {}, "neso", 50, 86_400, 1.0, "2026-06-23T00:00:00Z", 49.657, 50.181, 0.091),
    (DAY.format(24), {}, "neso", 50, 86_400, 1.0, "2026-06-24T00:00:00Z", 49.749, 50.234, 0.078),
    ("gb_1min_2017/TestData.csv", {}, "neso", 50, 12_960, 60.0, "2017-10-01T00:00:00Z", 49.701, 50.265, 0.067),
    ("ce_1s/2022-09-17.csv.gz", {}, "table", 50, 86_400, 1.0, "2022-09-17T00:00:00Z", 49.9296, 50.0785, 0.0194),
    *(
        (f"us_eastern_2s/{day}_2022.csv", EASTERN, "index_hz", 60, 43_200, 2.0, "2022-08-28T04:00:00Z", *figures)
        for day, figures in {
            "August_28": (59.6789, 60.0378, 0.019),
            "November_28": (59.9380, 60.0352, 0.016),
            "November_29": (59.9122, 60.0384, 0.019),
            "September_12": (59.9346, 60.0385, 0.016),
            "September_13": (59.9382, 60.0377, 0.015),
            "September_14": (59.9415, 60.0399, 0.017),
        }.items()
    ),
]


@pytest.mark.parametrize(
    ("name", "options", "form", "nominal_hz", "rows", "period_s", "start", "low", "high", "std"), FILES
)
def test_the_published_days_read_as_their_readme_says(
    name, options, form, nominal_hz, rows, period_s, start, low, high, std
):
    report = inspect(open_trace(FREQUENCY_DATA / name, **options))
    assert (report.format, report.nominal_hz, report.rows, report.period_s) == (form, nominal_hz, rows, period_s)
    assert (report.start, report.rejected, report.duplicates, report.gaps.count) == (start, {}, 0, 0)
    assert report.hz.min == pytest.approx(low, abs=6e-5)
    assert report.hz.max == pytest.approx(high, abs=6e-5)
    assert report.hz.std == pytest.approx(std, abs=6e-4)


@pytest.mark.parametrize(("name", "options"), [row[:2] for row in FILES])
def test_of_the_published_days_the_gate_marks_one_artefact_only(name, options):
    trace = open_trace(FREQUENCY_DATA / name, **options)
    gate = Gate(GateSettings(nominal_hz=trace.nominal_hz))
    quality = np.concatenate([gate.check(block)["quality"] for block in trace])
    marked = np.flatnonzero(quality).tolist()
    if "August_28" in name:
        assert marked == [26_689]
        assert quality[26_689] == Quality.SPIKE
        assert gate.rejected() == {"spike": 1}
    else:
        assert marked == []


def test_the_values_are_those_of_the_standard_library():
    path = FREQUENCY_DATA / "us_eastern_2s/November_29_2022.csv"
    slow = [float(line.split(",")[1]) for line in path.read_text().splitlines()]
    assert open_trace(path, **EASTERN).read_all()["hz"].tolist() == slow


def test_the_trip_of_29_november_passes_the_gate_untouched():
    path = FREQUENCY_DATA / "us_eastern_2s/November_29_2022.csv"
    rows = open_trace(path, start="2022-11-29T00:00:00-05:00", step_s=2).read_all()
    at = (16 * 3600 + 30 * 60 + 30) // 2
    assert rows["hz"][at : at + 30].min() < 59.915
    assert not Gate(GateSettings(nominal_hz=60.0)).check(rows)["quality"].any()


def test_iberia_is_dead_from_12_33_24_and_not_before():
    trace = open_trace(FREQUENCY_DATA / "iberia_blackout_2s/toledo_data.csv", tz="Europe/Madrid")
    rows = trace.read_all()
    assert (trace.format, trace.nominal_hz, rows.size, dict(trace.rejected)) == ("table", 50.0, 3600, {"missing": 10})
    seconds = (rows["t_ns"] - rows["t_ns"][0]) // 1_000_000_000
    assert seconds.tolist() == list(range(0, 7200, 2))
    assert inspect(trace).start == "2025-04-28T09:00:00Z"  # 11:00 CEST

    gate = Gate()
    quality = gate.check(rows)["quality"]
    dead = (quality & Quality.DEAD_BUS) > 0
    first = (93 * 60 + 24) // 2  # 12:33:24
    assert not dead[:first].any()
    assert dead[first:].all()
    assert gate.rejected()["dead_bus"] == 3600 - first
    # Before, the ten empty cells and the first sample of the collapse are all that is marked.
    before = np.flatnonzero(quality[:first])
    assert quality[before[:-1]].tolist() == [Quality.MISSING] * (before.size - 1)
    assert rows["hz"][before[-1]] == 48.556
    assert quality[before[-1]] == Quality.SPIKE
    assert rows["hz"][before[-1] + 1] == 47.476  # believed: the voltage was up
    assert gate.rejected()["missing"] == 10


def test_a_site_of_fifteen():
    path = FREQUENCY_DATA / "world_15_sites_1s/Grid_Frequency_1100-1129.csv"
    texas = inspect(open_trace(path, site="TEX", start="2020-01-01", nominal_hz=60))
    faroe = inspect(open_trace(path, site="VES", start="2020-01-01"))
    assert (texas.rows, texas.nominal_hz, texas.period_s) == (1800, 60.0, 1.0)
    assert texas.hz.mean == pytest.approx(60.0, abs=0.01)
    assert (faroe.hz.min, faroe.hz.max) == pytest.approx((50 - 0.374, 50 + 0.051), abs=6e-4)


def test_a_table_that_holds_no_frequency_is_refused_not_misread():
    with pytest.raises(UnknownFormat):
        recognise(FREQUENCY_DATA / "gb_neso_1s/system_inertia_2026-06-22_to_24.csv")
