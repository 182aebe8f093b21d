"""Captured sessions of PMUs we did not write, decoded as another decoder's logs have them; and captures made here.

The recorded ones are not part of the repository: FLYBALL_DATA, or `shared/data` beside it.
"""

from __future__ import annotations

import gzip
import os
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telemetry.c37118 import writer
from telemetry.c37118.captures import Capture, CapturedRows, pmus
from telemetry.c37118.configuration import Configuration, read_configuration
from telemetry.c37118.frames import Kind, head_of, t_ns
from telemetry.c37118.packets import CaptureError
from telemetry.samples import Quality
from telemetry.traces import BadOption, EmptyTrace, MissingOption, TraceError, inspect, open_trace, recognise

DATA = Path(os.environ.get("FLYBALL_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
CAPTURES = DATA / "c37118"
recorded = pytest.mark.skipif(not CAPTURES.is_dir(), reason=f"no captured sessions in {CAPTURES}")

T0_NS = 1_700_000_000_000_000_000
VOLT = 11_547.0


# ---- captures of others, against the logs of another decoder


def logged(name: str, log: str) -> list[dict[str, str]]:
    """The rows of a Zeek log."""
    lines = (CAPTURES / "zeek_baseline" / name / f"synchrophasor_{log}.log").read_text().splitlines()
    fields = next(line.split("\t")[1:] for line in lines if line.startswith("#fields"))
    return [dict(zip(fields, line.split("\t"), strict=True)) for line in lines if not line.startswith("#")]


def items(cell: str) -> list[str]:
    return [] if cell == "(empty)" else cell.split(",")


def number(value: float) -> str:
    """As Zeek prints a double: six decimals, zeros at the end left out but one."""
    text = f"{value:.6f}".rstrip("0")
    return text + "0" if text.endswith(".") else text


def truth(value: object) -> str:
    return "T" if value else "F"


class Session:
    """All frames of one capture, decoded in full."""

    def __init__(self, name: str) -> None:
        self.configurations: list[tuple[int, Any, Configuration]] = []
        self.data: list[tuple[Any, Any, tuple[Any, ...]]] = []
        known: dict[Any, Configuration] = {}
        for rx_ns, flow, frame in Capture(str(CAPTURES / f"C37.118_{name}.pcap")):
            head = head_of(frame)
            if head.kind is Kind.CFG2:
                known[flow] = read_configuration(frame, head)
                self.configurations.append((len(frame), flow, known[flow]))
            elif head.kind is Kind.DATA:
                self.data.append((head, flow, known[flow].read(frame)))
                assert abs(t_ns(head, known[flow].time_base) - rx_ns) < 90 * 86_400 * 10**9


def ends_of(flow: Any) -> tuple[str, ...]:
    """Ports as the log's rows name them: it has the client first."""
    (_, ours), (_, theirs), protocol = flow
    return (str(theirs), str(ours), {6: "tcp", 17: "udp"}[protocol])


NAMES = ["1PMU_TCP", "1PMU_UDP", "2PMUsInSync_TCP"]


@recorded
@pytest.mark.parametrize("name", NAMES)
def test_the_configurations_are_those_of_the_log(name):
    session = Session(name)
    got = Counter(
        (*ends_of(flow), "CFG2", str(size), "0", str(len(known.stations)), str(len(known.stations)), str(known.rate))
        for size, flow, known in session.configurations
    )
    columns = ("id.orig_p", "id.resp_p", "proto", "frame_type", "frame_size", "cont_idx")
    counts = ("pmu_count_expected", "pmu_count_actual", "data_rate")
    assert got == Counter(tuple(row[c] for c in (*columns, *counts)) for row in logged(name, "cfg"))


@recorded
@pytest.mark.parametrize("name", NAMES)
def test_every_station_is_that_of_the_log(name):
    session = Session(name)
    got = {
        (*ends_of(flow), str(k)): station
        for _, flow, known in session.configurations
        for k, station in enumerate(known.stations)
    }
    rows = logged(name, "cfg_detail")
    assert len(rows) == len(got)
    for row in rows:
        station = got[row["id.orig_p"], row["id.resp_p"], row["proto"], row["pmu_idx"]]
        assert row["station_name"] == station.name
        assert row["data_source_id"] == str(station.idcode)
        form = (row["phasor_shape"], row["phasor_format"], row["analog_format"], row["freq_format"])
        assert form == tuple(truth(station.format >> bit & 1) for bit in range(4))
        assert (int(row["phnmr"]), items(row["phnam"])) == (
            len(station.phasors),
            [phasor.name for phasor in station.phasors],
        )
        assert (int(row["annmr"]), items(row["annam"])) == (len(station.analogs), [a.name for a in station.analogs])
        names = [bit for digital in station.digitals for bit in digital.names]
        assert (int(row["dgnmr"]), items(row["dgnam"])) == (len(station.digitals), names)
        # The log cuts PHUNIT at the wrong end of the word: its "unit" are the lowest 8 bits.
        cuts = zip(items(row["phasor_conv_phvalue"]), items(row["phasor_conv_phunit"]), strict=True)
        words = [int(high) << 8 | int(low) for high, low in cuts]
        assert words == [phasor.current << 24 | phasor.factor for phasor in station.phasors]
        masks = [(int(a), int(b)) for a, b in zip(
            items(row["digital_conv_normal_status_mask"]), items(row["digital_conv_valid_inputs_mask"]), strict=True
        )]  # fmt: skip
        assert masks == [(digital.normal, digital.valid) for digital in station.digitals]
        assert (row["fnom"], row["cfgcnt"]) == (str(station.fnom & 1), str(station.changes))


@recorded
@pytest.mark.parametrize(("name", "frames"), list(zip(NAMES, (252, 356, 3002), strict=True)))
def test_every_value_of_every_data_frame_is_that_of_the_log(name, frames):
    session = Session(name)
    assert len(session.data) == frames
    heads = Counter((*ends_of(flow), str(head.size), str(len(parts))) for head, flow, parts in session.data)
    columns = ("id.orig_p", "id.resp_p", "proto", "frame_size", "pmu_count_actual")
    assert heads == Counter(tuple(row[c] for c in columns) for row in logged(name, "data"))
    stations = {flow: known.stations for _, flow, known in session.configurations}
    got: Counter[tuple[str, ...]] = Counter()
    for _, flow, parts in session.data:
        for k, values in enumerate(parts):
            station, stat = stations[flow][k], values.stat
            pairs = [",".join(number(pair[i]) for pair in values.phasors) for i in (0, 1)]
            none = ",".join("0.0" for _ in values.phasors)
            got[
                *ends_of(flow), str(k), str(stat & 15), str(stat >> 4 & 3), str(stat >> 6 & 7),
                *(truth(stat >> bit & 1) for bit in (9, 10, 11, 12, 13)), str(stat >> 14),
                *([none, none, *pairs] if station.polar else [*pairs, none, none]),
                number(round((values.hz - station.nominal_hz) * 1000)), number(round(values.rocof_hz_s * 100)),
                "(empty)", ",".join(map(str, values.digitals)) or "(empty)",
            ] += 1  # fmt: skip
    columns = (
        "id.orig_p", "id.resp_p", "proto", "pmu_idx", "trigger_reason", "unlocked_time", "pmu_time_quality",
        "data_modified", "config_change", "pmu_trigger_pickup", "data_sorting_type", "pmu_sync_error",
        "data_error_indicator", "est_rectangular_real", "est_rectangular_imaginary", "est_polar_magnitude",
        "est_polar_angle", "freq_dev_mhz", "rocof", "analog_data", "digital",
    )  # fmt: skip
    assert got == Counter(tuple(row[c] for c in columns) for row in logged(name, "data_detail"))


@recorded
@pytest.mark.parametrize("name", ["c37_1100_clean_tcp.pcap", "c37118_1100_unclean.pcap"])
def test_an_unsynchronised_pmu_amid_other_traffic(name):
    """The data's README counts 425 data frames and 3 repeated stamps: 3 segments were sent again."""
    path = str(CAPTURES / name)
    capture = Capture(path)
    kinds = Counter(head_of(frame).kind for _, _, frame in capture)
    assert kinds == {Kind.COMMAND: 3, Kind.HEADER: 1, Kind.CFG2: 1, Kind.DATA: 422}
    assert (capture.resent, capture.rejected) == (3, {})
    rows = CapturedRows(path, *pmus(path), 96_000.0)
    block = np.concatenate(list(rows))
    assert rows.rejected == {}
    assert set(block["quality"].tolist()) == {int(Quality.CLOCK)}  # STAT 0x21F0, clock failure in the time quality
    assert (block["hz"].min().round(3), block["hz"].max().round(3)) == (59.610, 60.544)
    assert np.unique(block["t_ns"]).size == 422
    report = inspect(open_trace(path))
    assert (report.format, report.nominal_hz, report.rows, report.duplicates) == ("c37118", 60.0, 422, 0)
    assert report.period_s == pytest.approx(1 / 60, abs=1e-6)


@recorded
def test_of_two_pmus_one_is_chosen():
    path = CAPTURES / "C37.118_2PMUsInSync_TCP.pcap"
    with pytest.raises(MissingOption, match=r"241 \(Blue PMU\), 61 \(PMU1\): give --site"):
        open_trace(path)
    with pytest.raises(BadOption, match="no PMU '7'; there are 241"):
        open_trace(path, site="7")
    blue, one = open_trace(path, site="Blue PMU").read_all(), open_trace(path, site="61").read_all()
    assert (blue.size, one.size) == (1501, 1501)
    assert set(blue["hz"]) == {50.0}
    assert set(one["hz"]) == {50.0, 50.001}
    assert np.abs(blue["volt_frac"] - 1).max() < 0.001
    assert np.abs(one["volt_frac"] - 1).max() < 0.001
    # In step to the rounding of TIME_BASE 16777215.
    assert np.abs(blue["t_ns"] - one["t_ns"]).max() <= 60
    assert set(np.diff(one["t_ns"])) == {20_000_000}
    assert (one["rx_ns"] == one["t_ns"]).all()


# ---- captures made here


def ethernet(ip: bytes) -> bytes:
    return bytes(12) + b"\x08\x00" + ip


def ipv4(protocol: int, payload: bytes, identity: int = 0, fragment: int = 0) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), identity, fragment, 64, protocol, 0)
    return head + b"\x0a\0\0\x01\x0a\0\0\x02" + payload


