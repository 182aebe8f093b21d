"""What all trace readers share: the file as text lines in chunks, a layout of its rows, and the trace made of them.

A reader (`neso`, `table`, `index_hz`) only looks at the head of a file and says how its rows are cut (`Layout`); the
rows become FREQUENCY blocks here. A trace has no arrival time of its own: rx_ns == t_ns. Cells are kept as found: a
literal zero, a repeated or an older stamp are the quality gate's business, not the reader's.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np

from telemetry.samples import FREQUENCY, Block, Quality, empty
from telemetry.traces.cells import WIDEST, Bytes, Floats, Ints, Mask, number, numbers, split
from telemetry.traces.errors import EmptyTrace, MalformedRow, TraceError, TraceNotFound, UnknownFormat
from telemetry.traces.stamps import MakeStamps, Stamps

CHUNK_BYTES: Final = 1 << 19  # read at once: the arrays of a chunk should stay in the cache
CHUNK_ROWS: Final = 65_536  # largest block handed out
HEAD_BYTES: Final = 1 << 17  # what the readers may look at to recognise and calibrate
LINE_BYTES: Final = 1 << 20  # longest line believed
BOM: Final = b"\xef\xbb\xbf"
GZIP: Final = b"\x1f\x8b"
MISSING: Final = int(Quality.MISSING)


@dataclass(frozen=True)
class Options:
    """What the caller says about a file; None where the file is to tell."""

    time_col: str | None = None
    hz_col: str | None = None
    volt_col: str | Sequence[str] | None = None
    tz: str | None = None
    site: str | None = None
    start: str | datetime | int | None = None
    step_s: float | None = None
    nominal_hz: float | None = None
    volt_nominal: float | None = None


class Head(NamedTuple):
    """The first lines of a file."""

    path: str
    lines: list[str]
    data: bytes  # the same, as whole lines


@dataclass(frozen=True)
class Layout:
    """How the rows of one file are cut and what the numbers mean.

    hz = hz_offset + hz_scale x cell; volt_frac = smallest of cell / nominal over `volts`
    """

    format: str
    delimiter: str
    columns: int
    time: int
    hz: int
    stamps: MakeStamps
    skip_lines: int = 0
    volts: tuple[int, ...] = ()
    volt_nominal: tuple[float, ...] = ()
    hz_scale: float = 1.0
    hz_offset: float = 0.0
    nominal_hz: float = 50.0


@dataclass
class Raw:
    """The rows of a chunk, before units: wall time, zone offset [ns], frequency and voltage cells as written."""

    wall: Ints
    offset: Ints
    hz: Floats
    volts: list[Floats]
    missing: int = 0
    malformed: int = 0

    def only(self, keep: Mask) -> Raw:
        """The rows where `keep`, the counts as they are."""
        volts = [column[keep] for column in self.volts]
        return Raw(self.wall[keep], self.offset[keep], self.hz[keep], volts, self.missing, self.malformed)


class Trace:
    """A recorded file as FREQUENCY blocks; each iteration reads it anew.

    format      name of the reader
    nominal_hz  50 or 60
    rows        rows handed out so far in the last iteration, missing ones included
    rejected    Counter by reason, complete after an iteration: `missing` (kept, hz NaN), `malformed` (dropped)
    """

    def __init__(self, path: str, layout: Layout, *, skip_bad: bool = False) -> None:
        self.path, self.layout, self.skip_bad = path, layout, skip_bad
        self.format, self.nominal_hz = layout.format, layout.nominal_hz
        self.rows = 0
        self.rejected: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Block]:
        self.rows, self.rejected = 0, Counter()
        stamps = self.layout.stamps()
        for line, data in chunks(self.path):
            raw = parse(self.path, data, line, self.layout, stamps, skip_bad=self.skip_bad)
            self.rejected.update({k: n for k, n in (("missing", raw.missing), ("malformed", raw.malformed)) if n})
            block = _block(raw, self.layout, stamps)
            for first in range(0, block.size, CHUNK_ROWS):
                part = block[first : first + CHUNK_ROWS]
                self.rows += part.size
                yield part
        if not self.rows and not self.rejected:
            raise EmptyTrace(self.path, None, "no rows below the header")

    def read_all(self) -> Block:
        """The whole file as one block."""
        blocks = list(self)
        return np.concatenate(blocks) if blocks else empty(FREQUENCY)


def read_head(path: str) -> Head:
    """The head of a file, decoded leniently; raises TraceNotFound, EmptyTrace or TraceError."""
    data = b""
    for _, piece in chunks(path, HEAD_BYTES):
        data += piece
        if len(data) >= HEAD_BYTES // 2:
            break
    lines = _text(data).split("\n")[:-1]
    if not any(line.strip() for line in lines):
        raise EmptyTrace(path, None, "the file is empty")
    return Head(path, lines, data)


def chunks(path: str, size: int | None = None) -> Iterator[tuple[int, bytes]]:
    """(number of the first line, whole lines) of a plain or gzipped file; BOMs, quotes and CRs taken out."""
    size, line, rest = size or CHUNK_BYTES, 1, b""
    try:
        with Path(path).open("rb") as plain:
            zipped = plain.peek(2)[:2] == GZIP
            source: BinaryIO = gzip.GzipFile(fileobj=plain) if zipped else plain  # type: ignore[assignment]
            while piece := source.read(size):
                cut = piece.rfind(b"\n") + 1
                if not cut:
                    rest += piece
                    if len(rest) > LINE_BYTES:
                        raise UnknownFormat(path, line, "no end of line within a megabyte: not a text trace")
                    continue
                whole, rest = rest + piece[:cut], piece[cut:]
                yield line, _clean(whole)
                line += whole.count(b"\n")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TraceError(path, None, f"damaged gzip data after line {line}: {error}") from None
    except OSError as error:
        raise TraceNotFound(path, None, error.strerror or str(error)) from None
    if rest:
        yield line, _clean(rest + b"\n")


def _clean(data: bytes) -> bytes:
    for unwanted in (BOM, b"\r", b'"'):
        if unwanted in data:
            data = data.replace(unwanted, b"")
    return data


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def parse(path: str, data: bytes, line: int, layout: Layout, stamps: Stamps, *, skip_bad: bool) -> Raw:
    """The rows of a chunk of whole lines whose first is number `line`.

    Rows that the array forms do not read with certainty are read again one at a time. Raises MalformedRow at the
    first that is none, or counts and drops them with `skip_bad`.
    """
    text: Bytes = np.frombuffer(data + bytes(WIDEST), np.uint8)
    fields = split(text[: len(data)], ord(layout.delimiter), layout.columns)
    n, rows = fields.line_end.size, fields.rows
    raw = Raw(
        np.zeros(n, np.int64), np.zeros(n, np.int64), np.full(n, np.nan), [np.full(n, np.nan) for _ in layout.volts]
    )
    timed, read = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    raw.wall[rows], raw.offset[rows], good = stamps.read(text, fields.begin[layout.time], fields.length[layout.time])
    timed[rows] = good
    for column, k in zip((raw.hz, *raw.volts), (layout.hz, *layout.volts), strict=True):
        column[rows], ok = numbers(text, fields.begin[k], fields.length[k])
        good = good & ok
    read[rows] = good
    keep = np.ones(n, np.bool_)
    keep[: max(0, layout.skip_lines + 1 - line)] = False
    for i in np.flatnonzero(keep & ~read).tolist():
        row = _text(data[int(fields.line_begin[i]) : int(fields.line_end[i])])
        try:
            keep[i] = bool(row.strip()) and _one(raw, i, row, layout, None if timed[i] else stamps)
        except ValueError as error:
            if not skip_bad:
                raise MalformedRow(path, line + i, str(error)) from None
            raw.malformed += 1
            keep[i] = False
    return raw if keep.all() else raw.only(keep)


def _one(raw: Raw, i: int, row: str, layout: Layout, stamps: Stamps | None) -> bool:
    """Row i read one cell at a time; `stamps` is None where its time is known already. Raises ValueError."""
    cells = row.split(layout.delimiter)
    if len(cells) != layout.columns:
        raise ValueError(f"{len(cells)} fields where {layout.columns} are expected")
    if stamps is not None:
        raw.wall[i], raw.offset[i] = stamps.one(cells[layout.time].strip())
    for column, k in zip((raw.hz, *raw.volts), (layout.hz, *layout.volts), strict=True):
        value = number(cells[k])
        column[i] = math.nan if value is None else value
    raw.missing += math.isnan(raw.hz[i])
    return True


def _block(raw: Raw, layout: Layout, stamps: Stamps) -> Block:
    block = empty(FREQUENCY, raw.hz.size)
    block["t_ns"] = block["rx_ns"] = stamps.resolve(raw.wall, raw.offset)
    hz = raw.hz if layout.hz_scale == 1.0 and not layout.hz_offset else layout.hz_offset + layout.hz_scale * raw.hz
    block["hz"] = hz
    block["quality"][np.isnan(hz)] = MISSING
    block["volt_frac"] = np.nan
    with np.errstate(over="ignore"):  # absurd voltages: infinite in float32
        for volts, nominal in zip(raw.volts, layout.volt_nominal, strict=True):
            # fmin: a phase without a number is left out
            block["volt_frac"] = np.fmin(block["volt_frac"], volts / nominal)
    return block
