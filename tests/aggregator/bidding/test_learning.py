"""Drift from recordings: a signal, a frequency through a curve, and PJM's own RegA."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from aggregator.bidding import learning
from aggregator.bidding.products import BidError, bundle
from aggregator.signal_file import Recorded, read
from droop.curve import fractions
from droop.drift import hours_left, learned
from droop.products import load
from telemetry.traces import open_trace
from tests import naive_bids as twin
from tests.aggregator.bidding.histories import NS
from tests.aggregator.test_backtesting import written

DATA = Path(os.environ.get("FLYBALL_DATA") or Path(__file__).resolve().parents[3].parent / "shared" / "data")
T0 = 1_790_000_000 * NS
T0 -= T0 % (3600 * NS)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no recorded data in {DATA}")
def test_rega_drives_to_its_edge_as_its_mean_predicts():
    """A mean of -0.46 over eight hours (data): what follows it takes energy, and is full when the mean says."""
    (path,) = sorted((DATA / "regulation" / "pjm_2s").glob("*.csv"))
    recorded = read(path)
    begin_ns, end_ns = int(recorded.t_ns[0]), int(recorded.t_ns[0]) + 8 * 3600 * NS
    drift = learned(recorded.t_ns, recorded.share, np.array([begin_ns, end_ns]))
    assert drift.mean_pu == pytest.approx(-0.46, abs=0.005)
    assert drift.down_pu == -drift.up_pu == -drift.mean_pu
    share = recorded.share[recorded.t_ns < end_ns]
    # Three rounds of the eight hours, so that when in the day it ends matters little.
    room_kwh = 3 * 8 * 0.46
    expected = twin.emptied_h(share, 2.0, 1.0, 1e9, room_kwh, 1.0)
    assert hours_left(drift, 1.0, 1e9, room_kwh) == pytest.approx(expected, rel=0.01)
    blocks = learning.of_signal(bundle([load("pjm_rega_v1")]), recorded)
    assert blocks.blocks == 8
    assert blocks.mean_pu == pytest.approx(-0.46, abs=0.005)
    assert blocks.down_pu > 0.4
    assert blocks.down_sd > 0.1


def test_a_frequency_drifts_as_its_answer_does(tmp_path):
    trace = open_trace(written(tmp_path / "day.csv", 7300))
    with pytest.raises(BidError, match="one whole block"):  # of four hours
        learning.of_traces(bundle([load("ce_fcr")]), [trace])
    short = bundle([load("nordic_fcr_n")])
    found = learning.of_traces(short, [open_trace(written(tmp_path / "day.csv", 7300))], 0.8)
    rows = open_trace(tmp_path / "day.csv").read_all()
    share = fractions(short.products[0].response, rows["hz"][:7200] - 50.0).reshape(2, 3600)
    out, into = np.maximum(share, 0).mean(axis=1), np.maximum(-share, 0).mean(axis=1)
    assert found.blocks == 2
    assert found.up_pu == pytest.approx((out - 0.8 * into).mean(), abs=1e-9)
    assert found.down_pu == pytest.approx((into - out / 0.8).mean(), abs=1e-9)


def test_what_does_not_go_together_is_refused(tmp_path):
    recorded = Recorded(T0 + np.arange(4000) * 2 * NS, np.full(4000, 0.5))
    with pytest.raises(BidError, match="follows no signal"):
        learning.of_signal(bundle([load("ce_fcr")]), recorded)
    trace = open_trace(written(tmp_path / "day.csv", 100))
    for name in ("pjm_reg_v2", "nordic_ffr_a"):
        with pytest.raises(BidError, match="--trace"):
            learning.of_traces(bundle([load(name)]), [trace])
    with pytest.raises(BidError, match="50 Hz grid"):
        learning.of_traces(bundle([load("ercot_pfr")]), [trace])


def test_only_what_a_product_follows_of_a_signal_counts():
    recorded = Recorded(T0 + np.arange(7200) * 2 * NS, np.tile([0.5, -0.25], 3600))
    up = learning.of_signal(bundle([load("afrr_up")]), recorded, 1.0)
    assert up.mean_pu == pytest.approx(0.25)
    assert up.down_pu == pytest.approx(-0.25)
