"""PJM's wide signal files: days as columns, a midnight that ends them, clocks that move; and what is refused."""

from __future__ import annotations

import csv
import gzip
import io
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.samples import SETPOINT, Quality
from telemetry.traces import (
    AmbiguousDates,
    BadOption,
    EmptyTrace,
    IncompleteTrace,
    MalformedRow,
    NotFrequency,
    TraceError,
    UnknownFormat,
    inspect_signal,
    open_signal,
    open_trace,
    pjm_wide,
    recognise,
)

EASTERN = ZoneInfo("America/New_York")
DATA = Path(os.environ.get("FLYBALL_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
REAL = DATA / "regulation" / "pjm_2s" / "08 2017 - 8-1 only.csv"


def us(day: date) -> str:
    return f"{day.month}/{day.day}/{day.year}"


def hms(seconds: int) -> str:
    seconds %= 86_400
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def wide(days, columns, begin_s, step_s=2):
    """The file's text: n rows of the columns, the last of them at midnight."""
    rows = [",".join(["", *map(us, days)])]
    for k, cells in enumerate(zip(*columns, strict=True)):
        rows.append(",".join([hms(begin_s + k * step_s), *("" if cell is None else f"{cell:.9g}" for cell in cells)]))
    return "\n".join(rows) + "\n"


def day_of(day, n=11, step_s=2):
    return wide([day], [[k / 100 for k in range(n)]], 86_400 - (n - 1) * step_s, step_s)


@pytest.fixture
def write(tmp_path):
    def put(text, name="signal.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return put


def ns(at):
    return round(at.timestamp()) * 1_000_000_000


def naive(text, zone=EASTERN):
    """Slow and obvious: (t_ns, value) in order, each cell by itself, days without a change of clocks."""
    header, *rows = list(csv.reader(io.StringIO(text)))
    found = []
    for column, name in enumerate(header[1:], 1):
        begun = len(found)
        month, day, year = map(int, name.split("/"))
        for place, row in enumerate(rows):
            hours, minutes, seconds = map(int, row[0].split(":"))
            at = datetime(year, month, day, hours, minutes, seconds)
            if place == len(rows) - 1:
                at += timedelta(days=1)
            found.append((ns(at.replace(tzinfo=zone)), float(row[column]) if row[column] else None))
        # The midnight that ends one day and begins the next is said once, if it was said at all.
        if begun and found[begun - 1][0] == found[begun][0] and found[begun - 1][1] is not None:
            del found[begun]
    return found


def test_one_day(write):
    path = write(day_of(date(2017, 8, 1)))
    assert recognise(path) == "pjm_wide"
    trace = open_signal(path)
    rows = trace.read_all()
    assert rows.dtype == SETPOINT
    # 23:59:40 EDT is 03:59:40 UTC of the next day.
    begin = ns(datetime(2017, 8, 2, 3, 59, 40, tzinfo=UTC))
    assert rows["t_ns"].tolist() == [begin + k * 2_000_000_000 for k in range(11)]
    assert (rows["rx_ns"] == rows["t_ns"]).all()
    np.testing.assert_allclose(rows["frac"], np.arange(11) / 100, atol=1e-15)
    assert (trace.rows, +trace.rejected) == (11, {})
    assert not rows["quality"].any()


@given(
    first=st.dates(date(2015, 1, 1), date(2030, 12, 1)).filter(lambda d: d.month not in (3, 11)),
    n=st.integers(2, 40), count=st.integers(1, 5), data=st.data(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_is_the_twin(tmp_path_factory, first, n, count, data):
    days = [first + timedelta(days=k) for k in range(count) if (first + timedelta(days=k)).month not in (3, 11)]
    cell = st.one_of(st.none(), st.floats(-1, 1, width=32))
    columns = [data.draw(st.lists(cell, min_size=n, max_size=n)) for _ in days]
    text = wide(days, columns, 86_400 - (n - 1) * 2)
    path = tmp_path_factory.mktemp("w") / "s.csv"
    path.write_text(text)
    rows = open_signal(path).read_all()
    expected = naive(text)
    assert rows["t_ns"].tolist() == [t for t, _ in expected]
    wanted = np.array([np.nan if value is None else value for _, value in expected])
    np.testing.assert_array_equal(rows["frac"], wanted)
    assert ((rows["quality"] == Quality.MISSING) == np.isnan(wanted)).all()


def test_more_days_than_one_pass_holds_are_the_same(write, monkeypatch):
    days = [date(2017, 8, 1) + timedelta(days=k) for k in range(7)]
    text = wide(days, [[(k + d) / 50 for k in range(9)] for d in range(7)], 86_400 - 16)
    text = text.replace("23:59:46", "what", 1)
    whole = open_signal(write(text), skip_bad=True)
    rows = whole.read_all()
    monkeypatch.setattr(pjm_wide, "DAYS", 3)
    parts = open_signal(write(text), skip_bad=True)
    assert parts.read_all().tobytes() == rows.tobytes()
    assert parts.rejected == whole.rejected
    assert whole.rejected["malformed"] == 1
    # Read again, it is the same again.
    assert parts.read_all().tobytes() == rows.tobytes()


def test_a_day_follows_the_midnight_of_the_one_before_and_the_repeat_is_counted(write):
    days = [date(2017, 8, 1), date(2017, 8, 2)]
    n = 86_400 // 3600 + 1
    text = wide(days, [[0.1] * n, [0.2] * n], 0, 3600)
    trace = open_signal(write(text))
    rows = trace.read_all()
    assert (rows.size, rows["frac"].tolist()) == (49, [0.1] * 25 + [0.2] * 24)
    assert (np.diff(rows["t_ns"]) == 3_600_000_000_000).all()
    report = inspect_signal(trace)
    assert (report.rows, report.duplicates, report.period_s) == (50, 1, 3600.0)
    assert (report.start, report.end) == ("2017-08-01T04:00:00Z", "2017-08-03T04:00:00Z")
    assert report.rejected == {"duplicate": 1}


def test_of_two_midnights_the_one_that_says_something_counts(write):
    days = [date(2017, 8, 1), date(2017, 8, 2)]
    text = wide(days, [[0.1] * 24 + [None], [0.2] * 25], 0, 3600)
    trace = open_signal(write(text))
    rows = trace.read_all()
    assert rows.size == 50
    assert np.isnan(rows["frac"][24])
    assert rows["frac"][25] == 0.2
    assert rows["t_ns"][24] == rows["t_ns"][25]
    assert inspect_signal(trace).duplicates == 1


# ---- clocks that move


def hours(day, skip=(), again=()):
    """A day of hourly rows whose value is the hour; these are left empty, these repeated."""
    rows = [f",{us(day)}"]
    for h in range(24):
        rows.append(f"{h}:00:00,{'' if h in skip else h / 100}")
    for h in again:
        rows.insert(2 + h, f"{h}:00:00,{h / 100 + 0.5}")
    return "\n".join([*rows, "0:00:00,0.24"]) + "\n"


def test_of_the_hour_that_spring_leaves_out_there_is_nothing(write):
    day = date(2017, 3, 12)
    rows = open_signal(write(hours(day, skip=(2,)))).read_all()
    steps = np.diff(rows["t_ns"])
    assert rows.size == 24
    assert (steps == 3_600_000_000_000).all()
    with pytest.raises(MalformedRow, match=r"column 2017-03-12, row 2:00:00: does not exist.*--tz"):
        open_signal(write(hours(day))).read_all()
    kept = open_signal(write(hours(day)), skip_bad=True)
    assert kept.read_all().tobytes() == rows.tobytes()
    assert kept.rejected["malformed"] == 1
    # In a zone without daylight saving the hour is there.
    assert open_signal(write(hours(day)), tz="-05:00").read_all().size == 25


def test_the_hour_that_autumn_repeats_is_once_or_twice(write):
    day = date(2017, 11, 5)
    half = "\n".join(
        [f",{us(day)}", "0:30:00,0.1", "1:00:00,0.2", "1:30:00,0.3", "1:00:00,0.4", "1:30:00,0.5", "2:00:00,0.6",
         "0:00:00,0.7", ""]
    )  # fmt: skip
    rows = open_signal(write(half)).read_all()
    at = [datetime(2017, 11, 5, h, m, tzinfo=UTC) for h, m in ((4, 30), (5, 0), (5, 30), (6, 0), (6, 30), (7, 0))]
    assert rows["t_ns"].tolist()[:-1] == [ns(t) for t in at]
    assert rows["t_ns"][-1] == ns(datetime(2017, 11, 6, 5, tzinfo=UTC))
    # Once only: the first pass, and an hour is missing behind it.
    once = open_signal(write(hours(day)))
    assert inspect_signal(once).gaps.count == 1
    # On a day without a change it is no second pass.
    with pytest.raises(MalformedRow, match="stands there twice"):
        open_signal(write(half.replace("11/5", "11/7"))).read_all()


def test_beside_the_day_of_the_repeated_hour_other_days_have_nothing_there(write):
    text = "\n".join(
        [",11/4/2017,11/5/2017", "1:00:00,0.1,0.2", "1:30:00,0.1,0.3", "1:00:00,,0.4", "1:30:00,,0.5", "0:00:00,0,0.7",
         ""]
    )  # fmt: skip
    rows = open_signal(write(text)).read_all()
    assert rows["frac"].tolist() == [0.1, 0.1, 0.0, 0.2, 0.3, 0.4, 0.5, 0.7]
    assert (np.diff(rows["t_ns"]) > 0).all()


# ---- what is refused

GOOD = day_of(date(2017, 8, 1))


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (GOOD.replace("0.05", "x"), MalformedRow, [":7: 'x' is not a number"]),
        (GOOD.replace("0.05", "0.05,1"), MalformedRow, [":7: 3 fields where 2"]),
        (GOOD.replace("23:59:50", "noon"), MalformedRow, [":7: time 'noon'"]),
        (GOOD.replace("0.05", "1.2"), MalformedRow, ["2017-08-01", "23:59:50", "1.2", "-1..1"]),
        (GOOD.replace("0.05", "-1.00001"), MalformedRow, ["-1..1"]),
        (GOOD.replace("23:59:50", "23:59:40"), MalformedRow, ["23:59:40 stands below 23:59:48", "ascend"]),
        (GOOD.replace("23:59:50", "23:59:48"), MalformedRow, ["stands below 23:59:48"]),
        (GOOD.rsplit("\n", 2)[0] + "\n", IncompleteTrace, ["23:59:58", "0:00:00", "--skip-bad"]),
        (GOOD[:-8], MalformedRow, [":12: 1 fields where 2"]),
        (GOOD + "0:00:02,0.5\n", MalformedRow, ["stands below", "ascend"]),
        (",8/1/2017\n", UnknownFormat, ["signal"]),
        (GOOD.replace(",8/1/2017", ",13/1/2017"), TraceError, ["13/1/2017", "month/day/year"]),
        ("dtm,f\n2026-06-22 00:00:00,50.0\n", UnknownFormat, ["pjm_wide"]),
    ],
)
def test_what_is_malformed_is_named(write, text, error, words):
    with pytest.raises(error) as refused:
        open_signal(write(text)).read_all()
    for word in words:
        assert word in str(refused.value), refused.value


def test_dates_that_do_not_ascend_are_refused(write):
    text = GOOD.replace(",8/1/2017", ",8/2/2017,8/1/2017").replace("\n", ",0\n").replace("8/1/2017,0", "8/1/2017")
    with pytest.raises(AmbiguousDates, match="8/1/2017 stands behind 2017-08-02"):
        open_signal(write(text))


def test_bad_rows_can_be_counted_instead(write):
    text = GOOD.replace("0.05", "x").replace("0.07", "7").replace("0.03", "")
    trace = open_signal(write(text.rsplit("\n", 2)[0] + "\n"), skip_bad=True)
    rows = trace.read_all()
    assert rows["frac"][~np.isnan(rows["frac"])].tolist() == [0.0, 0.01, 0.02, 0.04, 0.06, 0.08, 0.09]
    assert +trace.rejected == {"malformed": 2, "incomplete": 1, "missing": 1}


def test_a_header_alone_is_empty(write):
    trace = open_signal(write(",8/1/2017\nnever\n".replace("never", "0:00:00,x")), skip_bad=True)
    with pytest.raises(EmptyTrace):
        trace.read_all()


def test_options_and_doors(write):
    path = write(GOOD)
    with pytest.raises(BadOption, match="--tz"):
        open_signal(path, tz="Mars/Olympus")
    with pytest.raises(BadOption, match=r"--format.*neso"):
        open_signal(path, format="neso")
    for options in ({}, {"format": "pjm_wide"}):
        with pytest.raises(NotFrequency, match="regulation signal"):
            open_trace(path, **options)
    utc = open_signal(path, tz="UTC").read_all()
    assert utc["t_ns"][-1] == ns(datetime(2017, 8, 2, tzinfo=UTC))


def test_gzip_bom_quotes_and_24_hours_are_no_obstacle(write):
    plain = open_signal(write(GOOD)).read_all()
    other = "\ufeff" + GOOD.replace("0:00:00,", '"24:00:00",').replace("\n", "\r\n")
    assert open_signal(write(gzip.compress(other.encode()), "s.csv.gz")).read_all().tobytes() == plain.tobytes()


# ---- figures


def test_figures_are_numpys(write):
    rng = np.random.default_rng(5)
    values = np.round(np.clip(np.cumsum(rng.normal(0, 0.05, 1801)), -1, 1), 6)
    report = inspect_signal(open_signal(write(wide([date(2017, 8, 1)], [values.tolist()], 86_400 - 3600))))
    found = report.signal
    assert (found.min, found.max) == (values.min(), values.max())
    assert found.mean == pytest.approx(values.mean(), abs=1e-12)
    assert found.std == pytest.approx(values.std(), abs=1e-12)
    assert found.mileage_pu_h == pytest.approx(np.abs(np.diff(values)).sum(), rel=1e-12)
    assert found.lag1 == pytest.approx(np.corrcoef(values[:-1], values[1:])[0, 1], abs=1e-10)


def test_figures_do_not_depend_on_blocks(write, monkeypatch):
    values = [((k * 37) % 101) / 101 for k in range(500)]
    path = write(wide([date(2017, 8, 1)], [values], 86_400 - 998))
    whole = inspect_signal(open_signal(path)).signal
    monkeypatch.setattr(pjm_wide, "CHUNK_ROWS", 7)
    parts = inspect_signal(open_signal(path)).signal
    for a, b in zip(vars(whole).values(), vars(parts).values(), strict=True):
        assert a == pytest.approx(b, rel=1e-12)


def test_what_is_missing_is_nobodys_neighbour(write):
    values = [0.0, 0.5, None, 0.5, 0.0, 1.0]
    found = inspect_signal(open_signal(write(wide([date(2017, 8, 1)], [values], 86_400 - 10)))).signal
    # Steps of 0.5, 0.5 and 1 in three periods of 2 s.
    assert found.mileage_pu_h == pytest.approx(2.0 / (6 / 3600))
    assert found.mean == pytest.approx(0.4)


def test_what_lies_beyond_a_gap_is_nobodys_neighbour(write):
    lines = [",8/1/2017"] + [f"23:59:{s:02d},{v}" for s, v in ((30, 0.0), (32, 0.5), (34, 0.0), (56, 1.0), (58, 0.5))]
    report = inspect_signal(open_signal(write("\n".join([*lines, "0:00:00,0.0", ""]))))
    # Five steps, of which the one of 22 s counts nothing: four of 0.5 in 8 s.
    assert report.signal.mileage_pu_h == pytest.approx(2.0 / (8 / 3600))
    assert report.gaps.count == 1


@pytest.mark.parametrize("values", [[0.3, 0.3, 0.3], [None, None], [None, 0.3]])
def test_a_signal_that_stands_still_or_is_not_there_has_no_correlation(write, values):
    found = inspect_signal(
        open_signal(write(wide([date(2017, 8, 1)], [values], 86_400 - 2 * (len(values) - 1))))
    ).signal
    assert found.lag1 is None
    assert found.mean == (None if values[-1] is None else 0.3)


@pytest.mark.skipif(not REAL.is_file(), reason=f"no recorded signal at {REAL}")
def test_the_published_hours_read_as_their_readme_says():
    report = inspect_signal(open_signal(REAL))
    assert (report.rows, report.period_s, report.gaps.count, report.duplicates) == (14_401, 2.0, 0, 0)
    assert (report.start, report.end, report.rejected) == ("2017-08-01T20:00:00Z", "2017-08-02T04:00:00Z", {})
    assert (report.signal.min, report.signal.max) == (-1.0, pytest.approx(0.885, abs=5e-4))
    assert report.signal.mean == pytest.approx(-0.46, abs=5e-3)
    assert report.signal.mileage_pu_h == pytest.approx(5.0, abs=0.05)
    assert report.signal.lag1 == pytest.approx(0.9999, abs=5e-5)
    text = REAL.read_text()
    rows = open_signal(REAL).read_all()
    assert list(zip(rows["t_ns"].tolist(), rows["frac"].tolist(), strict=True)) == naive(text)
