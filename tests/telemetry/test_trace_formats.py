"""Every published format, and every oddity its files are known for: what is read, and the reason it is counted under.

Small generated files always; the published ones where they are at hand (FLYBALL_DATA, or `shared/data` beside).
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telemetry.quality import Gate, GateSettings
from telemetry.traces import (
    FORMATS,
    AmbiguousDates,
    BadChecksum,
    BadOption,
    IncompleteTrace,
    MalformedRow,
    MissingOption,
    TraceError,
    UnknownFormat,
    inspect,
    open_trace,
    recognise,
    textfile,
)
from telemetry.traces.picture import Picture
from tests.telemetry import trace_shapes as shapes

DATA = Path(os.environ.get("FLYBALL_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
PUBLISHED = DATA / "frequency"
S = 10**9

EASTERN = {"start": "2022-08-28T00:00:00-04:00", "step_s": 2.0}
PARIS = {"tz": "Europe/Paris"}

# what, content or file, options, format, nominal, rows, rejected, marked by the gate, missing time [s], first stamp
ODDITIES = [
    ("a clean day", shapes.neso(), {}, "neso", 50, 60, {}, {}, 0, "2026-06-22T00:00:00Z"),
    ("a report with its trailer", shapes.bmrs(), {}, "bmrs_freq", 50, 40, {}, {}, 0, "2026-06-22T00:00:00Z"),
    ("N/A, bare 50, notices", shapes.rte(), PARIS, "rte", 50, 60, {"missing": 9}, {"missing": 9}, 0,
     "2026-02-28T23:00:00Z"),
    ("day and month swapped", shapes.pgf(datetime(2017, 12, 1), 400), {"repair": "day-month"}, "pgf", 50, 400, {}, {},
     0, "2017-12-01T00:00:00Z"),
    ("repeated and lost stamps", shapes.openpmu_day(), {"start": "2012-12-12"}, "openpmu", 60, 95,
     {"duplicate": 1}, {"order": 1}, 0.6, "2012-12-12T04:50:55.900000Z"),
    ("one false sample, one zero", shapes.eastern(), EASTERN, "index_hz", 60, 60, {"zero": 1},
     {"spike": 1, "zero": 1}, 0, "2022-08-28T04:00:00Z"),
    ("a dead bus", shapes.toledo(), {"tz": "Europe/Madrid"}, "table", 50, 60, {"missing": 2}, {"missing": 2,
     "dead_bus": 20, "range": 14}, 0, "2026-04-28T09:00:00Z"),
    ("one of fifteen places", shapes.world(), {"site": "TEX", "start": "2020-01-01", "nominal_hz": 60.0}, "table", 60,
     30, {}, {}, 0, "2020-01-01T00:00:00Z"),
    ("a laboratory's PMU", shapes.laboratory(), {}, "table", 50, 44,
     {"missing": 2, "zero": 1, "duplicate": 2, "order": 1, "ahead": 1},
     {"missing": 2, "zero": 1, "order": 2, "clock_jump": 1}, 19, "2026-06-22T00:00:00Z"),
]  # fmt: skip

REAL = [
    ("bare 50, N/A", "ce_rte_10s/RTE_Frequence_2016_03.txt", PARIS, "rte", 50, 25_920, {"missing": 90}, {"missing": 90},
     0, "2016-02-29T23:00:00Z"),
    ("trailer", "gb_bmrs_15s/frequency.csv", {}, "bmrs_freq", 50, 5_513, {}, {}, 0, "2018-10-10T10:37:45Z"),
    ("repeats", "openpmu_10hz/2012-12-12_KT-H01_session1.csv", {"start": "2012-12-12"}, "openpmu", 60, 31_052,
     {"duplicate": 512}, {"order": 512}, 55.9, "2012-12-12T04:50:55.900000Z"),
    ("swapped", "pgf_cleaned_10s/2017_12.csv", {"repair": "day-month"}, "pgf", 50, 4_999, {}, {}, 0,
     "2017-12-01T00:00:00Z"),
    ("swapped", "pgf_cleaned_10s/2018_05.csv", {"repair": "day-month"}, "pgf", 50, 5_000, {}, {}, 0,
     "2018-05-01T00:00:00Z"),
    ("artefact", "us_eastern_2s/August_28_2022.csv", EASTERN, "index_hz", 60, 43_200, {}, {"spike": 1}, 0,
     "2022-08-28T04:00:00Z"),
    ("dead bus", "iberia_blackout_2s/toledo_data.csv", {"tz": "Europe/Madrid"}, "table", 50, 3_600, {"missing": 10},
     {"missing": 10, "dead_bus": 798, "range": 762, "spike": 1}, 0, "2025-04-28T09:00:00Z"),
]  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def put(content: str | bytes, name: str = "trace.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return put


def check(path, options, form, nominal_hz, rows, rejected, marked, missing_s, start):
    """The report and the gate on one file, as a row of the tables has it."""
    trace = open_trace(path, **options)
    gate = Gate(GateSettings(nominal_hz=trace.nominal_hz, stuck_s=float("inf")))
    report = inspect(trace, gate.check)
    assert (report.format, report.nominal_hz, report.rows, report.start) == (form, nominal_hz, rows, start)
    assert report.rejected == rejected
    assert gate.rejected() == marked
    assert report.duplicates == rejected.get("duplicate", 0)
    assert report.gaps.total_s == pytest.approx(missing_s, abs=1e-6)
    assert report.hz.std < 0.1 or "dead_bus" in marked


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzipped"])
@pytest.mark.parametrize("case", ODDITIES, ids=[case[0] for case in ODDITIES])
def test_every_oddity_has_its_counted_reason(write, case, packed):
    content = case[1].encode() if isinstance(case[1], str) else case[1]
    check(write(gzip.compress(content) if packed else content), *case[2:])


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"no recorded traces in {PUBLISHED}")
@pytest.mark.parametrize("case", REAL, ids=[case[1] for case in REAL])
def test_every_oddity_of_the_published_files_has_its_counted_reason(case):
    check(PUBLISHED / case[1], *case[2:])


@pytest.mark.parametrize("case", ODDITIES, ids=[case[0] for case in ODDITIES])
def test_the_chunks_do_not_matter(write, monkeypatch, case):
    path = write(case[1])
    whole = open_trace(path, **case[2]).read_all()
    for size in (1, 7, 64):
        monkeypatch.setattr(textfile, "CHUNK_BYTES", size)
        assert open_trace(path, **case[2]).read_all().tobytes() == whole.tobytes()


@pytest.mark.parametrize("case", ODDITIES, ids=[case[0] for case in ODDITIES])
def test_recognised_by_content_alone(write, case):
    # `world` needs to be told of a place: none of its columns says that it is a frequency.
    if "site" not in case[2]:
        assert recognise(write(case[1], "x.bin")) == case[3]


SPOILS = st.lists(st.tuples(st.floats(0, 1), st.sampled_from(["cut", "put", "change", "twice"]), st.binary(max_size=6)))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(ODDITIES), SPOILS, st.booleans(), st.integers(1, 500))
def test_a_spoilt_file_is_read_or_refused_by_name(tmp_path, case, spoils, skip_bad, size):
    """Whatever happens to the bytes: rows that are counted, or one of the named errors; nothing else."""
    data = bytearray(case[1].encode() if isinstance(case[1], str) else case[1])
    for where, how, what in spoils:
        at = int(where * len(data))
        if how == "cut":
            del data[at : at + len(what) * 20]
        elif how == "twice":
            data[at:at] = data[at : at + 50]
        else:
            data[at : at + (len(what) if how == "change" else 0)] = what
    path = tmp_path / "spoilt"
    path.write_bytes(bytes(data))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(textfile, "CHUNK_BYTES", size)
        try:
            trace = open_trace(path, skip_bad=skip_bad, **case[2])
            gate, picture = Gate(GateSettings(nominal_hz=trace.nominal_hz)), Picture(trace.nominal_hz)
            report = inspect(trace, lambda block: picture.add(gate.check(block)))
        except TraceError as error:
            told = str(error)
        else:
            told = None
    if told is not None:
        assert "\n" not in told
        assert told.startswith(str(path))
        return
    assert report.rows == sum(block.size for block in trace)
    assert skip_bad or not trace.dropped()
    picture.histogram(10)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from([None, *FORMATS]))
def test_any_bytes_in_any_format(tmp_path, data, form):
    path = tmp_path / "any"
    path.write_bytes(data)
    with contextlib.suppress(TraceError):
        open_trace(path, format=form, start=0, step_s=1.0, skip_bad=True).read_all()


# ---- bmrs_freq


def test_times_of_bmrs_are_compact(write):
    rows = open_trace(write(shapes.bmrs())).read_all()
    begin = int(shapes.BEGIN.replace(tzinfo=UTC).timestamp()) * S
    assert rows["t_ns"].tolist() == [begin + 15 * S * k for k in range(40)]
    assert rows["hz"].tolist() == shapes.hz(40)


BODY = shapes.bmrs(3)
NO_TRAILER = BODY[: BODY.index("FTR")]
INCOMPLETE = {
    "the trailer counts 5 rows, and 3 are here": (shapes.bmrs(3, said=5), 2, 3),
    "the trailer counts 1 rows, and 3 are here": (shapes.bmrs(3, said=1), 2, 3),
    "the trailer counts -1 rows": (BODY.replace("FTR,3", "FTR,many"), 4, 3),
    "no trailer FTR": (NO_TRAILER, 1, 3),
    "1 rows behind the trailer": (BODY + "FREQ,20260622010000,50.0\n", 1, 4),
    "a second trailer": (BODY + "FTR,0\n", 1, 3),
    "a header before the trailer": (NO_TRAILER + BODY, 1, 6),
}


@pytest.mark.parametrize("reason", INCOMPLETE)
def test_a_cut_report_is_refused_or_counted(write, reason):
    text, missing, rows = INCOMPLETE[reason]
    path = write(text)
    with pytest.raises(IncompleteTrace, match=re.escape(reason)) as caught:
        open_trace(path).read_all()
    assert "--skip-bad" in str(caught.value)
    trace = open_trace(path, skip_bad=True)
    assert trace.read_all().size == rows
    assert trace.rejected == trace.dropped() == {"incomplete": missing}


@pytest.mark.parametrize("size", [1 << 19, 40])
def test_several_reports_in_one_file(write, monkeypatch, size):
    monkeypatch.setattr(textfile, "CHUNK_BYTES", size)
    trace = open_trace(write(BODY + shapes.bmrs(5)))
    assert (trace.read_all().size, dict(trace.rejected)) == (8, {})


def test_a_record_of_another_kind_is_malformed_and_a_bad_row_still_a_row_of_the_report(write):
    text = NO_TRAILER + "FREQ,20260622000045,abc\nINDO,20260622000045,1\nFTR,4\n"
    with pytest.raises(MalformedRow, match="'abc' is not a number"):
        open_trace(write(text))
    trace = open_trace(write(text), skip_bad=True)
    assert trace.read_all().size == 3
    assert trace.rejected == {"malformed": 2}


# ---- rte


def test_rte_reads_bare_numbers_and_knows_its_notices_wherever_they_stand(write):
    text = shapes.rte()
    trace = open_trace(write(text + text), tz="Europe/Paris")
    rows = trace.read_all()
    assert rows.size == 120
    assert rows["hz"][7] == 50.0
    assert np.isnan(rows["hz"][20:29]).all()
    assert trace.rejected == {"missing": 18}
    assert rows["hz"][10] == pytest.approx(shapes.hz(60)[10], abs=1e-12)


def test_rte_takes_the_day_first(write):
    text = shapes.rte().replace(b"01/03/2026", b"03/12/2026")
    assert inspect(open_trace(write(text))).start == "2026-12-03T00:00:00Z"


def test_another_notice_is_no_known_line(write):
    text = shapes.rte() + b"une autre phrase\n"
    with pytest.raises(MalformedRow, match="1 fields where 3"):
        open_trace(write(text)).read_all()


def test_slashes_stay_refused_where_nobody_knows_their_order(write):
    with pytest.raises(MalformedRow, match="'01/03/2026 00:00:00' is not understood"):
        open_trace(write("time;Hz\n01/03/2026 00:00:00;50,0\n"))


# ---- pgf

DAY_ROWS = 8_640


@pytest.mark.parametrize("size", [1 << 19, 4000])
def test_swapped_days_are_seen_at_midnight_and_named_with_the_remedy(write, monkeypatch, size):
    monkeypatch.setattr(textfile, "CHUNK_BYTES", size)
    for begin in (datetime(2017, 12, 1), datetime(2018, 5, 12)):  # one ascends by months, one steps back
        path = write(shapes.pgf(begin, DAY_ROWS + 10))
        with pytest.raises(AmbiguousDates, match=r"day and month are swapped.*--repair day-month") as caught:
            open_trace(path)
        assert f"{begin:%Y-%m-%d} is meant" in str(caught.value)
        report = inspect(open_trace(path, repair="day-month"))
        assert (report.start, report.gaps.count, report.rejected) == (f"{begin:%Y-%m-%d}T00:00:00Z", 0, {})
        assert report.repaired == "day-month"
        as_written = inspect(open_trace(path, repair="none"))
        assert as_written.start != report.start or as_written.rejected
        assert as_written.repaired is None


def test_days_in_order_are_taken_as_they_are(write):
    path = write(shapes.pgf(datetime(2018, 5, 11), DAY_ROWS + 10, wrong=False))
    report = inspect(open_trace(path))
    assert (report.format, report.start, report.gaps.count) == ("pgf", "2018-05-11T00:00:00Z", 0)
    with pytest.raises(AmbiguousDates, match="swapped"):  # and mending what is right is noticed
        open_trace(path, repair="day-month").read_all()


def test_a_month_of_swapped_days_is_mended_row_by_row(write):
    n = 14 * 24  # an hour a row, from 1 December over the 12th, which is its own mirror, to the 14th
    times = shapes.clock(n, 3600, datetime(2017, 12, 1))
    text = "".join(f"{shapes.swapped(at)} {at:%H:%M:%S},{k % 7 - 30}\n" for k, at in enumerate(times))
    got = open_trace(write(text), repair="day-month").read_all()["t_ns"]
    assert got.tolist() == [int(at.replace(tzinfo=UTC).timestamp()) * S for at in times]


@pytest.mark.parametrize("day", [datetime(2018, 5, 13), datetime(2018, 5, 5)])
def test_dates_that_can_be_read_one_way_only_need_no_midnight(write, day):
    assert inspect(open_trace(write(shapes.pgf(day, 50)))).start == f"{day:%Y-%m-%d}T00:00:00Z"


def test_a_file_without_a_midnight_is_not_guessed(write):
    path = write(shapes.pgf(datetime(2017, 12, 1), 50))
    with pytest.raises(AmbiguousDates, match=r"2017-01-12 is 12 January or 01 December.*--repair none"):
        open_trace(path)
    assert inspect(open_trace(path, repair="none")).start == "2017-01-12T00:00:00Z"


@pytest.mark.parametrize("size", [1, 1 << 19])
def test_swapped_days_are_seen_in_any_format(write, monkeypatch, size):
    monkeypatch.setattr(textfile, "CHUNK_BYTES", size)
    times = shapes.clock(8, 3600, datetime(2017, 12, 1, 20))
    text = "dtm,f\n" + "".join(f"{shapes.swapped(at)} {at:%H:%M:%S},50.0\n" for at in times)
    with pytest.raises(AmbiguousDates, match="--repair day-month"):
        open_trace(write(text)).read_all()
    assert inspect(open_trace(write(text), repair="day-month")).end == "2017-12-02T03:00:00Z"


def test_a_gap_of_a_month_is_no_sign_of_anything(write):
    times = ["01-12 23:00", "02-12 02:00", "02-13 00:00", "02-13 12:00", "03-12 12:00", "04-12 00:30", "04-13 00:10"]
    text = "".join(f"2017-{at}:00,50.0\n" for at in times)
    assert open_trace(write("dtm,f\n" + text)).read_all().size == 7


def test_an_unknown_repair_is_refused(write):
    with pytest.raises(BadOption, match="--repair: no repair 'days'; known are day-month, none"):
        open_trace(write(shapes.neso()), repair="days")


def test_frequencies_without_a_header_are_not_taken_for_deviations(write):
    with pytest.raises(UnknownFormat, match="--format table"):
        open_trace(write("2017-01-13 00:00:00,50.01\n2017-01-13 00:00:10,49.99\n"))


# ---- openpmu


@pytest.mark.parametrize("end", ["", "\r", "\r\n", "\n"])
def test_sentences_with_any_line_ends_or_none(write, end):
    trace = open_trace(write(shapes.openpmu([86_399.8, 86_399.9, 0.0, 0.1], end)), start="2012-12-12")
    rows = trace.read_all()
    midnight = int(datetime(2012, 12, 13, tzinfo=UTC).timestamp()) * S
    assert rows["t_ns"].tolist() == [midnight + k * S // 10 for k in (-2, -1, 0, 1)]
    assert rows["hz"].tolist() == shapes.hz(4, 60.0)
    assert rows["volt_frac"][:3].tolist() == pytest.approx([1.550 / 1.5505, 1.551 / 1.5505, 1.552 / 1.5505])
    assert (trace.nominal_hz, dict(trace.rejected)) == (60.0, {})


def test_openpmu_needs_a_day(write):
    with pytest.raises(MissingOption, match="--start"):
        open_trace(write(shapes.openpmu_day()))


def test_a_damaged_sentence_is_named_and_counted(write):
    text = shapes.openpmu_day()
    at = text.index("*", 400) - 1
    damaged = text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]
    number = text[:at].count("$")
    path = write(damaged)
    with pytest.raises(BadChecksum, match=f":{number}: check sum") as caught:
        open_trace(path, start=0)
    assert caught.value.line == number
    trace = open_trace(path, start=0, skip_bad=True)
    assert trace.read_all().size == 94
    assert trace.rejected == {"checksum": 1}


def test_a_check_sum_has_two_hexadecimal_digits(write):
    text = "KTH01,V1xx0,1.000,1.5,60.0,"
    angle = next(f"{k}" for k in range(100) if shapes.xor(f"{text}{k}") % 16 == 15)
    high = shapes.xor(text + angle) // 16
    for said in (
        f"{high + 1:X}z",
        f"{high:X}G",
        f"{high:X}",
        f"0{high:X}F",
    ):  # the first is right where z is taken for -1
        path = write(shapes.openpmu([0.0]) + f"${text}{angle}*{said}")
        trace = open_trace(path, start=0, skip_bad=True)
        assert (trace.read_all().size, dict(trace.rejected)) == (1, {"malformed": 1}), said
    assert open_trace(write(shapes.openpmu([0.0]) + f"${text}{angle}*{high:x}f"), start=0).read_all().size == 2


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 9 * 46 - 1), st.integers(0, 255), st.integers(1, 300))
def test_no_changed_byte_is_taken_for_a_value(tmp_path, at, byte, size):
    """Each sentence is dropped and counted, or is one of those that were written."""
    clean = shapes.openpmu([100 + k / 10 for k in range(9)], "").encode()
    path = tmp_path / "damaged"
    path.write_bytes(clean)
    known = set(open_trace(path, start=0).read_all()[["t_ns", "hz"]].tolist())
    damaged = clean[:at] + bytes([byte]) + clean[at + 1 :]
    path.write_bytes(damaged)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(textfile, "CHUNK_BYTES", size)
        try:
            trace = open_trace(path, format="openpmu", start=0, skip_bad=True)
            rows = trace.read_all()
        except TraceError:
            assert at < 46  # the first sentence tells what the file is
            return
    assert set(rows[["t_ns", "hz"]].tolist()) <= known
    assert rows.size >= 7
    if damaged != clean and rows.size < 9:
        assert sum(trace.rejected.values()) >= 1


def test_one_channel_of_several(write):
    two = [
        shapes.sentence(f"{station},V1xx0,{100 + k}.000,1.5,{value},1.0")
        for k in range(3)
        for station, value in (("KTH01", 60.01), ("RIO02", 59.99))
    ]
    path = write("".join(two))
    with pytest.raises(MalformedRow, match="not of channel KTH01,V1xx0: choose it with --site"):
        open_trace(path, start=0)
    for site, value in (("KTH01", 60.01), ("RIO02", 59.99)):
        trace = open_trace(path, start=0, site=site)
        assert trace.read_all()["hz"].tolist() == [value] * 3
        assert not trace.rejected


# ---- tables


@pytest.mark.parametrize("k", range(15))
def test_each_of_fifteen_places(write, k):
    text = shapes.world()
    name = text.splitlines()[0].split(",")[2 + k]
    rows = open_trace(write(text), site=name, start="2026-06-22").read_all()
    expected = [50 + 1e-3 * float(line.split(",")[2 + k]) for line in text.splitlines()[1:]]
    assert rows["hz"] == pytest.approx(expected, abs=1e-12)
    assert rows["t_ns"][0] == int(shapes.BEGIN.replace(tzinfo=UTC).timestamp()) * S


def test_places_are_listed_where_none_is_chosen(write):
    with pytest.raises(TraceError, match="--site"):
        open_trace(write(shapes.world()), start="2020-01-01")


def test_phases_of_one_place(write):
    path = write(shapes.laboratory())
    assert open_trace(path, hz_col="Freq phase B").read_all()["hz"].tolist() == [49.9] * 44


@pytest.mark.parametrize("name", ["zero", "order", "ahead", "duplicate"])
def test_a_row_out_of_time_is_kept_for_the_gate_to_judge(write, name):
    del name
    rows = open_trace(write(shapes.laboratory())).read_all()
    assert rows.size == 44
    assert (rows["rx_ns"] == rows["t_ns"]).all()
    assert rows["hz"][9] == 0.0
    assert rows["t_ns"][25] - rows["t_ns"][24] > 59 * 86_400 * S


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"no recorded traces in {PUBLISHED}")
def test_the_published_places_have_the_extremes_that_are_known_of_them():
    path = PUBLISHED / "world_15_sites_1s/Grid_Frequency_1100-1129.csv"
    known = {"VES": (-374, 51), "CAN": (-285, 285), "CAP": (-235, 183), "LON": (-213, 81)}
    for site, (low, high) in known.items():
        hz = inspect(open_trace(path, site=site, start="2020-01-01")).hz
        assert low - 1 <= 1000 * (hz.min - 50)
        assert 1000 * (hz.max - 50) <= high + 1
        assert 1000 * (hz.min - 50) < low + 1 or 1000 * (hz.max - 50) > high - 1


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"no recorded traces in {PUBLISHED}")
def test_a_row_lost_on_the_way_from_the_publisher_is_noticed(write):
    text = (PUBLISHED / "gb_bmrs_15s/frequency.csv").read_bytes()
    lines = text.splitlines(keepends=True)
    with pytest.raises(IncompleteTrace, match="5513 rows, and 5512"):
        open_trace(write(b"".join(lines[:100] + lines[101:]))).read_all()


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"no recorded traces in {PUBLISHED}")
@pytest.mark.parametrize("name", ["2017_12", "2018_05"])
def test_the_published_copies_are_refused_until_told(name):
    with pytest.raises(AmbiguousDates, match="--repair"):
        open_trace(PUBLISHED / f"pgf_cleaned_10s/{name}.csv")


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"no recorded traces in {PUBLISHED}")
def test_every_published_checksum_is_good_and_none_other_would_do(write):
    path = PUBLISHED / "openpmu_10hz/2012-12-12_KT-H01_session1.csv"
    data = path.read_bytes()
    trace = open_trace(write(data.replace(b"59.96", b"59.95", 50)), start="2012-12-12", skip_bad=True)
    assert trace.read_all().size == 31_052 - 50
    assert trace.rejected["checksum"] == 50