def tcp(sequence: int, payload: bytes, flags: int = 0x18, port: int = 40_000) -> bytes:
    head = struct.pack(">HHIIBBHHH", 4712, port, sequence % 2**32, 0, 0x50, flags, 1000, 0, 0)
    return ethernet(ipv4(6, head + payload))


def udp(payload: bytes) -> bytes:
    return struct.pack(">HHHH", 4712, 4713, 8 + len(payload), 0) + payload


def pcap(path: Path, frames: list[bytes], order: str = "<", link: int = 1, nano: bool = False) -> Path:
    octets = struct.pack(order + "IHHiIII", 0xA1B23C4D if nano else 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)
    for k, frame in enumerate(frames):
        octets += struct.pack(order + "IIII", 1_700_000_000, k, len(frame), len(frame)) + frame
    path.write_bytes(octets)
    return path


def pcapng(path: Path, frames: list[bytes], order: str = "<") -> Path:
    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        return struct.pack(order + "II", kind, 12 + len(body)) + body + struct.pack(order + "I", 12 + len(body))

    octets = block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
    nanoseconds = struct.pack(order + "HHB3xHH", 9, 1, 9, 0, 0)
    octets += block(1, struct.pack(order + "HHI", 1, 0, 65535) + nanoseconds) + block(5, b"statistics..")
    for k, frame in enumerate(frames):
        high, low = divmod(T0_NS + k, 1 << 32)
        octets += block(6, struct.pack(order + "IIIII", 0, high, low, len(frame), len(frame)) + frame)
    path.write_bytes(octets)
    return path


