"""Captured C37.118 conversations: frames out of the packets, FREQUENCY rows out of the frames.

A flow is one direction between two ports. Its TCP segments are put in order, what was sent again is taken once. Flows
that never show a whole frame are other traffic, and nothing of them is counted; what a flow of frames loses or spoils
is counted by reason (`errors.REASONS`, `hole` for octets of a connection that the capture does not hold).

Policy: a segment ahead of its turn waits for AHEAD_SEGMENTS others; then what is missing is given up as a hole. Of
flows that have shown no frame the newest MAX_FLOWS are remembered. A file that ends in the middle of a packet gives
what is whole and counts `cut_off`. A client that connects anew is followed on its new flow, once the old one has been
silent for SILENT_NS; a second client of the same unit is not: it hears the same.
"""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from telemetry.c37118.configuration import Configuration, read_configuration
from telemetry.c37118.errors import FrameError
from telemetry.c37118.frames import Kind, Splitter, head_of, only_frame
from telemetry.c37118.intake import Intake
from telemetry.c37118.packets import TCP, CaptureCut, CaptureError, Packet, opened, packets
from telemetry.samples import Block

AHEAD_SEGMENTS: Final = 64
BLOCK_ROWS: Final = 4096
MAX_FLOWS: Final = 4096
SILENT_NS: Final = 1_000_000_000
SYN: Final = 2
_WRAP: Final = 1 << 32

Flow = tuple[tuple[bytes, int], tuple[bytes, int], int]  # source, target, protocol


class Captured(NamedTuple):
    """A frame and where and when it passed."""

    rx_ns: int  # when its last octet was captured
    flow: Flow
    frame: bytes


