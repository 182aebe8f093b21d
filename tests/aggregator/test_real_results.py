"""Recorded traces with their known oddities: each runs, invents nothing, and its result says what was odd.

The files are not part of the repository: FLYBALL_DATA, or `shared/data` beside it.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from aggregator.backtest import Backtest
from aggregator.backtesting import recorded_gate
from aggregator.contracts import Contract, CoreSettings
from aggregator.results import periods
from droop.products import load
from settlement.calendar import instant
from telemetry.traces import open_trace

DATA = Path(os.environ.get("FLYBALL_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
FREQUENCY_DATA = DATA / "frequency"

pytestmark = pytest.mark.skipif(not FREQUENCY_DATA.is_dir(), reason=f"no recorded traces in {FREQUENCY_DATA}")

S = 10**9
EASTERN = {"start": "2022-08-28T00:00:00-04:00", "step_s": 2.0}


def lived(path, product, first, last, drop=(), **reader):
    """Rows first..last of a file, those of `drop` left out: (backtest, days, what was odd)"""
    rows = open_trace(FREQUENCY_DATA / path, **reader).read_all()[first:last]
    rows = np.delete(rows, slice(*drop)) if drop else rows
    found = load(product)
    settings = CoreSettings("real", 10, (Contract(found, 20.0),))
    test = Backtest(settings, recorded_gate(found.nominal_hz), int(rows["t_ns"][0]), 1)
    test.feed(rows)
    gathered = test.finish()
    days = periods.days(list(test.statements()), {product: found}, None, gathered)
    assert abs(test.fleet.energy().residual_kwh) <= 1e-6 * max(test.fleet.throughput_kwh, 1.0)
    assert sum(day["commands"] for day in days) == test.core.sums.commands
    return test, days, gathered.odd.told()


@pytest.mark.parametrize(
    ("path", "product", "reader", "period_s"),
    [("gb_neso_1s/f_2026-06-23.csv.gz", "gb_dc_low", {}, 1.0), ("ce_1s/2022-09-17.csv.gz", "ce_fcr", {}, 1.0),
     ("us_eastern_2s/November_29_2022.csv", "ieee1547", EASTERN, 2.0)],
)  # fmt: skip
def test_a_sound_trace_is_told_as_such(path, product, reader, period_s):
    rows = round(1800 / period_s)
    test, days, odd = lived(path, product, 0, rows, **reader)
    assert (odd["rows"], odd["period_s"], odd["gaps"]["count"]) == (rows, period_s, 0)
    assert (odd["duplicates"], odd["rejected"], odd["stretches"]) == (0, {}, [])
    assert sum(day["throughput_kwh"] for day in days) == pytest.approx(test.fleet.throughput_kwh, rel=1e-9)


def test_the_eastern_artefact_of_one_sample_is_told_with_its_time():
    _, days, odd = lived("us_eastern_2s/August_28_2022.csv", "ieee1547", 26_400, 27_000, **EASTERN)
    assert odd["rejected"] == {"spike": 1}
    (spike,) = odd["stretches"]
    assert instant(spike["start"]).t_ns == instant("2022-08-28T04:00:00Z").t_ns + 26_689 * 2 * S
    assert [day["rejected"] for day in days] == [{"spike": 1}]


def test_literal_zeros_are_refused_and_told():
    """A meter's way to say nothing, put into a day of Great Britain where other days of such files have them."""
    rows = open_trace(FREQUENCY_DATA / "gb_neso_1s" / "f_2026-06-22.csv.gz").read_all()[:1200]
    rows["hz"][300:305] = 0.0
    found = load("gb_dc_low")
    test = Backtest(CoreSettings("gb", 10, (Contract(found, 20.0),)), recorded_gate(50.0), int(rows["t_ns"][0]), 1)
    test.feed(rows)
    odd = test.finish().odd.told()
    assert odd["rejected"] == {"zero": 5}
    (stretch,) = odd["stretches"]
    assert instant(stretch["start"]).t_ns == rows["t_ns"][300]


def test_fifteen_minutes_without_a_value_are_told_and_ask_for_nothing():
    """RTE, 1 March 2016: `N/A` from 12:15:00 to 12:29:50, local time."""
    rows = open_trace(FREQUENCY_DATA / "ce_rte_10s" / "RTE_Frequence_2016_03.txt").read_all()
    silent = np.flatnonzero(~np.isfinite(rows["hz"]))
    first, last = int(silent[0]) - 60, int(silent[-1]) + 61
    test, _, odd = lived("ce_rte_10s/RTE_Frequence_2016_03.txt", "ce_fcr", first, last)
    assert odd["rejected"] == {"missing": 90}
    (stretch,) = odd["stretches"]
    assert stretch["rows"] == 90
    assert instant(stretch["end"]).t_ns - instant(stretch["start"]).t_ns == 890 * S
    known = rows["hz"][first:last]
    most = 20.0 * np.nansum(np.minimum(np.abs(known - 50.0) / 0.2, 1.0)) * 10.0 / 3600.0
    sums = test.core.sums
    assert sums.requested_up_kwh + sums.requested_down_kwh <= most + 20.0 * 60.0 / 3600.0


def test_a_gap_of_23_minutes_is_told_and_invents_no_energy():
    """A public feed of Continental Europe lacks up to 1388 s of a day; here they are cut out of a whole one."""
    gap = (600, 600 + 1388)
    test, days, odd = lived("ce_1s/2022-09-17.csv.gz", "ce_fcr", 0, 3600, drop=gap)
    whole, *_ = lived("ce_1s/2022-09-17.csv.gz", "ce_fcr", 0, 3600)
    (told,) = odd["gaps"]["listed"]
    assert told["missing_s"] == odd["gaps"]["total_s"] == test.gap_s == 1388.0
    assert sum(day["gap_s"] for day in days) == 1388.0
    assert test.core.sums.requested_up_kwh < whole.core.sums.requested_up_kwh
    assert days[0]["coverage_frac"] == pytest.approx(0.614, abs=0.01)
    assert "FREQUENCY_LOST" in test.core.alarms.raised


def test_the_iberian_bus_died_and_the_result_says_when():
    test, _, odd = lived("iberia_blackout_2s/toledo_data.csv", "ce_fcr", 2700, 3100, tz="Europe/Madrid")
    assert odd["rejected"]["dead_bus"] > 100
    dead = next(item for item in odd["stretches"] if item["reason"] == "dead_bus")
    assert dead["start"].startswith("2025-04-28T10:33:2")
    assert test.core.last.response_kw == 0.0
    assert "DEAD_BUS" in test.core.alarms.raised


def test_a_stream_that_says_its_stamps_twice_is_counted():
    """Rio de Janeiro, ten a second: 512 stamps twice, 559 missing, none for longer than 0.6 s."""
    path = "openpmu_10hz/2012-12-12_KT-H01_session1.csv"
    reader = {"start": "2012-12-12T00:00:00Z"}
    rows = open_trace(FREQUENCY_DATA / path, **reader).read_all()[26_500:29_500]
    again = int((np.diff(rows["t_ns"]) == 0).sum())
    _, _, odd = lived(path, "ieee1547", 26_500, 29_500, **reader)
    assert again > 100
    assert (odd["duplicates"], odd["rejected"].get("order")) == (again, again)
    assert odd["period_s"] == pytest.approx(0.1)
    assert odd["gaps"]["count"] > 100
    assert odd["gaps"]["longest_s"] <= 0.6
