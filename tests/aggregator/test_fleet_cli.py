"""Fleets on the command line: what `--fleet` takes, what the result tells, and how wrong files read."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from aggregator import journal_tables
from aggregator.journal import Entry, Kind
from telemetry import wire
from telemetry.samples import SESSION, empty
from tests.aggregator.test_cli import flyball, refused  # noqa: F401 - a fixture

START_S = 1_718_960_400  # Friday, 21 June 2024, 9 h UTC
PLANS = "plans = {even = 1, immediate = 1, delayed = 1, price = 1}\ntariff_day = [[0, 2], [9.25, 1], [10, 3]]\n"


@pytest.fixture
def files(tmp_path):
    """Twenty minutes of frequency, and a week of sessions two years before: five an hour, of an hour and a quarter."""
    rows = (f"{stamp(START_S + k)},{50.0 + 0.03 * ((k // 60) % 3 - 1):.4f}" for k in range(1200))
    (tmp_path / "trace.csv").write_text("dtm,f\n" + "\n".join(rows) + "\n")
    begin_s = START_S - 728 * 86_400 - 4 * 86_400
    lines = ["arrive,leave,energy_kwh,told_leave,asked_kwh"]
    for k in range(7 * 24 * 5):
        arrive_s, leave_s = begin_s + k * 720, begin_s + k * 720 + 4500
        lines.append(f"{stamp(arrive_s)},{stamp(leave_s)},{1 + k % 4},{stamp(leave_s) if k % 2 else ''},")
    (tmp_path / "stays.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def stamp(t_s):
    return datetime.fromtimestamp(t_s, UTC).strftime("%Y-%m-%d %H:%M:%S")


def backtest(flyball, *words):  # noqa: F811
    return flyball("backtest", "trace.csv", "--vehicles", "12", "--sold-kw", "10", *words, "--json", "-")


def test_sessions_of_another_year(flyball, files):  # noqa: F811
    said = backtest(flyball, "--fleet", "stays.csv")
    assert said.code == 0, said.err
    result = said.json()
    told = result["fleet"]
    assert (told["sessions"], told["format"], told["shifted_days"]) == ("stays.csv", "stays_csv", 728)
    assert (told["cars"], told["rejected"], told["impossible"]) == ("built-in", {}, {})
    # Seven are there at the beginning, and two come within the twenty minutes.
    assert 8 <= told["came"] == told["stays"] <= 9
    assert told["turned_away"] == 0
    assert result["energy_balance_error_kwh"] <= 1e-6 * result["throughput_kwh"]
    assert result["bound_violations"] == 0


def test_a_fleet_file_names_its_files_from_its_own_folder(flyball, files):  # noqa: F811
    (files / "own").mkdir()
    (files / "stays.csv").rename(files / "own" / "stays.csv")
    (files / "own" / "fleet.toml").write_text(f'[fleet]\nsessions = "stays.csv"\nvehicles = 3\nseed = 4\n{PLANS}')
    said = flyball(
        "backtest", "trace.csv", "--fleet", "own/fleet.toml", "--sold-kw", "5", "--out", "run", "--json", "-"
    )
    assert said.code == 0, said.err
    result = said.json()
    assert result["fleet"]["turned_away"] >= 3
    assert json.loads((files / "run" / "result.json").read_text())["fleet"] == result["fleet"]
    assert backtest(flyball, "--fleet", "own/fleet.toml").json()["fleet"]["turned_away"] == 0  # twelve chargers now


def test_fitted_and_drawn_again(flyball, files):  # noqa: F811
    said = flyball("fleet", "fit", "stays.csv", "--out", "drivers.toml", "--json", "-")
    assert said.code == 0, said.err
    fitted = said.json()
    assert (fitted["sessions"], fitted["told_frac"], fitted["out"]) == (840, 0.5, "drivers.toml")
    first, again = (backtest(flyball, "--fleet", "drivers.toml").json() for _ in range(2))
    assert first == again
    assert (first["fleet"]["generator"], first["fleet"]["fitted_to"]) == ("drivers.toml", "stays.csv")
    assert first["fleet"]["came"] > 5
    other = backtest(flyball, "--fleet", "drivers.toml", "--seed", "2").json()
    assert other["throughput_kwh"] != first["throughput_kwh"]
    assert backtest(flyball, "--fleet", "builtin").json()["fleet"]["fitted_to"] == "built-in"


def test_a_drawn_fleet_has_nothing_to_tell(flyball, files):  # noqa: F811
    assert "fleet" not in backtest(flyball).json()


def test_what_is_in_a_file_of_sessions(flyball, files):  # noqa: F811
    with (files / "stays.csv").open("a") as file:
        file.write("2022-06-21 09:00,2022-06-21 08:00,3,,\n")
    said = flyball("inspect", "stays.csv", "--json", "-")
    found = said.json()
    assert (found["format"], found["rows"], found["sessions"]) == ("stays_csv", 841, 840)
    assert (found["rejected"], found["start"]) == ({"leave_before_arrive": 1}, "2022-06-20T09:00:00Z")
    assert found["stay_h"]["0.5"] == 1.25
    assert "stay_h" in flyball("inspect", "stays.csv").out
    refused(flyball("inspect", "stays.csv", "--plot", "page.html"), "--plot")


def test_rows_that_cannot_be(flyball, files):  # noqa: F811
    with (files / "stays.csv").open("a") as file:
        file.write("2022-06-21 09:00,2022-06-21 08:00,3,,\n")
    refused(backtest(flyball, "--fleet", "stays.csv"), "stays.csv:842: field `leave`", "--skip-bad")
    refused(flyball("fleet", "fit", "stays.csv", "--out", "m.toml"), ":842:")
    assert not (files / "m.toml").exists()
    said = backtest(flyball, "--fleet", "stays.csv", "--skip-bad")
    assert said.json()["fleet"]["rejected"] == {"leave_before_arrive": 1}


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("--fleet", "stays.csv", "--sessions-shift", "none"), ("2022-06-2", "2024-06-21", "--sessions-shift")),
        (("--fleet", "stays.csv", "--sessions-shift", "soon"), ("--sessions-shift", "auto, none, or a date")),
        (("--fleet", "stays.csv", "--sessions-site", "north"), ("--sessions-site", "north")),
        (("--fleet", "none.csv"), ("none.csv", "no such file")),
        (("--fleet", "trace.csv"), ("trace.csv", "no charging sessions that are known")),
        (("--fleet", "none.toml"), ("none.toml", "cannot be read")),
        (("--fleet", "more.toml"), ("more.toml", "[fleet] table and nothing else")),
        (("--fleet", "typo.toml"), ("fleet.session`", "did you mean `fleet.sessions`")),
        (("--fleet", "prices.toml"), ("`fleet.tariff`", "2024-06-21", "give prices for all of it")),
        (("--fleet", "cars.toml"), ("stays.csv", "no car models that are known")),
    ],
)
def test_wrong_fleets_are_one_line(flyball, files, words, names):  # noqa: F811
    (files / "more.toml").write_text("[fleet]\n[engine]\n")
    (files / "typo.toml").write_text("[fleet]\nsession = 'stays.csv'\n")
    (files / "prices.toml").write_text("[fleet]\nplans = {price = 1}\ntariff = 'prices.csv'\n")
    (files / "prices.csv").write_text("time,price\n2024-01-01 00:00,1\n2024-01-01 01:00,2\n")
    (files / "cars.toml").write_text("[fleet]\nsessions = 'stays.csv'\ncars = 'stays.csv'\n")
    refused(backtest(flyball, *words, "--out", "out"), *names)
    assert not (files / "out").exists()


def test_a_stopped_run_goes_on_with_the_same_guests_alone(flyball, files, monkeypatch):  # noqa: F811
    from aggregator import backtesting

    whole = backtest(flyball, "--fleet", "stays.csv").json()
    monkeypatch.setattr(backtesting, "CHUNK", 300)
    monkeypatch.setattr(backtesting, "CHECKPOINT_NS", 300 * 10**9)
    stopped: list[int] = []
    real = backtesting.run

    def run(*args, **options):
        told = options["progress"]
        return real(
            *args, **options | {"progress": lambda *when: told(*when) and (stopped.append(1) or len(stopped) != 2)}
        )

    monkeypatch.setattr(backtesting, "run", run)
    assert backtest(flyball, "--fleet", "stays.csv", "--out", "run").code == 2
    drawn = backtest(flyball, "--resume", "run")
    assert drawn.code == 2
    assert "asked something else" in drawn.err
    said = backtest(flyball, "--fleet", "stays.csv", "--resume", "run")
    assert said.code == 0, said.err
    assert said.json() == whole


def test_journals_of_earlier_versions_are_read():
    """The field that carries the plan was called `pad`, and was 0."""
    rows = empty(SESSION, 3)
    rows["slot"] = [1, 2, 3]
    entry = Entry(Kind.SESSIONS, 0, 7, 99, wire.encode(rows))
    table = journal_tables._table(1, [(entry, rows)], None)
    older = table.rename_columns(["pad" if name == "plan" else name for name in table.column_names])
    assert "pad" in older.column_names
    assert journal_tables.fits(older.schema, "sessions")
    assert journal_tables.fits(table.schema, "sessions")
    assert not journal_tables.fits(older.rename_columns([*older.column_names[:-1], "other"]).schema, "sessions")
    (batch,) = pa.Table.from_batches(older.to_batches()).to_batches()
    read = journal_tables.block_of(batch, SESSION)
    assert read.tobytes() == rows.tobytes()
    assert read["slot"].tolist() == [1, 2, 3]