class _Ordered:
    """One direction of a TCP connection: its octets in order, each once."""

    def __init__(self) -> None:
        self._next: int | None = None
        self._ahead: dict[int, bytes] = {}
        self.holes = self.resent = 0

    def add(self, packet: Packet) -> list[bytes]:
        """What can be read on now. An empty piece stands for a hole."""
        if packet.flags & SYN:
            self._next, self._ahead = (packet.sequence + 1) % _WRAP, {}
            return [b""]
        if not packet.payload and not packet.cut:
            return []
        if self._next is None:
            self._next = packet.sequence  # the capture began in the middle
        self._keep(packet.sequence, packet.payload)
        found = self._in_turn()
        if len(self._ahead) > AHEAD_SEGMENTS:
            self.holes += 1
            self._next = min(self._ahead, key=lambda at: (at - self._expected) % _WRAP)
            found += [b"", *self._in_turn()]
        return found

    @property
    def _expected(self) -> int:
        return self._next or 0

    def _keep(self, at: int, payload: bytes) -> None:
        behind = (self._expected - at) % _WRAP
        if behind < _WRAP // 2:  # not ahead: what of it is new
            self.resent += 0 < len(payload) <= behind
            at, payload = (at + behind) % _WRAP, payload[behind:]
        if payload and len(payload) > len(self._ahead.get(at, b"")):
            self._ahead[at] = payload

    def _in_turn(self) -> list[bytes]:
        found = []
        while self._expected in self._ahead:
            piece = self._ahead.pop(self._expected)
            self._next = (self._expected + len(piece)) % _WRAP
            found.append(piece)
            for at in [at for at in self._ahead if 0 < (self._expected - at) % _WRAP < _WRAP // 2]:
                self._keep(at, self._ahead.pop(at))
        return found


class _Reading:
    """What is known of one flow."""

    def __init__(self) -> None:
        self.frames = 0
        self.defects: Counter[str] = Counter()
        self.ordered = _Ordered()
        self._splitter = self._fresh()

    def _fresh(self) -> Splitter:
        return Splitter(lambda reason, _: self.defects.update((reason,)))

    def take(self, packet: Packet) -> list[bytes]:
        found: list[bytes] = []
        if packet.protocol != TCP:
            try:
                found = only_frame(packet.payload)
            except FrameError as error:
                self.defects[error.reason] += 1
        else:
            for piece in self.ordered.add(packet):
                if not piece or (self._splitter.lost and self.frames):
                    self._splitter = self._fresh()
                found += self._splitter.feed(piece)
        self.frames += len(found)
        return found

    def counted(self) -> Counter[str]:
        return self.defects + Counter(hole=self.ordered.holes)


class Capture:
    """A capture file's frames; each iteration reads it anew.

    rejected : what flows of frames lost or spoiled, by reason; complete after an iteration
    resent   : TCP segments of theirs that had come before
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.rejected: Counter[str] = Counter()
        self.resent = 0

    def __iter__(self) -> Iterator[Captured]:
        """Frames in the order in which their last octets passed. Raises CaptureError; OSError of the file system."""
        self.rejected, self.resent = Counter(), 0
        flows: dict[Flow, _Reading] = {}
        try:
            with opened(self.path) as file:
                for packet in packets(file):
                    flow = packet.source, packet.target, packet.protocol
                    reading = flows.get(flow)
                    if reading is None:
                        reading = flows[flow] = _Reading()
                        _forget(flows)
                    for frame in reading.take(packet):
                        yield Captured(packet.t_ns, flow, frame)
        except (CaptureCut, EOFError):  # EOFError: of gzip
            if not any(reading.frames for reading in flows.values()):
                raise CaptureError("ends in the middle of a packet, and holds no C37.118 frame before") from None
            self.rejected["cut_off"] += 1
        except (zlib.error, gzip.BadGzipFile) as error:
            raise CaptureError(f"damaged gzip data: {error}") from None
        for reading in flows.values():
            if reading.frames:
                self.rejected += reading.counted()
                self.resent += reading.ordered.resent


def _forget(flows: dict[Flow, _Reading]) -> None:
    if len(flows) > 2 * MAX_FLOWS:
        silent = [flow for flow, reading in flows.items() if not reading.frames]
        for flow in silent[: max(0, len(silent) - MAX_FLOWS)]:
            del flows[flow]


class Choice(NamedTuple):
    """One PMU of a capture."""

    flow: Flow
    configuration: Configuration
    place: int  # of its station in the configuration


def pmus(path: str) -> list[Choice]:
    """Every PMU that a capture configures, each sender's by itself, in order of their first configuration."""
    found: dict[tuple[tuple[bytes, int], int, int], Choice] = {}
    for captured in Capture(path):
        head = head_of(captured.frame)
        if head.kind is not Kind.CFG2:
            continue
        try:
            configuration = read_configuration(captured.frame, head)
        except FrameError:
            continue  # counted when the rows are read
        for k, station in enumerate(configuration.stations):
            key = captured.flow[0], configuration.idcode, station.idcode
            found.setdefault(key, Choice(captured.flow, configuration, k))
    return list(found.values())


class CapturedRows:
    """FREQUENCY blocks of one PMU of a capture; each iteration reads it anew. Arrival is the capture's own clock.

    rejected : frames and octets that gave no row, by reason; complete after an iteration
    """

    def __init__(self, path: str, chosen: Choice, nominal_volt: float) -> None:
        self._path, self._chosen, self._nominal_volt = path, chosen, nominal_volt
        self.rejected: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Block]:
        """Blocks of at most BLOCK_ROWS rows, repeats included. Raises CaptureError, OSError."""
        waiting: list[Block] = []
        chosen = self._chosen
        idcode = chosen.configuration.stations[chosen.place].idcode
        intake = Intake(idcode, chosen.configuration.idcode, self._nominal_volt, repeats=True)
        intake.open(waiting.append)
        capture, flow = Capture(self._path), chosen.flow
        for captured in capture:
            if captured.flow != flow:
                if captured.flow[0] != flow[0] or captured.rx_ns - intake.last_rx_ns < SILENT_NS:
                    continue
                flow = captured.flow
                intake.connected()
            intake.take(captured.frame, captured.rx_ns)
            if len(waiting) >= BLOCK_ROWS:
                yield np.concatenate(waiting)
                waiting.clear()
        self.rejected = capture.rejected + intake.refused
        if waiting:
            yield np.concatenate(waiting)
