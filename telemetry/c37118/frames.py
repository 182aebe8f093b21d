"""IEEE C37.118.2 frames: the common head, the check word, commands, and frames cut out of a stream of octets.

Pure: octets in, numbers out; no clock, no connection. Clauses are those of IEEE C37.118.2-2011. Everything is big
endian; positive or negative has no meaning here. Every defect is a `FrameError` with a name of its own.

Losses: octets between frames are skipped and counted by `Splitter`; after a frame with a wrong check word the search
goes on one octet further, because its length cannot be trusted either. A beginning that waits for more is given up when
a whole frame comes instead, so that one wrong length does not swallow what follows. A stream that gives only defects is
given up (`framing`), so that a hostile peer cannot make us search for ever. The check word finds up to three wrong bits
and any burst of 16 for certain; of all other damage one frame in 65 536 passes, and meets the quality gate like any.
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Final, NamedTuple

from telemetry.c37118.errors import FrameError

SYNC: Final = 0xAA
VERSIONS: Final = (1, 2)  # 6.2.1 table 2: 1 is C37.118-2005, 2 is C37.118.2-2011
HEAD: Final = struct.Struct(">BBHHII")
CHECK_BYTES: Final = 2
SMALLEST: Final = HEAD.size + CHECK_BYTES
LARGEST: Final = 0xFFFF
FRACSEC_BITS: Final = 24
FRACSEC_MASK: Final = (1 << FRACSEC_BITS) - 1
DEFECTS_IN_A_ROW: Final = 16
_NS: Final = 1_000_000_000
_CHECK: Final = struct.Struct(">H")


class Kind(IntEnum):
    """Bits 6-4 of the second SYNC octet (table 2)."""

    DATA = 0
    HEADER = 1
    CFG1 = 2
    CFG2 = 3
    COMMAND = 4
    CFG3 = 5


class Command(IntEnum):
    """CMD of a command frame (table 15)."""

    STOP = 1
    START = 2
    SEND_HEADER = 3
    SEND_CFG1 = 4
    SEND_CFG2 = 5
    SEND_CFG3 = 6
    EXTENDED = 8


KINDS: Final = {int(kind): kind for kind in Kind}


class Head(NamedTuple):
    """What every frame begins with."""

    kind: Kind
    version: int
    size: int  # FRAMESIZE: octets of the whole frame
    idcode: int  # of the stream
    soc: int  # seconds since 1970 UTC, leap seconds not counted
    fracsec: int  # 24 bits; over TIME_BASE it is the fraction of the second
    time_quality: int  # the octet above FRACSEC (table 3): leap-second flags and the clock's error


def crc(octets: bytes | memoryview) -> int:
    """CRC-CCITT: polynomial 0x1021, begun with 0xFFFF, not reflected, no final complement (annex B)."""
    return binascii.crc_hqx(octets, 0xFFFF)


def read_head(frame: bytes) -> Head:
    """The head of one whole frame whose check word is right.

    Raises FrameError: short, sync, type, version, length, crc.
    """
    if len(frame) < SMALLEST:
        raise FrameError("short", f"{len(frame)} octets, the smallest frame has {SMALLEST}")
    sync, what, size, idcode, soc, fraction = HEAD.unpack_from(frame)
    defect = _defect(sync, what)
    if defect:
        raise FrameError(defect, f"begins with {sync:#04x} {what:#04x}")
    if size != len(frame):
        raise FrameError("length", f"FRAMESIZE says {size}, {len(frame)} octets came")
    check = crc(memoryview(frame)[:-CHECK_BYTES])
    if check != _CHECK.unpack_from(frame, size - CHECK_BYTES)[0]:
        raise FrameError("crc", f"{check:#06x} computed, {frame[-CHECK_BYTES:].hex()} received")
    return Head(KINDS[what >> 4], what & 0xF, size, idcode, soc, fraction & FRACSEC_MASK, fraction >> FRACSEC_BITS)


def _checks(octets: bytes) -> bool:
    """Whether the check word at the end is right."""
    return crc(octets[:-CHECK_BYTES]) == int.from_bytes(octets[-CHECK_BYTES:], "big")


def _defect(sync: int, what: int) -> str:
    """Why two octets cannot begin a frame; empty if they can."""
    if sync != SYNC:
        return "sync"
    if what >> 4 not in KINDS:  # the reserved bit 7 makes it 8 or more
        return "type"
    return "" if what & 0xF in VERSIONS else "version"


def t_ns(head: Head, time_base: int) -> int:
    """The frame's time [ns since 1970 UTC], to the nearest ns.

    FRACSEC == TIME_BASE, which a unit that rounds may send, is the next full second. Raises FrameError: fracsec.
    """
    if head.fracsec > time_base:
        raise FrameError("fracsec", f"{head.fracsec} of {time_base} parts of a second")
    return head.soc * _NS + (2 * head.fracsec * _NS + time_base) // (2 * time_base)


def frame(kind: Kind, idcode: int, soc: int, fraction: int, body: bytes) -> bytes:
    """A whole frame. fraction : the word of time quality and FRACSEC. Raises ValueError for what has no room."""
    size = SMALLEST + len(body)
    if size > LARGEST:
        raise ValueError(f"a frame of {size} octets: FRAMESIZE can say {LARGEST}; configure fewer channels")
    if not 0 <= soc < 1 << 32:
        raise ValueError(f"second {soc} is outside 1970..2106, the range of SOC")
    octets = HEAD.pack(SYNC, kind << 4 | VERSIONS[0], size, idcode, soc, fraction) + body
    return octets + _CHECK.pack(crc(octets))


def command(idcode: int, what: Command, now_ns: int) -> bytes:
    """A command frame to the stream `idcode`, its FRACSEC in microseconds.

    Whoever has no configuration yet cannot know the unit's TIME_BASE; a command's time is for the unit's log (6.6).
    """
    soc, rest_ns = divmod(now_ns, _NS)
    return frame(Kind.COMMAND, idcode, soc, rest_ns // 1000, _CHECK.pack(what))


class Splitter:
    """The frames in a stream of octets that may break anywhere (TCP). Head and check word of each are right.

    on_defect : called with a reason and a detail for each defect met; not for each octet skipped
    skipped   : octets that belonged to no frame, so far
    lost      : DEFECTS_IN_A_ROW defects without a frame between them: give the stream up
    """

    def __init__(self, on_defect: Callable[[str, str], None]) -> None:
        self._on_defect = on_defect
        self._rest = b""
        self._in_a_row = 0
        self.skipped = 0
        self.lost = False

    def feed(self, octets: bytes) -> list[bytes]:
        """The frames that are complete now; none any more once the stream is `lost`."""
        data = octets
        if self._rest:
            if self._whole(octets):
                # What waits has claimed more octets than it has: units send a frame at a time, and here begins one.
                self.skipped += len(self._rest)
                self._on_defect("length", f"{self._rest[:4].hex()} was not continued")
            else:
                data = self._rest + octets
        found: list[bytes] = []
        at, end = 0, len(data)
        while end - at >= SMALLEST and not self.lost:
            size = int.from_bytes(data[at + 2 : at + 4], "big")
            defect = _defect(data[at], data[at + 1]) or ("length" if size < SMALLEST else "")
            if not defect:
                if end - at < size:
                    break
                candidate = data[at : at + size]
                if _checks(candidate):
                    found.append(candidate)
                    self._in_a_row = 0
                    at += size
                    continue
                defect = "crc"
            at = self._search(data, at, defect)
        self._rest = data[at:]
        return found

    @staticmethod
    def _whole(octets: bytes) -> bool:
        """Whether a whole frame stands at the beginning."""
        if len(octets) < SMALLEST or _defect(octets[0], octets[1]):
            return False
        size = int.from_bytes(octets[2:4], "big")
        return SMALLEST <= size <= len(octets) and _checks(octets[:size])

    def _search(self, data: bytes, at: int, defect: str) -> int:
        """Where the next frame could begin after a defect at `at`."""
        self._in_a_row += 1
        self._on_defect(defect, f"{data[at : at + 4].hex()} is no frame")
        if self._in_a_row >= DEFECTS_IN_A_ROW:
            self.lost = True
            self._on_defect("framing", f"{self._in_a_row} defects in a row")
        begin = data.find(SYNC, at + 1)
        begin = len(data) if begin < 0 else begin
        self.skipped += begin - at
        return begin


def only_frame(datagram: bytes) -> list[bytes]:
    """The frames of one datagram: one, or several back to back. Raises FrameError at the first that is none."""
    found = []
    while len(datagram) > SMALLEST:
        size = int.from_bytes(datagram[2:4], "big")
        if not SMALLEST <= size < len(datagram):
            break
        read_head(datagram[:size])
        found.append(datagram[:size])
        datagram = datagram[size:]
    read_head(datagram)
    return [*found, datagram]


def head_of(checked: bytes) -> Head:
    """The head of a frame that `Splitter` or `only_frame` has given out: not checked again."""
    _, what, size, idcode, soc, fraction = HEAD.unpack_from(checked)
    return Head(KINDS[what >> 4], what & 0xF, size, idcode, soc, fraction & FRACSEC_MASK, fraction >> FRACSEC_BITS)


def body_of(checked: bytes) -> bytes:
    """What stands between head and check word."""
    return checked[HEAD.size : -CHECK_BYTES]