UNIT = writer.Pmu("HERE", 7, nominal_volt=VOLT)


def conversation(count: int = 50, unit: writer.Pmu = UNIT) -> list[bytes]:
    """A configuration and data of it at 50 frames a second."""
    frames = [writer.configuration(3, 7, [unit], 1_000_000, 50, T0_NS)]
    for k in range(count):
        part = unit.data(0x0080, 50 + k / 1000, VOLT)
        frames.append(writer.data(7, [part], 1_000_000, T0_NS + k * 20_000_000))
    return frames


def check(rows: Any, count: int = 50) -> None:
    assert (rows["t_ns"] - T0_NS).tolist() == [k * 20_000_000 for k in range(count)]
    np.testing.assert_allclose(rows["hz"], 50 + np.arange(count) / 1000, atol=3e-6)
    assert np.abs(rows["volt_frac"] - 1).max() < 1e-6
    assert not rows["quality"].any()


def segments(frames: list[bytes], size: int, first: int = 2**32 - 400) -> list[tuple[int, bytes]]:
    """A stream cut into pieces of `size` octets; sequence numbers wrap on the way."""
    stream = b"".join(frames)
    return [(first + at, stream[at : at + size]) for at in range(0, len(stream), size)]


@pytest.mark.parametrize("size", [7, 16, 100, 1460])
def test_segments_that_cut_frames_anywhere(tmp_path, size):
    packets = [tcp(2**32 - 401, b"", 2)] + [tcp(at, piece) for at, piece in segments(conversation(), size)]
    trace = open_trace(pcap(tmp_path / "x.pcap", packets))
    check(trace.read_all())
    assert trace.rejected == {}


