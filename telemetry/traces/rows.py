"""Lines to rows: how the rows of one file are cut, and the parsing of a chunk of them.

Whole chunks are read in array operations; a row that these do not read with certainty is read again by itself, and
is then a row, a row with a missing cell, a known line that is no row, or malformed: named by line and reason, or
counted under `rejected` and dropped.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from telemetry.samples import FREQUENCY, Block, Quality, empty
from telemetry.traces.cells import WIDEST, Bytes, Floats, Ints, Mask, number, numbers, split
from telemetry.traces.errors import MalformedRow
from telemetry.traces.stamps import MakeStamps, Stamps
from telemetry.traces.textfile import decoded

Number = TypeVar("Number", bound=np.generic)
MISSING: Final = int(Quality.MISSING)


class RowFault(ValueError):
    """A row, or the lack of one, that its format itself tells to be wrong.

    kind : the error it is raised as, whose `counted` it is counted under, `rows` at once
    """

    def __init__(self, kind: type[MalformedRow], reason: str, rows: int = 1) -> None:
        super().__init__(reason)
        self.kind, self.rows = kind, rows


class Grammar:
    """What a format knows of its lines beside their cells; made anew for each pass over a file."""

    def doubtful(self, data: Bytes, begin: Ints, end: Ints) -> Mask | None:
        """Of all lines of the next chunk, `data[begin:end]` each, those that `passes` must see; None for none."""
        del data, begin, end
        return None

    def passes(self, i: int, line: str) -> bool:
        """Whether line i of the chunk is known and no row (a notice, a trailer). Raises RowFault."""
        del i, line
        return False

    def ended(self) -> None:
        """The file has ended. Raises RowFault where something is missing."""


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
    separator: bytes = b"\n"
    grammar: Callable[[], Grammar] = Grammar


@dataclass
class Raw:
    """The rows of a chunk, before units: wall time, zone offset [ns], frequency and voltage cells as written."""

    wall: Ints
    offset: Ints
    hz: Floats
    volts: list[Floats]
    rejected: Counter[str] = field(default_factory=Counter)

    def spread(self, lines: int, rows: Ints) -> Raw:
        """Room for `lines` lines, these rows in their places; what the others hold is not to be used."""
        volts = [_spread(lines, rows, column) for column in self.volts]
        wall, offset = _spread(lines, rows, self.wall), _spread(lines, rows, self.offset)
        return Raw(wall, offset, _spread(lines, rows, self.hz), volts, self.rejected)

    def only(self, keep: Mask) -> Raw:
        """The rows where `keep`, the counts as they are."""
        volts = [column[keep] for column in self.volts]
        return Raw(self.wall[keep], self.offset[keep], self.hz[keep], volts, self.rejected)


def _spread(lines: int, rows: Ints, column: npt.NDArray[Number]) -> npt.NDArray[Number]:
    wide = np.zeros(lines, column.dtype)
    wide[rows] = column
    return wide


class Parser:
    """The rows of one pass over a file; what a format must remember from chunk to chunk is in here."""

    def __init__(self, path: str, layout: Layout, *, skip_bad: bool) -> None:
        self.path, self.layout, self.skip_bad = path, layout, skip_bad
        self.stamps, self.grammar = layout.stamps(), layout.grammar()
        self._line = 1 if layout.separator == b"\n" else 0  # a mark that begins sentences has nothing before the first

    def parse(self, data: bytes) -> Raw:
        """The rows of the next chunk of whole lines.

        Raises MalformedRow at the first line that is no row, or counts and drops it with `skip_bad`.
        """
        layout = self.layout
        text: Bytes = np.frombuffer(data + bytes(WIDEST), np.uint8)
        fields = split(text[: len(data)], ord(layout.delimiter), layout.columns)
        wall, offset, timed = self.stamps.read(text, *fields.cell(layout.time))
        columns, read = [], timed.copy()
        for k in (layout.hz, *layout.volts):
            begin, length = fields.cell(k)
            column, ok = numbers(text, begin, length)
            column[empty_cell := length == 0] = math.nan
            columns.append(column)
            read &= ok | empty_cell
        n, line = fields.line_end.size, self._line
        self._line += n
        raw = Raw(wall, offset, columns[0], columns[1:])
        if fields.rows is not None:
            raw, timed, read = raw.spread(n, fields.rows), _spread(n, fields.rows, timed), _spread(n, fields.rows, read)
        doubtful = self.grammar.doubtful(text, fields.line_begin, fields.line_end)
        if doubtful is not None:
            read &= ~doubtful
        keep = np.ones(n, np.bool_)
        keep[: max(0, layout.skip_lines + 1 - line)] = False
        for i in np.flatnonzero(keep & ~read).tolist():
            row = decoded(data[int(fields.line_begin[i]) : int(fields.line_end[i])])
            keep[i] = self._again(raw, i, row, line + i, timed=bool(timed[i]))
        raw = raw if keep.all() else raw.only(keep)
        raw.rejected["missing"] += int(np.count_nonzero(np.isnan(raw.hz)))
        return raw

    def ended(self) -> Counter[str]:
        """The end of the file: what is counted by then. Raises MalformedRow."""
        found: Counter[str] = Counter()
        try:
            self.grammar.ended()
        except RowFault as fault:
            self._reject(found, fault, None)
        return found

    def _again(self, raw: Raw, i: int, row: str, line: int, *, timed: bool) -> bool:
        """Row i read one cell at a time; whether it is one."""
        if not row.strip():
            return False
        try:
            if self.grammar.passes(i, row):
                return False
            _one(raw, i, row, self.layout, None if timed else self.stamps)
        except ValueError as error:
            self._reject(raw.rejected, error, line)
            return False
        return True

    def _reject(self, counts: Counter[str], error: ValueError, line: int | None) -> None:
        kind, rows = (error.kind, error.rows) if isinstance(error, RowFault) else (MalformedRow, 1)
        if not self.skip_bad:
            raise kind(self.path, line, str(error)) from None
        counts[kind.counted] += rows


def _one(raw: Raw, i: int, row: str, layout: Layout, stamps: Stamps | None) -> None:
    """Fill in row i; `stamps` is None where its time is known already. Raises ValueError."""
    cells = row.split(layout.delimiter)
    if len(cells) != layout.columns:
        raise ValueError(f"{len(cells)} fields where {layout.columns} are expected")
    if stamps is not None:
        raw.wall[i], raw.offset[i] = stamps.one(cells[layout.time].strip())
    for column, k in zip((raw.hz, *raw.volts), (layout.hz, *layout.volts), strict=True):
        value = number(cells[k])
        column[i] = math.nan if value is None else value


def block_of(raw: Raw, layout: Layout, stamps: Stamps) -> Block:
    """The rows as FREQUENCY: UTC, hertz, share of nominal voltage. A recording has no arrival: rx_ns == t_ns."""
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
