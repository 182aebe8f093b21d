"""Bids for a fleet that is described: it lives through the days before, and is looked at as a backtest's."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import orjson
import pytest
from typer.testing import CliRunner

from aggregator.backtesting import recorded_gate, run
from aggregator.bidding import available, composed
from aggregator.bidding.available import FILE
from aggregator.bidding.products import TooLittle
from aggregator.bidding.rule import Rule
from aggregator.cli import app
from aggregator.config import FleetTable
from aggregator.configured import behaviour
from aggregator.contracts import Contract, CoreSettings
from aggregator.fleets.composing import guests_of
from aggregator.fleets.errors import FleetError
from aggregator.wanted import Wanted
from droop.products import load
from telemetry.traces import open_trace
from tests.aggregator.bidding.histories import NS, bundle

DAY = date(2026, 3, 10)  # a Tuesday; in Brussels it begins at 23:00 UTC
SOLD = bundle([load("ce_fcr")])
RULE = Rule(0.9, window_days=7)
CARS = 8
QUARTER = 900 * NS
HEADER = "arrive,leave,energy_kwh,told_leave,capacity_kwh,soc_frac,power_kw"


def stays(days=12, first=datetime(2026, 2, 25, tzinfo=UTC)):
    """(arrive, leave) of eight cars a working day and four at weekends, each a little later than the one before."""
    found = []
    for k in range(days):
        day = first + timedelta(days=k)
        for car in range(CARS if day.weekday() < 5 else CARS // 2):
            arrive = day + timedelta(hours=8, minutes=7 * car)
            found.append((arrive, arrive + timedelta(hours=6, minutes=11 * car)))
    return found


def written(path, rows):
    lines = [f"{a.isoformat()},{b.isoformat()},8,{b.isoformat()},60,0.5,11" for a, b in rows]
    path.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return path


def called(*args):
    """(exit status, standard output, error)"""
    found = CliRunner().invoke(app, ["bid", "--product", "ce_fcr", "--confidence", "0.9", *map(str, args)])
    return found.exit_code, found.stdout, str(found.exception)


@pytest.fixture(scope="module")
def bid(tmp_path_factory):
    """The answer of the command line, and the history that it rests on."""
    path, kept = written(tmp_path_factory.mktemp("fleet") / "stays.csv", stays()), []
    real = composed.history

    def history(*given):
        kept.append(real(*given))
        return kept[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(composed, "history", history)
        status, said, error = called("--fleet", path, "--vehicles", 12, "--perfect", "--date", DAY, "--seed", 3,
                                     "--window-days", 7, "--json", "-")  # fmt: skip
    assert status == 0, error
    return orjson.loads(said), kept[0], path


def test_who_was_there_is_who_came(bid):
    """By hand: a car counts in the quarters of an hour that it was there for all of."""
    _, lived, _ = bid
    rows, who = lived.history.slices, [(a.timestamp() * NS, b.timestamp() * NS) for a, b in stays()]
    begin_ns, end_ns = composed.span(SOLD, RULE, DAY)
    assert (rows["start_ns"][0], rows["end_ns"][-1]) == (begin_ns, end_ns)
    assert (np.diff(rows["start_ns"]) == QUARTER).all()
    assert set(rows["chargers"]) == {12}
    there = np.array([sum(a <= row["start_ns"] and row["end_ns"] <= b for a, b in who) for row in rows])
    assert (rows["present"] <= there).all()
    assert (rows["present"][there == 0] == 0).all()
    assert (rows["kw"][there == 0] == 0.0).all()
    # Two chargers of ten only charge.
    assert rows["present"].sum() > 0.6 * there.sum()
    assert there.max() == CARS
    assert (rows["kw"] <= 11.0 / 1.25 * rows["present"] + 1e-6).all()


def test_it_is_what_a_backtest_of_these_days_would_have_kept(bid, tmp_path):
    """The first day as a trace that stands still: the same rows in the folder of the run."""
    _, lived, path = bid
    first_ns = int(lived.history.slices["start_ns"][0])
    begin = datetime.fromtimestamp(first_ns // NS, UTC)
    lines = [f"{begin + timedelta(seconds=2 * k):%Y-%m-%d %H:%M:%S},50.0" for k in range(13 * 1800 + 40)]
    (tmp_path / "flat.csv").write_text("\n".join(["dtm,f", *lines]) + "\n", encoding="utf-8")
    table = FleetTable(vehicles=12, seed=3, perfect=True, sessions=path)
    trace, how = open_trace(tmp_path / "flat.csv"), behaviour(table)
    settings = CoreSettings("ce", 12, (Contract(load("ce_fcr"), 0.0),))
    run(
        Wanted(
            [trace], settings, recorded_gate(50.0), seed=3, behaviour=how, fleet=guests_of(table, None, how, [trace])
        ),
        out=tmp_path / "run",
    )
    wanted = available.read(tmp_path / "run" / FILE, SOLD)
    assert wanted.size == 13 * 4
    found = lived.history.slices[: wanted.size]
    assert found["present"].tolist() == wanted["present"].tolist()
    assert found["present"].max() >= 3
    for name in ("kw", "up_kwh", "down_kwh"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-3, atol=1e-6)


def test_the_answer_says_what_it_rests_on(bid):
    document, lived, path = bid
    assert [len(document["blocks"]), document["date"]] == [6, DAY.isoformat()]
    assert document["history"]["chargers"] == 12
    assert document["history"]["days"] >= 7
    assert document["fleet"] == lived.about
    assert (document["fleet"]["sessions"], document["fleet"]["vehicles"], document["fleet"]["seed"]) == (
        str(path),
        12,
        3,
    )
    assert document["fleet"]["turned_away"] == 0
    assert any("12 simulated chargers" in text for text in document["assumed"])
    # At night nobody is there to be sold.
    assert document["blocks"][0]["mean_kw"] == 0.0
    assert max(row["mean_kw"] for row in document["blocks"]) > 2.0


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ([], "--history: give what was, or the fleet"),
        (["--seed", "2"], "--history: give what was, or the fleet"),
        (["--history", "x", "--fleet", "builtin"], "--fleet: goes without --history"),
        (["--history", "x", "--sessions-site", "here"], "--sessions-site: goes without --history"),
        (["--fleet", "/nowhere.toml"], "--fleet /nowhere.toml"),
        (["--fleet", "builtin", "--window-days", "3"], "--window-days"),
    ],
)
def test_what_does_not_go_together_is_named(given, named):
    status, said, error = called("--date", DAY, *given)
    assert status != 0
    assert named in error
    assert said == ""


def test_sessions_that_tell_too_little(tmp_path):
    table = FleetTable(vehicles=12, sessions=written(tmp_path / "few.csv", stays(3)))
    settings = CoreSettings("ce", 12, (Contract(load("ce_fcr"), 0.0),))
    with pytest.raises(TooLittle, match="--fleet: its sessions tell of 2026-02-28"):
        composed.history(
            SOLD, RULE, date(2026, 3, 9), settings, replaced(table, sessions_shift="2026-02-25"), behaviour(table)
        )
    with pytest.raises(FleetError, match="do not meet"):
        composed.history(
            SOLD, RULE, date(2027, 3, 9), settings, replaced(table, sessions_shift="none"), behaviour(table)
        )


def replaced(table, **keys):
    return table.model_copy(update=keys)


def test_what_is_learned_ends_where_the_rule_says():
    begin_ns, end_ns = composed.span(SOLD, replace(RULE, lead_h=30.1), DAY)
    start_ns = SOLD.day_start_ns(DAY)
    assert start_ns - end_ns == (30 * 3600 + 900) * NS  # to the slice before
    assert end_ns - begin_ns == 7 * 24 * 3600 * NS