@pytest.mark.parametrize("seed", range(5))
def test_segments_out_of_order_sent_again_and_overlapping(tmp_path, seed):
    chance = np.random.default_rng(seed)
    pieces = segments(conversation(), 64)
    stream = b"".join(piece for _, piece in pieces)
    begin = pieces[0][0]
    sent = [pieces[0]]
    for k in range(1, len(pieces), 4):
        group = pieces[k : k + 4]
        sent += [group[i] for i in chance.permutation(len(group))]
        back = int(chance.integers(0, 200))  # a longer piece that begins earlier
        at = max(0, group[0][0] - begin - back)
        sent.append((begin + at, stream[at : at + int(chance.integers(1, 300))]))
    path = pcap(tmp_path / "x.pcap", [tcp(at, piece) for at, piece in sent])
    check(open_trace(path).read_all())


def test_a_capture_that_begins_in_the_middle_and_has_a_hole(tmp_path):
    pieces = segments([*conversation(), *conversation()], 33, first=1000)
    kept = pieces[1:20] + pieces[25:]
    path = pcap(tmp_path / "x.pcap", [tcp(at, piece) for at, piece in kept])
    trace = open_trace(path)
    rows = trace.read_all()
    # The first configuration is lost with its beginning: what follows it cannot be read, nor what lay in the hole.
    assert rows.size == 50
    check(rows)
    assert trace.rejected["hole"] == 1
    assert trace.rejected["unconfigured"] > 20
    assert trace.rejected["sync"] > 0


def test_a_flow_that_is_lost_in_nonsense_is_taken_up_again(tmp_path):
    frames = conversation()
    nonsense = [b"\xaa\x01\x00\x20" * 20] * 20
    stream = [*frames[:20], *nonsense, *frames[20:]]
    at, packets = 1000, []
    for piece in stream:
        packets.append(tcp(at, piece))
        at += len(piece)
    trace = open_trace(pcap(tmp_path / "x.pcap", packets))
    check(trace.read_all())
    assert trace.rejected["framing"] >= 1


def test_a_capture_without_a_configuration_says_so(tmp_path):
    path = pcap(tmp_path / "x.pcap", [tcp(at, piece) for at, piece in segments(conversation()[1:], 60)])
    with pytest.raises(EmptyTrace, match=r"no CFG-2 frame.*before the client connects"):
        open_trace(path)


@pytest.mark.parametrize(
    "form", ["big", "nano", "gzip", "padded", "vlan", "sll", "raw", "loopback", "pcapng", "pcapng-big"]
)
def test_file_and_link_forms(tmp_path, form):
    path, frames = tmp_path / "x", conversation()
    ip = [ipv4(17, udp(frame)) for frame in frames]
    if form == "vlan":
        pcap(path, [bytes(12) + b"\x81\x00\x00\x05\x08\x00" + packet for packet in ip])
    elif form == "padded":  # as the link fills up small frames
        pcap(path, [ethernet(packet) + b"\xaa\x01" * 9 for packet in ip])
    elif form == "sll":
        pcap(path, [bytes(14) + b"\x08\x00" + packet for packet in ip], link=113)
    elif form == "raw":
        pcap(path, ip, link=101)
    elif form == "loopback":
        pcap(path, [b"\2\0\0\0" + packet for packet in ip], link=0)
    elif form.startswith("pcapng"):
        pcapng(path, [ethernet(packet) for packet in ip], ">" if form.endswith("big") else "<")
    else:
        pcap(path, [ethernet(packet) for packet in ip], ">" if form == "big" else "<", nano=form == "nano")
        if form == "gzip":
            path.write_bytes(gzip.compress(path.read_bytes()))
    assert recognise(path) == "c37118"
    check(open_trace(path).read_all())
    (chosen,) = pmus(str(path))
    first = next(iter(CapturedRows(str(path), chosen, VOLT)))["rx_ns"][0]
    assert first == T0_NS + (1 if form in ("nano", "pcapng", "pcapng-big") else 1000)


def test_a_link_nobody_knows_is_refused_by_name(tmp_path):
    path = pcap(tmp_path / "x.pcap", [b"x" * 60], link=147)
    with pytest.raises(TraceError, match="link type 147"):
        open_trace(path)


