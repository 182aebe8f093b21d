"""Recorded charging sessions: each format's traps, what is refused and by which name, and the published files."""

from __future__ import annotations

import gzip
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.sessions import (
    BadSessionOption,
    MalformedSession,
    SessionError,
    UnknownSessions,
    inspect,
    open_sessions,
    recognise,
)
from telemetry.sessions.stays import STAY, busiest

DATA = Path(os.environ.get("FLYBALL_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
SESSIONS = DATA / "ev_sessions"
ACN = SESSIONS / "acn" / "acndata_sessions_cal_dec2020_apr2021.json"
NORWAY = SESSIONS / "norway_12_sites" / "Dataset1_charging_reports_without_TRO_R.csv.gz"
recorded = pytest.mark.skipif(not SESSIONS.is_dir(), reason=f"no recorded sessions in {SESSIONS}")

HEADER = '"location";"user_id";"session_id";"plugin_time";"plugout_time";"connection_time";"energy_session"\n'


def ns(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


def norwegian(tmp_path, *lines):
    path = tmp_path / "reports.csv"
    path.write_text(HEADER + "".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def item(**changes):
    return {
        "connectionTime": "Tue, 01 Dec 2020 13:59:06 GMT", "disconnectTime": "Tue, 01 Dec 2020 19:33:50 GMT",
        "doneChargingTime": None, "kWhDelivered": 7.877, "siteID": "0002", "stationID": "2-39-131-30",
        "timezone": "America/Los_Angeles", "userInputs": None, **changes,
    }  # fmt: skip


def acn(tmp_path, *items, bare=False):
    path = tmp_path / "sessions.json"
    path.write_text(json.dumps(list(items) if bare else {"_meta": {}, "_items": list(items)}))
    return path


# -- the Norwegian format ------------------------------------------------------------------------------------------


def test_norwegian_rows(tmp_path):
    path = norwegian(
        tmp_path, '"ASK";"P15";"ASK_1";2019-11-28 19:08:00;2019-11-29 08:20:00;13,2;19,96',
        '"ASK";"P15";"ASK_2";2019-07-02 20:23:00;NA;NA;21,34',
        '"OSL";"P1";"OSL_2";2019-07-01 20:00:00;NA;2,5;1,5',
    )  # fmt: skip
    head, *others = path.read_text(encoding="utf-8").split("\n", 1)
    path.write_text("\n".join([head.upper(), *others]), encoding="utf-8")  # capitals in a header are the same names
    stays = open_sessions(path)
    assert (stays.format, stays.zone, stays.sites) == ("norway_csv", "Europe/Oslo", ("ASK", "OSL"))
    rows = stays.rows
    # Clock time in Oslo: an hour ahead of UTC in winter, two in summer; by arrival, whatever the file's order.
    assert rows["arrive_ns"].tolist() == [
        ns("2019-07-01T18:00:00"), ns("2019-07-02T18:23:00"), ns("2019-11-28T18:08:00")
    ]  # fmt: skip
    assert rows["leave_ns"].tolist() == [ns("2019-07-01T20:30:00"), 0, ns("2019-11-29T07:20:00")]
    assert rows["energy_kwh"].tolist() == [1.5, 21.34, 19.96]
    assert rows["line"].tolist() == [4, 3, 2]
    assert rows["site"].tolist() == [1, 0, 0]
    assert stays.chargers == 2
    assert np.isnan(rows["asked_kwh"]).all()
    assert (rows["told_leave_ns"] == 0).all()


def test_a_zone_of_ones_own(tmp_path):
    path = norwegian(tmp_path, "A;P;1;2019-07-02 20:00:00;2019-07-02 21:00:00;1;1")
    assert open_sessions(path, tz="+05:30").rows["arrive_ns"][0] == ns("2019-07-02T14:30:00")
    with pytest.raises(BadSessionOption, match="--tz"):
        open_sessions(path, tz="Mars/Olympus")


def test_a_night_that_is_an_hour_longer(tmp_path):
    path = norwegian(tmp_path, "A;P;1;2019-10-26 20:00:00;2019-10-27 08:00:00;12;1")
    row = open_sessions(path).rows[0]
    assert row["leave_ns"] - row["arrive_ns"] == 13 * 3600 * 10**9


@pytest.mark.parametrize(
    ("line", "field", "reason"),
    [
        ("A;P;1;2019-07-02 20:00:00;2019-07-02 20:00:00;0;1", "leave", "leave_before_arrive"),
        ("A;P;1;2019-07-02 20:00:00;2019-07-02 19:00:00;0;1", "leave", "leave_before_arrive"),
        ("A;P;1;2019-07-02 20:00:00;2019-08-30 19:00:00;0;1", "leave", "stay_too_long"),
        ("A;P;1;yesterday;2019-07-02 19:00:00;0;1", "arrive", "arrive_time"),
        ("A;P;1;1919-07-02 20:00:00;1919-07-02 21:00:00;0;1", "arrive", "arrive_range"),
        ("A;P;1;2019-07-02 20:00:00;soon;0;1", "leave", "leave_time"),
        ("A;P;1;2019-07-02 20:00:00;2019-07-02 21:00:00;1;NA", "energy_kwh", "energy"),
        ("A;P;1;2019-07-02 20:00:00;2019-07-02 21:00:00;1;-1,5", "energy_kwh", "energy"),
        ("A;P;1;2019-07-02 20:00:00;2019-07-02 21:00:00;1;nan", "energy_kwh", "energy"),
        ("A;P;1;2019-07-02 20:00:00;2019-07-02 21:00:00;1;1;1", "row", "cells"),
        ("A;P;1;2019-07-02 20:00:00;NA;-3;1", "connection_time", "connection_time"),
    ],
)
def test_rows_that_cannot_be_are_named_or_counted(tmp_path, line, field, reason):
    good = "A;P;1;2019-07-01 20:00:00;2019-07-01 21:00:00;1;1"
    path = norwegian(tmp_path, good, line, good)
    with pytest.raises(MalformedSession, match=rf":3: field `{field}`.*--skip-bad") as caught:
        open_sessions(path)
    assert (caught.value.line, caught.value.reason) == (3, reason)
    stays = open_sessions(path, skip_bad=True)
    assert (stays.rows.size, dict(stays.rejected)) == (2, {reason: 1})
    assert inspect(stays)["rows"] == 3


# -- ACN-Data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bare", [False, True])
def test_acn_items(tmp_path, bare):
    inputs = [
        {"kWhRequested": 15.5, "requestedDeparture": "Tue, 01 Dec 2020 17:59:06 GMT"},
        {"kWhRequested": 99.0, "requestedDeparture": "Tue, 01 Dec 2020 23:59:06 GMT"},
    ]
    done = "Tue, 01 Dec 2020 15:20:41 GMT"
    path = acn(tmp_path, item(userInputs=inputs, doneChargingTime=done), item(timezone=None), bare=bare)
    stays = open_sessions(path)
    assert (stays.format, stays.zone, stays.sites) == ("acn_json", "America/Los_Angeles", ("0002",))
    row, plain = stays.rows
    assert row["arrive_ns"] == ns("2020-12-01T13:59:06")
    assert row["leave_ns"] == ns("2020-12-01T19:33:50")
    assert row["told_leave_ns"] == ns("2020-12-01T17:59:06")  # the first, as it was told
    assert row["done_ns"] == ns("2020-12-01T15:20:41")
    assert (row["asked_kwh"], row["energy_kwh"], row["line"]) == (15.5, 7.877, 1)
    assert (plain["told_leave_ns"], plain["done_ns"]) == (0, 0)
    assert np.isnan(plain["asked_kwh"])


def test_a_wrong_departure_is_kept_as_it_was_told(tmp_path):
    early = [{"kWhRequested": None, "requestedDeparture": "Mon, 30 Nov 2020 17:59:06 GMT"}]
    row = open_sessions(acn(tmp_path, item(userInputs=early))).rows[0]
    assert row["told_leave_ns"] < row["arrive_ns"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"connectionTime": None}, "arrive_time"), ({"connectionTime": "01/12/2020"}, "arrive_time"),
        ({"disconnectTime": "Tue, 01 Dec 2020 13:59:06 GMT"}, "leave_before_arrive"),
        ({"kWhDelivered": None}, "energy"), ({"kWhDelivered": "7"}, "energy"), ({"kWhDelivered": -1}, "energy"),
        ({"userInputs": 3}, "inputs"), ({"userInputs": [{"kWhRequested": -2.0}]}, "asked"),
        ({"userInputs": [{"kWhRequested": "many"}]}, "asked"),
    ],
)  # fmt: skip
def test_items_that_cannot_be(tmp_path, changes, reason):
    path = acn(tmp_path, item(), item(**changes), "nothing")
    with pytest.raises(MalformedSession, match=":2: field"):
        open_sessions(path)
    assert dict(open_sessions(path, skip_bad=True).rejected) == {reason: 1, "item": 1}


def test_null_departures_are_unknown(tmp_path):
    stays = open_sessions(acn(tmp_path, item(disconnectTime=None)))
    assert stays.rows["leave_ns"].tolist() == [0]
    assert inspect(stays)["leave_unknown"] == 1


# -- a table of one's own ------------------------------------------------------------------------------------------


def test_own_table(tmp_path):
    path = tmp_path / "stays.csv"
    path.write_text(
        "arrive,leave,energy_kwh,told_leave,asked_kwh,capacity_kwh,soc_frac,power_kw,site,place\n"
        "2024-01-01T08:00:00Z,2024-01-01T10:00:00+01:00,5,,,50,0.5,11,north,1\n"
        "2024-01-02 08:00,,5,2024-01-02 12:00,7.5,,,,,\n"
    )
    stays = open_sessions(path)
    first, second = stays.rows
    assert first["leave_ns"] - first["arrive_ns"] == 3600 * 10**9
    assert (first["capacity_kwh"], first["soc_frac"], first["power_kw"]) == (50.0, 0.5, 11.0)
    assert (second["leave_ns"], second["told_leave_ns"], second["place"]) == (0, ns("2024-01-02T12:00:00"), -1)


@pytest.mark.parametrize(
    ("cells", "field", "reason"),
    [
        ("2024-01-01T08:00,2024-01-01T10:00,5,1.2,50,11", "soc_frac", "soc"),
        ("2024-01-01T08:00,2024-01-01T10:00,5,-0.1,50,11", "soc_frac", "soc"),
        ("2024-01-01T08:00,2024-01-01T10:00,5,0.5,0,11", "capacity_kwh", "capacity"),
        ("2024-01-01T08:00,2024-01-01T10:00,5,0.5,-5,11", "capacity_kwh", "capacity"),
        ("2024-01-01T08:00,2024-01-01T10:00,5,0.5,50,-11", "power_kw", "power"),
        ("2024-01-01T08:00,2024-01-01T07:00,5,0.5,50,11", "leave", "leave_before_arrive"),
        (",2024-01-01T07:00,5,0.5,50,11", "arrive", "arrive"),
        ("2024-01-01T08:00,2024-01-01T10:00,five,0.5,50,11", "energy_kwh", "energy"),
    ],
)
def test_an_impossible_vehicle_is_refused_by_row_and_field(tmp_path, cells, field, reason):
    path = tmp_path / "stays.csv"
    path.write_text(f"arrive,leave,energy_kwh,soc_frac,capacity_kwh,power_kw\n{cells}\n")
    with pytest.raises(MalformedSession, match=rf":2: field `{field}`"):
        open_sessions(path)
    assert dict(open_sessions(path, skip_bad=True).rejected) == {reason: 1}


# -- files ---------------------------------------------------------------------------------------------------------


def test_recognised_by_content_plain_or_packed(tmp_path):
    plain = norwegian(tmp_path, "A;P;1;2019-07-02 20:00:00;2019-07-02 21:00:00;1;1")
    packed = tmp_path / "whatever.bin"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert recognise(plain) == recognise(packed) == "norway_csv"
    assert open_sessions(packed).rows.tobytes() == open_sessions(plain).rows.tobytes()
    trace = tmp_path / "trace.csv"
    trace.write_text("dtm,f\n2020-01-01 00:00:00,50.0\n")
    assert recognise(trace) is None
    assert recognise(tmp_path / "none") is None


@pytest.mark.parametrize(
    "content", [b"", b"\x1f\x8bjunk", b'{"connectionTime": [', b'{"connectionTime": 1}', b"a;b\n1;2"]
)
def test_what_cannot_be_read_is_refused(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(UnknownSessions, match=str(path)):
        open_sessions(path)
    with pytest.raises(UnknownSessions, match="no such file"):
        open_sessions(tmp_path / "none")
    with pytest.raises(BadSessionOption, match="acn_json, norway_csv, stays_csv"):
        open_sessions(path, format="excel")


@given(st.binary(max_size=400), st.sampled_from(["acn_json", "norway_csv", "stays_csv"]))
def test_no_bytes_break_a_reader(tmp_path_factory, content, form):
    path = tmp_path_factory.mktemp("junk") / "file"
    path.write_bytes(content)
    for skip_bad in (False, True):
        try:
            found = open_sessions(path, format=form, skip_bad=skip_bad)
        except SessionError:
            continue
        assert (found.rows["arrive_ns"] > 0).all()


def test_the_busiest_moment():
    rows = np.zeros(4, STAY)
    rows["arrive_ns"], rows["leave_ns"] = [1, 2, 3, 9], [3, 5, 6, 0]
    assert busiest(rows) == 2  # who leaves at 3 makes room
    assert busiest(rows[:0]) == 0


# -- the published files -------------------------------------------------------------------------------------------


@recorded
def test_acn_as_its_readme_says():
    """1,113 sessions; `userInputs` and `doneChargingTime` null in some."""
    found = inspect(open_sessions(ACN))
    assert (found["rows"], found["rejected"], found["leave_unknown"]) == (1113, {}, 0)
    assert (found["departure_told"], found["done_known"]) == (1113 - 52, 1113 - 556)
    assert found["start"] == "2020-12-01T13:59:06Z"


@recorded
def test_norway_as_its_readme_says():
    """28,671 sessions of 11 sites; counted once with csv and datetime by hand: 11 without a plug-out here."""
    found = inspect(open_sessions(NORWAY))
    assert (found["rows"], len(found["sites"]), found["leave_unknown"]) == (28_671, 11, 11)
    assert found["sites"]["OSL_S"] == 9757
    assert found["stay_h"]["0.5"] == pytest.approx(11.47, abs=0.01)
    assert found["energy_kwh"]["0.5"] == pytest.approx(9.0)
    assert found["stay_h"]["1"] == pytest.approx(119.917, abs=0.01)
