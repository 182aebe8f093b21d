"""Streams of an openPMU: `$KTH01,V1xx0,17455.900,1.552,59.966,92.411*2F` after `$...*..`, with or without line ends.

Fields: station, channel, seconds of the day, voltage magnitude, hertz, phase angle; behind the star the exclusive or
of all characters between dollar and star. A sentence whose sum is another was damaged: refused, or counted as
`checksum`. The day is the caller's to say (`--start`); times are UTC unless `--tz` names a zone. Places of errors are
sentences, counted from 1.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Final

import numpy as np

from telemetry.traces.cells import Bytes, Ints, Mask
from telemetry.traces.common import Grammar, Head, Layout, Options, RowFault, times
from telemetry.traces.errors import BadChecksum, MalformedRow, MissingOption, UnknownFormat
from telemetry.traces.stamps import SecondsOfDay
from telemetry.traces.textfile import HEAD_BYTES, cleaned, decoded
from telemetry.traces.units import calibrate

NAME: Final = "openpmu"
SENTENCE: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*\$(\w+),(\w+),[\d.]+,[^,$]*,[^,$]*,[^,*$]*\*[0-9A-Fa-f]{2}\s*(?=\$|$)"
)
COLUMNS: Final = 6
STAR: Final = ord("*")
TAIL: Final = 3  # star and two digits
HEX: Final = np.full(256, 255, np.uint8)
for _value, _digit in enumerate("0123456789ABCDEF"):
    HEX[ord(_digit)] = HEX[ord(_digit.lower())] = _value


class Sentences(Grammar):
    """Check sums, and that one channel of one station is read.

    begin  : what the sentences of that channel begin with, `KTH01,V1xx0,`
    chosen : the caller has named it: others are passed over, as other columns of a table are
    """

    def __init__(self, begin: str, chosen: bool) -> None:
        self._begin, self._chosen = begin, chosen
        self._bytes = np.frombuffer(begin.encode(), np.uint8)

    def doubtful(self, data: Bytes, begin: Ints, end: Ints) -> Mask:
        """Sentences of another channel, without a star, or with another sum."""
        good = end - begin > TAIL + self._bytes.size
        at = np.flatnonzero(good)
        first, star = begin[at], end[at] - TAIL
        high, low = HEX[data[star + 1]], HEX[data[star + 2]]
        fine = (data[star] == STAR) & (high < 16) & (low < 16) & (sums(data, first, star) == high * 16 + low)
        for k, char in enumerate(self._bytes):
            fine &= data[first + k] == char
        good[at] = fine
        return ~good

    def passes(self, i: int, line: str) -> bool:
        """Sentences of others, where one has been chosen; says what is wrong with a sentence."""
        del i
        text, star, said = line.strip().rpartition("*")
        if not star or not re.fullmatch(r"[0-9A-Fa-f]{2}", said):
            raise RowFault(MalformedRow, f"{line[-40:]!r} does not end in *hh")
        total = 0
        for char in text.encode("latin-1", "replace"):
            total ^= char
        if total != int(said, 16):
            raise RowFault(BadChecksum, f"check sum {said} where the characters give {total:02X}")
        if not text.startswith(self._begin):
            if self._chosen:
                return True
            raise RowFault(MalformedRow, f"{text[:20]!r} is not of channel {self._begin[:-1]}: choose it with --site")
        return False


def sums(data: Bytes, begin: Ints, end: Ints) -> Bytes:
    """The exclusive or of each `data[begin:end]`, none of them empty."""
    if not begin.size:
        return np.zeros(0, np.uint8)
    edges = np.stack([begin, end], axis=1).ravel()
    return np.asarray(np.bitwise_xor.reduceat(data, edges)[::2])


def recognises(head: Head, options: Options) -> bool:
    """A whole sentence at the beginning."""
    del options
    return SENTENCE.match(head.raw[:400]) is not None


def layout(head: Head, options: Options, *, skip_bad: bool) -> Layout:
    """How to read it. Raises TraceError, MissingOption where the day is not given."""
    first = SENTENCE.match(head.raw[:400])
    if first is None:
        raise UnknownFormat(head.path, 1, f"{decoded(head.raw[:40])!r} is not a sentence `$...*hh` of {NAME}")
    if options.start is None:
        raise MissingOption(head.path, "--start (ISO day of the first sentence)", "its times are seconds of a day")
    station = options.site or decoded(first[1])
    begin = f"{station}," if options.site else f"{station},{decoded(first[2])},"
    cut = Layout(
        NAME,
        ",",
        COLUMNS,
        time=2,
        hz=4,
        stamps=times(head, options, SecondsOfDay),
        volts=() if options.volt_col == () else (3,),
        separator=b"$",
        grammar=partial(Sentences, begin, options.site is not None),
    )
    return calibrate(_sentences(head), cut, options, skip_bad=skip_bad)


def _sentences(head: Head) -> Head:
    """The head cut at dollars, without a sentence that its end may have cut."""
    whole = head.raw + b"$" if len(head.raw) < HEAD_BYTES else head.raw[: head.raw.rfind(b"$") + 1]
    data = cleaned(whole, b"$")
    return head._replace(data=data, lines=decoded(data).split("\n")[:-1])