def test_a_configuration_in_fragments(tmp_path):
    big = [writer.Pmu(f"P{k}", 7 + k, nominal_volt=VOLT) for k in range(40)]
    frames = [writer.configuration(3, 7, big, 1_000_000, 50, T0_NS)]
    parts = [pmu.data(0x0080, 50.0, VOLT) for pmu in big]
    frames.append(writer.data(7, parts, 1_000_000, T0_NS))
    packets = []
    for n, frame in enumerate(frames):
        payload = udp(frame)
        pieces = [payload[at : at + 1480] for at in range(0, len(payload), 1480)]
        assert n or len(pieces) > 2
        for k in sorted(range(len(pieces)), key=lambda k: k % 2):  # not in order
            more = 0x2000 if k < len(pieces) - 1 else 0
            packets.append(ethernet(ipv4(17, pieces[k], n + 1, more | k * 185)))
    path = pcap(tmp_path / "x.pcap", packets)
    rows = open_trace(path, site="46").read_all()
    assert (rows.size, rows["hz"][0]) == (1, 50.0)


def test_spoiled_frames_are_counted_by_reason_and_the_rest_is_read(tmp_path):
    frames = conversation()
    frames[10] = frames[10][:-1] + bytes((frames[10][-1] ^ 1,))
    frames[20] = frames[20][:-3]
    frames.insert(30, b"GET / HTTP/1.1\r\n\r\n")
    path = pcap(tmp_path / "x.pcap", [ethernet(ipv4(17, udp(frame))) for frame in frames])
    trace = open_trace(path)
    assert trace.read_all().size == 48
    assert trace.rejected == {"crc": 1, "length": 1, "sync": 1}
    report = inspect(trace)
    assert (report.rows, report.gaps.count, report.rejected) == (48, 2, {"crc": 1, "length": 1, "sync": 1})


def test_absent_data_are_rows_without_a_number(tmp_path):
    unit = writer.Pmu("INT", 7, floats=False, nominal_volt=VOLT)
    frames = conversation(3, unit)
    frames.append(writer.data(7, [unit.data(0x8080, float("nan"), float("nan"))], 1_000_000, T0_NS + 60_000_000))
    trace = open_trace(pcap(tmp_path / "x.pcap", [ethernet(ipv4(17, udp(frame))) for frame in frames]))
    rows = trace.read_all()
    assert np.isnan(rows["hz"]).tolist() == [False, False, False, True]
    assert np.isnan(rows["volt_frac"]).tolist() == [False, False, False, True]
    assert rows["quality"].tolist() == [0, 0, 0, int(Quality.TEST | Quality.NAN)]
    assert trace.rejected == {"missing": 1}


def test_a_client_that_connects_anew_is_followed_and_a_second_one_is_not(tmp_path):
    frames = conversation()
    first = [tcp(at, piece) for at, piece in segments(frames, 60)]
    second = [tcp(at, piece, port=40_001) for at, piece in segments(frames, 60)]
    both = [packet for pair in zip(first, second, strict=True) for packet in pair]
    check(open_trace(pcap(tmp_path / "two.pcap", both)).read_all())
    later = pcap(tmp_path / "later.pcap", first + second)
    octets = bytearray(later.read_bytes())
    at = 24
    for k in range(len(first) + len(second)):
        seconds, _, size, _ = struct.unpack_from("<IIII", octets, at)
        struct.pack_into("<I", octets, at, seconds + (5 if k >= len(first) else 0))
        at += 16 + size
    later.write_bytes(octets)
    assert open_trace(later).read_all().size == 100


def test_a_capture_that_was_cut_off_gives_what_is_whole(tmp_path):
    path = pcap(tmp_path / "x.pcap", [ethernet(ipv4(17, udp(frame))) for frame in conversation()])
    path.write_bytes(path.read_bytes()[:-10])
    trace = open_trace(path)
    check(trace.read_all(), 49)
    assert trace.rejected == {"cut_off": 1}


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_capture_is_read_or_refused_by_name(tmp_path, seed):
    """Any octets changed anywhere: rows that are right, or a named error; nothing else."""
    chance = np.random.default_rng(seed)
    make = pcapng if seed % 2 else pcap
    path = make(tmp_path / "x", [ethernet(ipv4(17, udp(frame))) for frame in conversation()])
    octets = bytearray(path.read_bytes())
    for at in chance.integers(0, len(octets), int(chance.integers(1, 30))):
        octets[at] = int(chance.integers(0, 256))
    path.write_bytes(octets)
    try:
        found = pmus(str(path))
        blocks = list(CapturedRows(str(path), found[0], VOLT)) if found else []
    except CaptureError:
        return
    for block in blocks:
        k = (block["t_ns"] - T0_NS) / 20_000_000
        np.testing.assert_allclose(block["hz"], 50 + k / 1000, atol=3e-6)
