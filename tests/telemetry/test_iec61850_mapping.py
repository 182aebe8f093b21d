"""Reports to rows without a connection: bits, times, strangers' layouts, repeats, gaps; and which library is loaded."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import telemetry.iec61850 as link
from telemetry.iec61850 import layout, library, mapping, references
from telemetry.iec61850.errors import BackendMissing, LayoutError, LibraryVersion
from telemetry.iec61850.intake import Intake
from telemetry.iec61850.layout import BIT_STRING, FLOAT, STRUCTURE, UTC_TIME, Spec
from telemetry.iec61850.mapping import DATA_CHANGE, DATA_UPDATE, INTEGRITY, Report
from telemetry.samples import FREQUENCY, Quality

ROOT = Path(__file__).resolve().parents[2]
GOOD_CLOCK = mapping.time_quality(True)

# ---- time


@given(st.integers(0, (2**32 - 1) * 10**9))
def test_utc_time_keeps_an_instant_to_30_ns_and_then_exactly(t_ns: int) -> None:
    once, octet = mapping.decode_utc(mapping.encode_utc(t_ns, 0x8A))
    assert abs(once - t_ns) <= 30
    assert octet == 0x8A
    assert mapping.decode_utc(mapping.encode_utc(once, 0x8A))[0] == once


def test_utc_time_by_hand() -> None:
    octets = bytes.fromhex("6553f100 800000 8a")  # 1700000000.5
    assert mapping.encode_utc(1_700_000_000_500_000_000, 0x8A) == octets
    assert mapping.decode_utc(octets) == (1_700_000_000_500_000_000, 0x8A)
    assert mapping.encode_utc(1_699_999_999_999_999_990, 0)[:7] == bytes.fromhex("6553f100 000000")  # carries


@pytest.mark.parametrize("t_ns", [-1_000_000_000, 2**32 * 10**9])
def test_utc_time_ends(t_ns: int) -> None:
    with pytest.raises(ValueError, match="1970"):
        mapping.encode_utc(t_ns, 0)


@pytest.mark.parametrize("octets", [b"", bytes(7), bytes(9)])
def test_utc_time_has_eight_octets(octets: bytes) -> None:
    with pytest.raises(ValueError, match="8 octets"):
        mapping.decode_utc(octets)


# ---- quality


@pytest.mark.parametrize(
    ("quality", "octet", "hz", "expected"),
    [
        (0, 0x8A, 50.0, Quality.GOOD),
        (0, 0x00, 50.0, Quality.GOOD),  # leap seconds unknown is no fault
        (1, 0x8A, 50.0, Quality.INVALID),  # reserved
        (2, 0x8A, 50.0, Quality.INVALID),
        (3, 0x8A, 50.0, Quality.INVALID),  # questionable
        (4, 0x8A, 50.0, Quality.GOOD),  # a detail bit alone, validity good
        (1024, 0x8A, 50.0, Quality.INVALID),  # substituted
        (2048, 0x8A, 50.0, Quality.TEST),
        (0, 0x40, 50.0, Quality.CLOCK),  # failure
        (0, 0x20, 50.0, Quality.CLOCK),  # not synchronised
        (0, 0x1F, 50.0, Quality.GOOD),  # accuracy unspecified
        (0, 0x8A, math.nan, Quality.NAN),
        (0, 0x8A, 0.0, Quality.GOOD),  # zero, range and voltage are the gate's to judge
        (2051, 0x60, math.nan, Quality.INVALID | Quality.TEST | Quality.CLOCK | Quality.NAN),
    ],
)
def test_source_quality(quality: int, octet: int, hz: float, expected: Quality) -> None:
    assert mapping.source_quality(quality, octet, hz) == expected


def test_the_clock_of_our_own_unit() -> None:
    assert mapping.source_quality(0, mapping.time_quality(True), 50.0) == Quality.GOOD
    assert mapping.source_quality(0, mapping.time_quality(False), 50.0) == Quality.CLOCK


def test_bit_strings_begin_with_the_highest_bit() -> None:
    assert mapping.quality_from_bits(b"\x40\x00") == mapping.VALIDITY_INVALID  # 8-1: validity 01 is invalid
    assert mapping.quality_from_bits(b"\xc0\x00") == mapping.VALIDITY_QUESTIONABLE
    assert mapping.quality_from_bits(b"\x00\x10") == mapping.TEST
    assert mapping.quality_from_bits(b"\x00\x07") == 0  # padding
    assert mapping.quality_from_bits(b"") == 0
    for quality in range(2**mapping.QUALITY_BITS):
        assert mapping.quality_from_bits(mapping.quality_to_bits(quality)) == quality


# ---- row


def test_a_row() -> None:
    block = mapping.frequency_block(49.987, 2, mapping.encode_utc(10**18, 0x20), 115.0, 230.0, 77, 3)
    assert block.dtype == FREQUENCY
    assert block.tolist() == [(10**18, 77, 49.987, 0.5, int(Quality.INVALID | Quality.CLOCK), 3)]
    unknown = mapping.frequency_block(50.0, 0, mapping.encode_utc(10**18, 0), math.nan, 230.0, 77, 3)
    assert math.isnan(unknown["volt_frac"][0])
    assert unknown["quality"][0] == 0


def test_the_smallest_phase() -> None:
    assert mapping.smallest([231.0, 3.0, 229.0]) == 3.0
    assert mapping.smallest([math.nan, 229.0]) == 229.0
    assert math.isnan(mapping.smallest([math.nan]))
    assert math.isnan(mapping.smallest([]))


# ---- layouts


def leaf(name: str, kind: int) -> Spec:
    return Spec(name, kind)


def group(name: str, *children: Spec) -> Spec:
    return Spec(name, STRUCTURE, children)


F, I, Q, T, RANGE = leaf("f", FLOAT), leaf("i", 4), leaf("q", BIT_STRING), leaf("t", UTC_TIME), leaf("range", 4)  # noqa: E741
OUR_HZ = group("Hz", group("mag", F), Q, T)
VECTOR = group("cVal", group("mag", F))
OUR_PHV = group("PhV", *(group(phase, VECTOR, Q, T) for phase in ("phsA", "phsB", "phsC")))
HZ, PHV = "LD/MMXU1.Hz", "LD/MMXU1.PhV"


def test_our_own_layout() -> None:
    found = layout.resolve([(HZ, OUR_HZ), (PHV, OUR_PHV)], HZ, PHV)
    assert found == layout.Layout((0, 0, 0), (0, 1), (0, 2), tuple((1, n, 0, 0, 0) for n in range(3)), 2)


def test_a_strangers_member_order() -> None:
    """instMag, mag, range, q, t with i before f; voltages first, neutral beside the phases, ang before mag."""
    both = group("mag", I, F)
    hz = group("Hz", group("instMag", I, F), both, RANGE, Q, T)
    vector = group("cVal", group("ang", F), group("mag", F))
    names = ("net", "phsC", "neut", "phsA", "res", "phsB")
    phv = group("PhV", *(group(n, group("instCVal", group("mag", F)), vector, Q, T) for n in names))
    found = layout.resolve([(PHV, phv), ("LD/MMXU1.TotW", Spec("", -1)), (HZ, hz)], HZ, PHV)
    assert (found.hz, found.quality, found.utc) == ((2, 1, 1), (2, 3), (2, 4))
    assert found.volts == ((0, 3, 1, 1, 0), (0, 5, 1, 1, 0), (0, 1, 1, 1, 0))
    assert found.size == 3


def test_single_attributes_as_members() -> None:
    members = [(f"{HZ}.t", T), (f"{HZ}.mag.f", F), (f"{HZ}.q", Q), (f"{PHV}.phsA.cVal.mag.f", F)]
    assert layout.resolve(members, HZ, PHV) == layout.Layout((1,), (2,), (0,), ((3,),), 4)
    assert layout.resolve([(f"{HZ}.mag", group("mag", I, F)), (f"{HZ}.q", Q), (f"{HZ}.t", T)], HZ, PHV).hz == (0, 1)


def test_no_voltage_is_no_error_and_another_point_is_not_ours() -> None:
    other = group("PhV", group("phsA", VECTOR, Q, T))
    assert layout.resolve([("LD/MMXU2.PhV", other), (HZ, OUR_HZ)], HZ, PHV).volts == ()
    assert layout.resolve([(HZ, OUR_HZ), ("LD/MMXU1.PhV.phsB", group("phsB", VECTOR, Q, T))], HZ, PHV).volts == (
        (1, 0, 0, 0),
    )


@pytest.mark.parametrize(
    ("hz", "missing"),
    [
        (group("Hz", group("mag", I), Q, T), r"Hz\.mag\.f"),
        (group("Hz", group("mag", F), T), r"Hz\.q"),
        (group("Hz", group("mag", F), Q), r"Hz\.t"),
        (group("Hz", group("mag", leaf("f", 4)), Q, T), "MMS type 4, expected 6"),
        (group("Hz", group("mag", F), Q, leaf("t", 10)), "MMS type 10, expected 14"),
    ],
)
def test_an_unusable_data_set_has_a_name(hz: Spec, missing: str) -> None:
    with pytest.raises(LayoutError, match=missing):
        layout.resolve([(HZ, hz)], HZ, PHV)
    with pytest.raises(LayoutError, match="choose a report control block"):
        layout.resolve([], HZ, PHV)


# ---- references


def test_candidates_are_the_next_instances() -> None:
    assert references.candidates("LD/LLN0.RP.urcb01") == [f"LD/LLN0.RP.urcb0{n}" for n in (1, 2, 3)]
    assert references.candidates("LD/LLN0.BR.x98") == ["LD/LLN0.BR.x98", "LD/LLN0.BR.x99"]
    assert references.candidates("LD/LLN0.RP.rcb") == ["LD/LLN0.RP.rcb"]
    for wrong in ("LLN0.RP.urcb01", "LD/LLN0.urcb01", "LD/LLN0.XX.urcb01", ""):
        with pytest.raises(ValueError, match="report_block"):
            references.candidates(wrong)


@pytest.mark.parametrize(
    ("member", "expected"), [(HZ, True), (f"{HZ}.mag.f", True), (f"{HZ}Rte", False), ("LD/MMXU1", True)]
)
def test_members_that_concern_us(member: str, expected: bool) -> None:
    assert references.concerns(member, HZ) is expected


# ---- intake


class Taken:
    def __init__(self, **options: Any) -> None:
        self.rows: list[Any] = []
        self.intake = Intake(nominal_volt=230.0, source=5)
        self.intake.open(lambda block: self.rows.append(block[0]))
        self.intake.connected(buffered=options.pop("buffered", False))

    def take(self, t_s: float = 1.0, seq: int | None = None, reason: int = DATA_UPDATE, **fields: Any) -> None:
        utc = mapping.encode_utc(round(t_s * 1e9), GOOD_CLOCK)
        report = Report(seq, reason, fields.pop("hz", 50.0), fields.pop("quality", 0), utc, fields.pop("volts", 230.0))
        assert not fields
        self.intake.take(report, 99)


def test_periodic_repeats_are_counted_not_delivered() -> None:
    taken = Taken()
    taken.take(0.0, reason=INTEGRITY)  # an IED that has not measured yet
    taken.take(1.0)
    for reason in (INTEGRITY, mapping.GENERAL_INTERROGATION, mapping.REASON_UNKNOWN):
        taken.take(1.0, reason=reason)
    taken.take(2.0, reason=INTEGRITY)  # news, though periodic
    assert [row["t_ns"] for row in taken.rows] == [10**9, 2 * 10**9]
    assert (taken.intake.reports, taken.intake.repeats) == (6, 4)
    taken.intake.connected(buffered=False)
    taken.take(2.0, reason=INTEGRITY)  # also after a reconnect
    assert taken.intake.repeats == 5


def test_a_clock_that_stands_still_reaches_the_gate() -> None:
    taken = Taken()
    for hz in (50.0, 49.9):
        taken.take(1.0, hz=hz, reason=DATA_CHANGE)
    taken.take(1.0, hz=49.8, reason=DATA_CHANGE | INTEGRITY)
    assert [row["hz"] for row in taken.rows] == [50.0, 49.9, 49.8]


def test_a_periodic_report_may_overtake_the_change_it_shows() -> None:
    taken = Taken()
    taken.take(1.0, hz=50.0)
    taken.take(2.0, hz=49.9, reason=INTEGRITY)
    taken.take(2.0, hz=49.9, reason=DATA_CHANGE)  # the same news
    taken.take(2.0, hz=49.8, reason=DATA_CHANGE)  # other news with the same time
    taken.take(2.0, hz=49.8, reason=DATA_CHANGE)
    assert [row["hz"] for row in taken.rows] == [50.0, 49.9, 49.8, 49.8]
    assert taken.intake.repeats == 1


@pytest.mark.parametrize(
    ("buffered", "numbers", "gaps"),
    [
        (False, [0, 1, 2], 0),
        (False, [254, 255, 0, 1], 0),
        (False, [250, 2], 7),
        (False, [7, 9], 1),
        (True, [65535, 0], 0),
        (True, [255, 256], 0),
        (True, [65534, 1], 2),
        (False, [255, 256, 257], 0),  # 16 bits in an unbuffered block: seen
        (False, [3, None, 4], 0),
    ],
)
def test_gaps_in_the_sequence(buffered: bool, numbers: list[int | None], gaps: int) -> None:
    taken = Taken(buffered=buffered)
    for k, number in enumerate(numbers):
        taken.take(float(k + 1), seq=number)
    assert taken.intake.gaps == gaps
    taken.intake.connected(buffered)
    taken.take(50.0, seq=123)  # a new subscription starts anew
    assert taken.intake.gaps == gaps


def test_a_voltage_left_out_has_not_changed() -> None:
    taken = Taken()
    taken.take(1.0, volts=None)
    taken.take(2.0, volts=115.0)
    taken.take(3.0, volts=None)
    taken.take(4.0, hz=None, volts=2.3, reason=0)  # a report on the voltage alone
    taken.take(5.0, volts=None)
    np.testing.assert_allclose([row["volt_frac"] for row in taken.rows], [math.nan, 0.5, 0.5, 0.01], rtol=1e-6)
    taken.intake.connected(buffered=False)
    taken.take(6.0, volts=None)
    assert math.isnan(taken.rows[-1]["volt_frac"])
    assert taken.intake.reports == 6


def test_a_bad_time_and_a_failing_handler_are_counted() -> None:
    taken = Taken()
    taken.intake.take(Report(None, DATA_UPDATE, 50.0, 0, b"short", 230.0), 1)
    assert taken.intake.surprises == 1
    assert "8 octets" in taken.intake.detail
    taken.intake.open(lambda _: 1 / 0)
    taken.take(2.0)
    assert taken.intake.handler_errors == 1
    assert "ZeroDivisionError" in taken.intake.detail
    taken.intake.surprise("nonsense", 5)
    assert (taken.intake.surprises, taken.intake.reports, taken.intake.last_rx_ns) == (2, 3, 5)
    taken.intake.shut()
    taken.take(3.0)
    assert taken.intake.handler_errors == 1
    assert not taken.rows


# ---- which library


def test_nothing_is_loaded_before_a_backend_is_made() -> None:
    code = (
        "import sys, telemetry.iec61850 as link; link.backends()\n"
        "import telemetry.generator, telemetry.iec61850.library\n"
        "assert not {'pyiec61850', 'open61850'} & {name.partition('.')[0] for name in sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_backends_are_chosen_best_first(monkeypatch: pytest.MonkeyPatch) -> None:
    present: set[str] = set()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in present else None)
    assert link.backends() == []
    for make in (link.make_client, link.make_unit):
        with pytest.raises(BackendMissing, match=r"pip install 'flyball\[iec61850\]'"):
            make(None, "127.0.0.1", 1)
    present |= {"open61850"}
    assert link.backends() == ["open61850"]
    with pytest.raises(BackendMissing, match=r"libiec61850.*not installed here.*pip install"):
        link.make_client("libiec61850", "127.0.0.1", 1)
    with pytest.raises(BackendMissing, match=r"'mms' is unknown.*libiec61850, open61850"):
        link.make_unit("mms", 0)
    present |= {"pyiec61850"}
    assert link.backends() == ["libiec61850", "open61850"]


def test_a_library_that_cannot_be_imported_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    library.load.cache_clear()
    monkeypatch.setitem(sys.modules, "pyiec61850._pyiec61850", None)
    with pytest.raises(BackendMissing, match=r"flyball\[iec61850\]"):
        library.load()
    library.load.cache_clear()


def test_another_series_is_refused_and_undeclared_functions_do_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    if "libiec61850" not in link.backends():
        pytest.skip("libiec61850 is not installed here: pip install 'flyball[iec61850]'")
    loaded = library.load()
    assert loaded.version.startswith("1.6.")
    assert library.load() is loaded
    with pytest.raises(AttributeError):
        _ = loaded.call.IedConnection_connect
    library.load.cache_clear()
    monkeypatch.setattr(library, "SERIES", "1.5.")
    with pytest.raises(LibraryVersion, match=r"1\.6.*pyiec61850-ng"):
        library.load()
    library.load.cache_clear()
