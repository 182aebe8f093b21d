"""The trace readers on small files, one trap each, and against slow twins (`float`, `datetime`, the csv module)."""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from telemetry.samples import FREQUENCY, Quality
from telemetry.traces import (
    BadOption,
    EmptyTrace,
    MalformedRow,
    MissingOption,
    TraceError,
    TraceNotFound,
    UnknownColumn,
    UnknownFormat,
    UnknownUnit,
    inspect,
    open_trace,
    recognise,
    textfile,
)
from telemetry.traces.cells import WIDEST, number, numbers, split
from telemetry.traces.stamps import Times

S = 1_000_000_000
T0 = datetime(2026, 6, 22, tzinfo=UTC)
NESO = "dtm,f\n2026-06-22 00:00:00,50.087\n2026-06-22 00:00:01,50.081\n2026-06-22 00:00:02,49.9\n"


def ns(at: datetime) -> int:
    return round((at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * S


@pytest.fixture
def write(tmp_path):
    def put(text: str | bytes, name: str = "trace.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return put


# ---- formats and files


def test_neso(write):
    trace = open_trace(write(NESO))
    rows = trace.read_all()
    assert (trace.format, trace.nominal_hz, trace.rows, dict(trace.rejected)) == ("neso", 50.0, 3, {})
    assert rows.dtype == FREQUENCY
    assert rows["t_ns"].tolist() == [ns(T0), ns(T0) + S, ns(T0) + 2 * S]
    assert (rows["rx_ns"] == rows["t_ns"]).all()
    assert rows["hz"].tolist() == [50.087, 50.081, 49.9]
    assert np.isnan(rows["volt_frac"]).all()
    assert not rows["quality"].any()


@pytest.mark.parametrize("name", ["trace.csv.gz", "trace.csv"])
def test_gzip_is_told_by_content_not_by_name(write, name):
    plain, zipped = open_trace(write(NESO, "plain.gz")), open_trace(write(gzip.compress(NESO.encode()), name))
    assert plain.read_all().tobytes() == zipped.read_all().tobytes()


def test_a_trace_can_be_read_again(write):
    trace = open_trace(write(NESO + "2026-06-22 00:00:03,\n"))
    assert trace.read_all().tobytes() == trace.read_all().tobytes()
    assert (trace.rows, dict(trace.rejected)) == (4, {"missing": 1})


def test_index_hz_takes_its_time_from_the_caller(write):
    path = write("".join(f"{i},{59.99 + 0.001 * i:.17f}\n" for i in range(5)))
    assert recognise(path) == "index_hz"
    trace = open_trace(path, start="2022-08-28T00:00:00-04:00", step_s=2)
    rows = trace.read_all()
    assert (trace.format, trace.nominal_hz) == ("index_hz", 60.0)
    assert rows["t_ns"].tolist() == [ns(datetime(2022, 8, 28, 4, tzinfo=UTC)) + 2 * i * S for i in range(5)]
    assert rows["hz"].tolist() == [float(f"{59.99 + 0.001 * i:.17f}") for i in range(5)]


def test_index_hz_keeps_literal_zeros_and_fractions_of_seconds(write):
    trace = open_trace(write("0,60.1\n1,0.0\n3,60.2\n"), start=7 * S, step_s=0.1)
    assert trace.read_all()["hz"].tolist() == [60.1, 0.0, 60.2]
    assert trace.read_all()["t_ns"].tolist() == [7 * S, 7 * S + S // 10, 7 * S + 3 * S // 10]


@pytest.mark.parametrize(("given_", "option"), [({"step_s": 2}, "--start"), ({"start": "2022-01-01"}, "--step-s")])
def test_index_hz_without_start_or_step_names_the_option(write, given_, option):
    with pytest.raises(MissingOption, match=option):
        open_trace(write("0,60.0\n1,60.1\n"), **given_)


# ---- tables

TABLES = {
    "comma": "time,Hz\n2026-06-22 00:00:00,50.1\n2026-06-22 00:00:01,49.9\n",
    "T and Z": "time,Hz\n2026-06-22T00:00:00Z,50.1\n2026-06-22T00:00:01Z,49.9\n",
    "zone": "time,Hz\n2026-06-22T02:00:00+02:00,50.1\n2026-06-22T02:00:01+02:00,49.9\n",
    "fraction and zone": "time,Hz\n2026-06-22 02:00:00.000+0200,50.1\n2026-06-22 02:00:01.000+0200,49.9\n",
    "fraction left out": "time,Hz\n2026-06-22 00:00:00.000000,50.1\n2026-06-22 00:00:01,49.9\n",
    "semicolon, decimal comma": "Zeit;Frequenz\n22.06.2026 00:00:00;50,1\n22.06.2026 00:00:01;49,9\n",
    "tab": "Timestamp\tFrequency (Hz)\n2026-06-22 00:00:00\t50.1\n2026-06-22 00:00:01\t49.9\n",
    "time last": "Hz,time\n50.1,22-Jun-2026 00:00:00\n49.9,22-Jun-2026 00:00:01\n",
    "quotes, CRLF": '"time","Hz"\r\n"2026-06-22 00:00:00","50.1"\r\n"2026-06-22 00:00:01","49.9"\r\n',
    "blanks": "time, Hz\n2026-06-22 00:00:00, 50.1\n2026-06-22 00:00:01, 49.9\n",
    "BOM on every row": "\ufefftime,Hz\n\ufeff2026-06-22 00:00:00,50.1\n\ufeff2026-06-22 00:00:01,49.9\n",
    "no last newline, blank line": "time,Hz\n2026-06-22 00:00:00,50.1\n\n2026-06-22 00:00:01,49.9",
    "one-digit hour": "time,Hz\n2026-06-22 0:00:00,50.1\n2026-06-22 0:00:01,49.9\n",
    "mHz deviation": "time;deviation mHz\n2026-06-22 00:00:00;100\n2026-06-22 00:00:01;-100\n",
    "mHz deviation by range": "time;freq\n2026-06-22 00:00:00;100\n2026-06-22 00:00:01;-100\n",
    "mHz": "time;f\n2026-06-22 00:00:00;50100\n2026-06-22 00:00:01;49900\n",
    "further columns": "id,time,rocof_hz_s,Hz,note\n1,2026-06-22 00:00:00,0.1,50.1,x\n2,2026-06-22 00:00:01,0,49.9,\n",
    "phases": "Time;Freq phase A;Freq phase B\n2026-06-22 00:00:00;50.1;1\n2026-06-22 00:00:01;49.9;1\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_sniffed(write, name):
    trace = open_trace(write(TABLES[name]))
    rows = trace.read_all()
    assert (trace.format, trace.nominal_hz, dict(trace.rejected)) == ("table", 50.0, {})
    assert rows["t_ns"].tolist() == [ns(T0), ns(T0) + S]
    assert rows["hz"] == pytest.approx([50.1, 49.9], abs=1e-12)


def test_a_latin_1_header_is_no_obstacle(write):
    path = write("Zeit;Fréquence\n22.06.2026 00:00:00;50,1\n".encode("latin-1"))
    assert open_trace(path).read_all()["hz"].tolist() == [50.1]


def test_columns_can_be_named_in_any_case_or_numbered(write):
    path = write("a,b,c\n1,2026-06-22 00:00:00,60.1\n")
    for columns in ({"time_col": "B", "hz_col": "c"}, {"time_col": "2", "hz_col": "3"}):
        trace = open_trace(path, format="table", **columns)
        assert trace.read_all()["hz"].tolist() == [60.1]
        assert trace.nominal_hz == 60.0


def test_a_table_without_a_header_needs_numbers(write):
    path = write("2026-06-22 00:00:00,-18.2\n2026-06-22 00:00:10,5.5\n")
    trace = open_trace(path, format="table", time_col="1", hz_col="2", nominal_hz=60)
    assert trace.read_all()["hz"] == pytest.approx([59.9818, 60.0055], abs=1e-12)


SITES = ",TIME,CAP,TEX\n0,23:59:58,65.9,9.0\n1,23:59:59,69.2,7.4\n2,00:00:00,-72.4,-4.6\n"


def test_a_site_of_several_with_times_of_day(write):
    trace = open_trace(write(SITES), site="TEX", nominal_hz=60, start="2026-06-21")
    rows = trace.read_all()
    assert rows["t_ns"].tolist() == [ns(T0) - 2 * S, ns(T0) - S, ns(T0)]  # past midnight
    assert rows["hz"] == pytest.approx([60.009, 60.0074, 59.9954], abs=1e-12)
    assert trace.nominal_hz == 60.0


def test_times_of_day_need_a_day(write):
    with pytest.raises(MissingOption, match="--start"):
        open_trace(write(SITES), site="TEX")


def test_midnight_between_two_chunks(write, monkeypatch):
    path = write(SITES)
    whole = open_trace(path, site="CAP", start="2026-06-21").read_all()
    monkeypatch.setattr(textfile, "CHUNK_BYTES", 20)
    assert open_trace(path, site="CAP", start="2026-06-21").read_all().tobytes() == whole.tobytes()


VOLTS = "V L1;V L2;Hz;time;Voltage L3\n" + "".join(
    f"{a};{b};50.0;2026-06-22 00:00:{i:02d};{c}\n"
    for i, (a, b, c) in enumerate([(100, 200, 300)] * 5 + [(50, 200, 300), (100, 200, 3), ("", 150, 300), ("", "", "")])
)


def test_voltages_become_the_smallest_share_of_nominal(write):
    rows = open_trace(write(VOLTS), volt_col="V L1,V L2,Voltage L3").read_all()
    assert rows["volt_frac"][:8].tolist() == pytest.approx([1.0] * 5 + [0.5, 0.01, 0.75])
    assert math.isnan(rows["volt_frac"][8])
    assert not rows["quality"].any()


def test_voltage_columns_are_found_named_or_left_out(write):
    path = write(VOLTS)
    assert open_trace(path).read_all()["volt_frac"][6] == pytest.approx(0.01)  # the one called "Voltage"
    assert open_trace(path, volt_col="V L1").read_all()["volt_frac"][6] == 1.0
    assert open_trace(path, volt_col="V L1", volt_nominal=400).read_all()["volt_frac"][0] == 0.25
    assert np.isnan(open_trace(path, volt_col=()).read_all()["volt_frac"]).all()


def test_nominal_voltage_is_of_the_first_sixty_rows_only(write):
    text = "time,Hz,voltage\n" + "".join(
        f"2026-06-22 00:{i // 60:02d}:{i % 60:02d},50,{230 if i < 60 else 1}\n" for i in range(600)
    )
    rows = open_trace(write(text)).read_all()
    assert rows["volt_frac"][[0, 599]].tolist() == pytest.approx([1.0, 1 / 230])


def test_a_voltage_column_that_starts_dead_is_refused(write):
    with pytest.raises(MissingOption, match="--volt-col"):
        open_trace(write("time,Hz,voltage\n2026-06-22 00:00:00,50,0\n"))


# ---- zones


def test_naive_times_are_in_the_zone_given(write):
    path = write("time,Hz\n28-Apr-2025 11:00:00,50.0\n")
    for tz in ("Europe/Madrid", "+02:00"):
        assert open_trace(path, tz=tz).read_all()["t_ns"].tolist() == [ns(datetime(2025, 4, 28, 9, tzinfo=UTC))]
    assert open_trace(path).read_all()["t_ns"].tolist() == [ns(datetime(2025, 4, 28, 11, tzinfo=UTC))]


@pytest.mark.parametrize("chunk_bytes", [1 << 19, 100])
@pytest.mark.parametrize("day", [datetime(2025, 10, 25, 22, tzinfo=UTC), datetime(2025, 3, 29, 22, tzinfo=UTC)])
def test_both_changes_of_summer_time(write, monkeypatch, day, chunk_bytes):
    zone, steps = ZoneInfo("Europe/Berlin"), [day + timedelta(minutes=i) for i in range(300)]
    path = write("time,Hz\n" + "".join(f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S},50.0\n" for at in steps))
    monkeypatch.setattr(textfile, "CHUNK_BYTES", chunk_bytes)
    assert open_trace(path, tz="Europe/Berlin").read_all()["t_ns"].tolist() == [ns(at) for at in steps]


def test_an_explicit_zone_wins_over_the_one_given(write):
    path = write("time,Hz\n2026-06-22T00:00:00Z,50.0\n2026-06-22T02:00:01+02:00,50.0\n2026-06-21T20:00:02-0400,50.0\n")
    assert open_trace(path, tz="Asia/Tokyo").read_all()["t_ns"].tolist() == [ns(T0) + i * S for i in range(3)]


# ---- bad rows


@pytest.mark.parametrize("cell", ["", " ", "N/A", "leer", "NaN", "nan", "-", "null"])
def test_a_missing_cell_is_kept_marked_and_counted(write, cell):
    trace = open_trace(write(NESO + f"2026-06-22 00:00:03,{cell}\n2026-06-22 00:00:04,50.2\n"))
    rows = trace.read_all()
    assert rows.size == 5
    assert math.isnan(rows["hz"][3])
    assert rows["quality"].tolist() == [0, 0, 0, Quality.MISSING, 0]
    assert dict(trace.rejected) == {"missing": 1}


MALFORMED = {
    "2026-06-22 00:00:03,abc": "'abc' is not a number",
    "2026-06-22 00:00:03,50.0.1": "'50.0.1' is not a number",
    "2026-06-22 00:00:03,1_0": "'1_0' is not a number",
    "2026-06-22 00:00:03,inf": "'inf' is not a number",
    "2026-06-22 00:00:03,9e999": "'9e999' is out of range",
    "2026-06-22 00:00:03": "1 fields where 2 are expected",
    "2026-06-22 00:00:03,50.0,1": "3 fields where 2 are expected",
    "2026-06-31 00:00:03,50.0": "time '2026-06-31 00:00:03'",
    "2026-06-22 24:00:00,50.0": "time '2026-06-22 24:00:00'",
    "2026-06-22 00:60:00,50.0": "time '2026-06-22 00:60:00'",
    "0026-06-22 00:00:00,50.0": "year 26 does not fit",
    "22/06/2026 00:00:03,50.0": "is not understood",
    "yesterday,50.0": "time 'yesterday' is not understood",
    ",50.0": "time '' is not understood",
    "12:00:00,50.0": "has no date: give --start",
}


@pytest.mark.parametrize("row", MALFORMED)
def test_a_malformed_row_is_named_by_file_line_and_reason(write, row):
    path = write(NESO + row + "\n2026-06-22 00:00:04,50.2\n")
    with pytest.raises(MalformedRow, match=re.escape(MALFORMED[row])) as caught:
        open_trace(path).read_all()
    assert str(caught.value).startswith(f"{path}:5: ")
    assert "\n" not in str(caught.value)
    assert caught.value.line == 5


@pytest.mark.parametrize("row", MALFORMED)
def test_malformed_rows_can_be_counted_and_dropped(write, row):
    trace = open_trace(write(NESO + row + "\n2026-06-22 00:00:04,50.2\n"), skip_bad=True)
    assert trace.read_all()["hz"].tolist() == [50.087, 50.081, 49.9, 50.2]
    assert (trace.rows, dict(trace.rejected)) == (4, {"malformed": 1})


def test_the_line_of_a_bad_row_far_down_counts_every_line(write, monkeypatch):
    monkeypatch.setattr(textfile, "CHUNK_BYTES", 1000)
    good = "".join(f"{T0 + timedelta(seconds=i):%Y-%m-%d %H:%M:%S},50.0\n" for i in range(20_000))
    trace = open_trace(write("dtm,f\n\n" + good + "oops\n"))
    with pytest.raises(MalformedRow) as caught:
        trace.read_all()
    assert caught.value.line == 20_003


def test_lines_with_too_many_and_too_few_fields_do_not_cancel_out(write):
    path = write("dtm,f\n2026-06-22 00:00:00\n2026-06-22 00:00:01,50.0,50.1\n2026-06-22 00:00:02,50.2\n")
    trace = open_trace(path, skip_bad=True)
    assert trace.read_all()["hz"].tolist() == [50.2]
    assert trace.rejected["malformed"] == 2


@pytest.mark.parametrize("index", ["x", "-1", "1.5", "", "99999999999999999999"])
def test_a_bad_index_is_malformed(write, index):
    path = write(f"0,60.0\n1,60.0\n2,60.0\n3,60.0\n{index},60.1\n")
    with pytest.raises(MalformedRow, match="index") as caught:
        open_trace(path, start="2022-01-01", step_s=2)
    assert caught.value.line == 5


# ---- errors about the whole file


def raised(call) -> str:
    with pytest.raises(TraceError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return f"{type(caught.value).__name__} {caught.value}"


def test_errors_name_the_file_and_the_remedy(write, tmp_path):
    neso = write(NESO, "neso.csv")
    table = write("time,Frequency,x\n2026-06-22 00:00:00,50.0,1\n", "table.csv")
    cases = [
        (lambda: open_trace(tmp_path / "none.csv"), TraceNotFound, "none.csv"),
        (lambda: open_trace(tmp_path), TraceNotFound, "directory"),
        (lambda: open_trace(write("", "empty.csv")), EmptyTrace, "empty"),
        (lambda: open_trace(write("\n \n", "blank.csv")), EmptyTrace, "empty"),
        (lambda: open_trace(write("dtm,f\n", "header.csv")), EmptyTrace, "no rows"),
        (lambda: open_trace(write("time,Hz\n", "header2.csv")), EmptyTrace, "no rows"),
        (lambda: open_trace(write("what is this\n", "text")), UnknownFormat, "rte, openpmu, index_hz, pgf, table"),
        (lambda: open_trace(write("what is this\n", "text")), UnknownFormat, "--format table with --time-col"),
        (lambda: open_trace(write(bytes(range(256)) * 10, "binary")), UnknownFormat, "binary"),
        (lambda: open_trace(write(b"1" * 3_000_000, "line")), UnknownFormat, "no end of line"),
        (lambda: open_trace(neso, format="nesso"), BadOption, "--format"),
        (lambda: open_trace(table, format="neso"), UnknownFormat, "dtm,f"),
        (lambda: open_trace(neso, format="index_hz"), UnknownFormat, "index,Hz"),
        (lambda: open_trace(neso, tz="Mars/Base"), BadOption, "--tz: no zone called 'Mars/Base'"),
        (lambda: open_trace(neso, tz="../x"), BadOption, "--tz"),
        (lambda: open_trace(neso, nominal_hz=55), BadOption, "--nominal-hz"),
        (lambda: open_trace(table, start="tomorrow"), BadOption, "--start"),
        (lambda: open_trace(table, hz_col="Frequncy"), UnknownColumn, "nearest is 'Frequency'"),
        (lambda: open_trace(table, time_col="tme"), UnknownColumn, "--time-col: no column 'tme'; nearest is 'time'"),
        (lambda: open_trace(table, volt_col="9"), UnknownColumn, "--volt-col"),
        (lambda: open_trace(table, site="London"), UnknownColumn, "--site"),
        (lambda: open_trace(write(SITES, "s"), format="table"), UnknownColumn, "--hz-col or --site"),
        (lambda: open_trace(write("a,Hz\n1,50\n", "a"), format="table"), UnknownColumn, "--time-col"),
        (lambda: open_trace(write("time,Hz Paris,Hz Bern\n1,50,50\n", "b")), UnknownColumn, "several"),
        (lambda: open_trace(write("time,freq\n2026-06-22 00:00:00,0.01\n", "u")), UnknownUnit, "'freq'"),
        (lambda: open_trace(write("dtm,f\n2026-06-22 00:00:00,-18\n", "v")), UnknownUnit, "-18"),
        (lambda: open_trace(write("dtm,f\n2026-06-22 00:00:00,\n", "w")), MissingOption, "--nominal-hz"),
        (lambda: open_trace(write("0,60\n1,60\n", "i"), start=0, step_s=-1), BadOption, "--step-s"),
        (lambda: open_trace(write(gzip.compress(NESO.encode() * 99)[:-20], "cut")).read_all(), TraceError, "gzip"),
    ]
    for call, kind, text in cases:
        message = raised(call)
        assert message.startswith(kind.__name__ + " "), message
        assert text in message


# ---- whatever the chunks


def test_blocks_are_bounded(write):
    rows = "".join(f"{i},60\n" for i in range(150_000))
    sizes = [block.size for block in open_trace(write(rows), start=0, step_s=1)]
    assert max(sizes) <= 65_536
    assert sum(sizes) == 150_000


CELL = st.sampled_from(["50.0", "49.987", "", "N/A", "0.0", "abc", "50,1", "5e1", "50.123456789012345678", "-1", "+50"])
TIME = st.sampled_from(
    ["2026-06-22 00:00:01", "2026-06-22T00:00:01.5", "2026-06-22 00:00:02+01:00", "22.06.2026 00:00:03"]
)
LINE = st.one_of(st.builds("{};{}".format, TIME, CELL), st.sampled_from(["", ";", "a;b;c", "x"]))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINE, max_size=25), st.integers(1, 200))
def test_any_chunk_size_gives_the_same(tmp_path, lines, size):
    path = tmp_path / "any.csv"
    path.write_text("\n".join(["time;Hz", "2026-06-22 00:00:00;50.0", *lines]))
    trace = open_trace(path, skip_bad=True)
    whole, rejected = trace.read_all(), dict(trace.rejected)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(textfile, "CHUNK_BYTES", size)
        assert trace.read_all().tobytes() == whole.tobytes()
    assert dict(trace.rejected) == rejected
    # The slow twin: one row at a time by the standard library.
    expected: list[tuple[int, float]] = []
    malformed = 0
    for row in csv.reader(path.read_text().splitlines()[1:], delimiter=";"):
        if not row:
            continue
        try:
            at, cell = row
            expected.append((_slow_ns(at), math.nan if cell in ("", "N/A") else float(cell.replace(",", "."))))
        except ValueError:
            malformed += 1
    assert whole["t_ns"].tolist() == [t for t, _ in expected]
    np.testing.assert_array_equal(whole["hz"], [hz for _, hz in expected])
    assert rejected.get("malformed", 0) == malformed
    assert rejected.get("missing", 0) == sum(math.isnan(hz) for _, hz in expected)


def _slow_ns(text: str) -> int:
    text = re.sub(r"^(\d\d)\.(\d\d)\.(\d{4})", r"\3-\2-\1", text)
    at = datetime.fromisoformat(text)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


# ---- numbers and times against the standard library


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.from_regex(r"[+-]?[0-9]{0,20}[.,]?[0-9]{0,20}", fullmatch=True),
            st.floats(allow_nan=False, allow_infinity=False).map(repr),
            st.text("0123456789.,-+eE _naif", max_size=12),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_numbers_round_as_float_does(cells):
    encoded = [cell.encode() for cell in cells]
    data = np.frombuffer(b"".join(encoded) + bytes(WIDEST), np.uint8)
    length = np.array([len(cell) for cell in encoded])
    values, ok = numbers(data, np.cumsum(length) - length, length)
    for cell, value, read in zip(cells, values.tolist(), ok.tolist(), strict=True):
        if read:
            assert value == float(cell.replace(",", ".")), cell
            assert math.copysign(1, value) == math.copysign(1, number(cell) or value)
        elif re.fullmatch(r"[+-]?\d{1,12}([.,]\d{0,12})?", cell):
            pytest.fail(f"{cell!r} was left to the slow path")


@pytest.mark.parametrize(
    "cell",
    [
        "1.2.3",
        "1..2",
        ".",
        ",",
        "-",
        "+.",
        "12.345678.9",
        "1.2345678.90",
        "12345.6,7890",
        "1234567.89012345.",
        "/5",
        "5/",
        ":1",
    ],
)
def test_what_is_no_number_is_left_alone(cell):
    data = np.frombuffer(cell.encode() + bytes(WIDEST), np.uint8)
    assert not numbers(data, np.array([0]), np.array([len(cell)]))[1][0]


FORMS = [
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S.%f",
    "%Y/%m/%d %H:%M:%S",
    "%d.%m.%Y %H:%M:%S",
    "%d-%b-%Y %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S%z",
    "%Y-%m-%d %H:%M:%S.%f %z",
    "%Y-%m-%d %H:%M",
]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1)), min_size=1, max_size=10),
    st.sampled_from(FORMS),
    st.integers(-14 * 4, 14 * 4),
)
def test_times_in_every_form(tmp_path, times, form, quarters):
    zone = timezone(timedelta(minutes=15 * quarters))
    cells = [at.replace(tzinfo=zone).strftime(form) for at in times]
    path = tmp_path / "times.csv"
    path.write_text("time;Hz\n" + "".join(f"{cell};50.0\n" for cell in cells))
    sign, minutes = "-" if quarters < 0 else "+", abs(15 * quarters)
    got = open_trace(path, tz=f"{sign}{minutes // 60:02d}:{minutes % 60:02d}").read_all()["t_ns"]
    zero = datetime(1970, 1, 1, tzinfo=UTC)
    expected = [datetime.strptime(cell, form).replace(tzinfo=zone) - zero for cell in cells]
    assert got.tolist() == [delta // timedelta(microseconds=1) * 1000 for delta in expected]


RUN_FORMS = [*FORMS, "%Y%m%d%H%M%S", "%d/%m/%Y %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f"]
SPOIL = st.tuples(st.integers(0, 119), st.integers(0, 25), st.sampled_from("0123456789:-. T/xZ+"))


@settings(max_examples=60, deadline=None)
@given(
    st.datetimes(datetime(1980, 1, 1), datetime(2199, 1, 1)),
    st.sampled_from([0.1, 1.0, 10.0, 59.0]),
    st.sampled_from(RUN_FORMS),
    st.lists(SPOIL, max_size=5),
)
@example(datetime(2000, 1, 1), 0.1, "%Y%m%d%H%M%S", [(0, 1, "2")])  # 2200 without separators: a number, not a year
def test_cells_that_share_their_minute_are_read_as_each_by_itself(begin, step_s, form, spoils):
    begin = begin.replace(microsecond=0)
    zone = timezone(timedelta(hours=-3, minutes=-30))
    cells = [(begin + timedelta(seconds=step_s * k)).replace(tzinfo=zone).strftime(form) for k in range(120)]
    for k, place, char in spoils:
        cells[k] = cells[k][:place] + char + cells[k][place + 1 :]
    encoded = [cell.encode() for cell in cells]
    data = np.frombuffer(b"".join(encoded) + bytes(WIDEST), np.uint8)
    length = np.array([len(cell) for cell in encoded])
    times = Times(UTC, None, day_first=True)
    wall, offset, ok = times.read(data, np.cumsum(length) - length, length)
    for k, cell in enumerate(cells):
        try:
            expected = times.one(cell.strip())
        except ValueError:
            expected = None
        if ok[k]:
            assert (int(wall[k]), int(offset[k])) == expected, cell
    assert np.count_nonzero(~ok) <= len(spoils)


def test_split_takes_blank_lines_and_blanks():
    data = b"a, bc\n\nd,e,f\n , \n"
    fields = split(np.frombuffer(data + bytes(WIDEST), np.uint8)[: len(data)], ord(","), 2)
    assert fields.rows.tolist() == [0, 3]
    assert fields.cell(1)[1].tolist()[0] == 2


# ---- the report


def test_the_report_has_the_keys_and_figures_of_the_contract(write):
    seconds = [0, 1, 2, 2, 3, 7, 8, 20, 19, 21, 22]
    hz = ["50.1", "49.9", "0.0", "50.0", "N/A", "50.0", "50.0", "50.0", "50.0", "50.0", "x"]
    path = write("time;Hz\n" + "".join(f"2026-06-22 00:00:{s:02d};{v}\n" for s, v in zip(seconds, hz, strict=True)))
    report = inspect(open_trace(path, skip_bad=True)).as_dict()
    assert json.loads(json.dumps(report)) == {
        "format": "table",
        "rows": 10,
        "start": "2026-06-22T00:00:00Z",
        "end": "2026-06-22T00:00:21Z",
        "period_s": 1.0,
        "jitter_s": {"rms": 0.0, "max": 0.0},
        "gaps": {"count": 2, "total_s": 13.0, "longest_s": 10.0, "longest_start": "2026-06-22T00:00:08Z"},
        "duplicates": 1,
        "rejected": {"duplicate": 1, "malformed": 1, "missing": 1, "order": 1, "zero": 1},
        "hz": {"min": 49.9, "max": 50.1, "mean": pytest.approx(50.0), "std": pytest.approx(0.05)},
        "nominal_hz": 50.0,
        "repaired": None,
    }


def test_order_and_duplicates_are_kept_in_the_rows(write):
    path = write("dtm,f\n2026-06-22 00:00:05,50.0\n2026-06-22 00:00:05,50.0\n2026-06-22 00:00:01,50.0\n")
    trace = open_trace(path)
    assert trace.read_all().size == 3
    assert inspect(trace).rejected == {"duplicate": 1, "order": 1}


def test_a_report_on_one_row(write):
    report = inspect(open_trace(write("dtm,f\n2026-06-22 00:00:00.25,60.0\n")))
    assert (report.period_s, report.gaps.count, report.hz.std, report.nominal_hz) == (None, 0, 0.0, 60.0)
    assert report.start == "2026-06-22T00:00:00.250000Z"


# ---- units


@pytest.mark.parametrize(
    ("name", "cells", "expected"),
    [
        ("f", [49.9, 50.0, 50.1], [49.9, 50.0, 50.1]),
        ("f", [50.0, 0.0, 0.0, 0.0], [50.0, 0.0, 0.0, 0.0]),  # zeros say nothing about the unit
        ("Hz", [50.0, -1.0, -1.0], [50.0, -1.0, -1.0]),  # a column that says Hz is in Hz, garbage and all
        ("f", [-18.2, 5.0, 0.0], [49.9818, 50.005, 50.0]),
        ("f (mHz)", [0.5, -1.5, 1.0], [50.0005, 49.9985, 50.001]),
        ("deviation mHz", [30.0, 45.0, 50.0, 60.0], [50.03, 50.045, 50.05, 50.06]),  # looks like Hz, is not
        ("frequency mHz", [50_010.0, 49_990.0], [50.01, 49.99]),
    ],
)
def test_the_unit_is_told_by_range_and_name(write, name, cells, expected):
    text = f"time;{name}\n" + "".join(f"2026-06-22 00:00:{i:02d};{cell}\n" for i, cell in enumerate(cells))
    assert open_trace(write(text)).read_all()["hz"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("name", "cells"), [("f", [0.1, -0.2]), ("Hz", [-18.0, 12.0]), ("f", [9e3, -8e3])])
def test_an_unclear_unit_is_refused(write, name, cells):
    text = f"time;{name}\n" + "".join(f"2026-06-22 00:00:{i:02d};{cell}\n" for i, cell in enumerate(cells))
    with pytest.raises(UnknownUnit, match=f"column '{name}'"):
        open_trace(write(text))


def test_a_leap_second_repeats_the_time_after_it(tmp_path):
    """Seconds since 1970 have no number for 23:59:60; a 61st second anywhere else is no time at all."""
    rows = ("2016-12-31T23:59:59Z,50.02", "2016-12-31T23:59:60Z,50.03", "2017-01-01T00:00:00Z,50.04")
    path = tmp_path / "leap.csv"
    path.write_text("\n".join(("time,hz", *rows)) + "\n")
    found = inspect(open_trace(path))
    assert (found.rows, found.duplicates) == (3, 1)
    path.write_text("\n".join(("time,hz", rows[0], rows[1].replace("59:60", "58:60"))) + "\n")
    with pytest.raises(MalformedRow, match="hour, minute or second out of range"):
        inspect(open_trace(path))
