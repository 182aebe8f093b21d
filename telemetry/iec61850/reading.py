"""Reports and values of libiec61850 as `Report`: by the layout that was resolved, no type taken on trust.

Reading a value as another type reads foreign memory, so each type is checked where a value is first met. The library
keeps one tree of values for each block and writes every report into it, type by type: a place found once stays good as
long as its member does. Leaf functions only: nothing here blocks or lets the GIL go.
"""

from __future__ import annotations

import ctypes as c
import math
from types import SimpleNamespace
from typing import Final

from telemetry.iec61850 import layout as lay
from telemetry.iec61850.mapping import REASON_UNKNOWN, Report, smallest
from telemetry.iec61850.selftest import read_octets

WIPED: Final = bytes(8)


class Reader:
    """Reads what one layout describes."""

    def __init__(self, leaf: SimpleNamespace, layout: lay.Layout, buffered: bool = False) -> None:
        self._leaf, self._layout, self._buffered = leaf, layout, buffered
        self._places: dict[lay.Path, tuple[int, int]] = {}  # path -> (its member, the value there)
        # Members of the data set that the layout reads; the others are not looked at.
        self._used = tuple({path[0] for path in (layout.hz, layout.quality, layout.utc, *layout.volts)})

    def report(self, report: int) -> Report:
        """The members of interest of a ClientReport.

        Raises ValueError where the peer sent something else than its model says.
        """
        leaf = self._leaf
        sequence = leaf.ClientReport_getSeqNum(report) if leaf.ClientReport_hasSeqNum(report) else None
        reasons, roots = self._included(report)
        if not self._buffered:
            return self._used_up(self._read(reasons, roots, sequence), roots)
        overflow = bool(leaf.ClientReport_hasBufOvfl(report) and leaf.ClientReport_getBufOvfl(report))
        entry = read_octets(leaf, leaf.ClientReport_getEntryId(report))
        return self._used_up(self._read(reasons, roots, sequence, entry, overflow), roots)

    def _used_up(self, read: Report, roots: dict[int, int]) -> Report:
        """What was read is wiped out of the library's tree, so that it cannot be read as the next report's.

        The library writes into its tree until a type does not fit (an access error in place of a value, a spoiled
        length), stops without a word, and calls us all the same.
        """
        leaf, layout = self._leaf, self._layout
        if layout.hz[0] in roots:
            if read.utc == WIPED and read.hz != read.hz:
                raise ValueError("Hz has another type than before, or no value")
            leaf.MmsValue_setFloat(self._at(roots, layout.hz, lay.FLOAT), math.nan)
            leaf.MmsValue_setUtcTimeByBuffer(self._at(roots, layout.utc, lay.UTC_TIME), WIPED)
        return read

    def values(self, roots: dict[int, int]) -> Report:
        """Data objects that were read, by their number in the layout. Raises ValueError likewise."""
        self._places.clear()  # of values that are freed after each answer
        return self._read(dict.fromkeys(roots, REASON_UNKNOWN), roots)

    def _read(
        self,
        reasons: dict[int, int],
        roots: dict[int, int],
        sequence: int | None = None,
        entry: bytes = b"",
        overflow: bool = False,
    ) -> Report:
        leaf, layout = self._leaf, self._layout
        volts = None
        if layout.volts and all(path[0] in roots for path in layout.volts):
            volts = smallest([leaf.MmsValue_toDouble(self._at(roots, path, lay.FLOAT)) for path in layout.volts])
        if layout.hz[0] not in roots:
            return Report(sequence, 0, None, 0, b"", volts, entry, overflow)
        if layout.quality[0] not in roots or layout.utc[0] not in roots:
            raise ValueError("Hz without its q and t: use a data set with the whole data object (FCD)")
        hz = leaf.MmsValue_toDouble(self._at(roots, layout.hz, lay.FLOAT))
        quality = leaf.MmsValue_getBitStringAsInteger(self._at(roots, layout.quality, lay.BIT_STRING))
        octets = leaf.MmsValue_getUtcTimeBuffer(self._at(roots, layout.utc, lay.UTC_TIME))
        return Report(sequence, reasons[layout.hz[0]], hz, quality, c.string_at(octets, 8), volts, entry, overflow)

    def _included(self, report: int) -> tuple[dict[int, int], dict[int, int]]:
        """(reason, value) of each member of ours that this report includes; others keep their old value in the library.

        The library does not check the index of a reason; a member its array lacks was never in a report.
        """
        values = self._leaf.ClientReport_getDataSetValues(report)
        reasons: dict[int, int] = {}
        roots: dict[int, int] = {}
        for member in self._used:
            value = (self._leaf.MmsValue_getElement(values, member) if values else None) or 0
            reason = self._leaf.ClientReport_getReasonForInclusion(report, member) if value else 0
            if reason:
                reasons[member], roots[member] = reason, value
        return reasons, roots

    def _at(self, roots: dict[int, int], path: lay.Path, kind: int) -> int:
        leaf, root = self._leaf, roots[path[0]]
        place = self._places.get(path)
        if place is not None and place[0] == root:
            return place[1]
        value = root
        for index in path[1:]:
            value = leaf.MmsValue_getElement(value, index)  # none of something that is no structure
            if not value:
                raise ValueError(f"element {path} is missing")
        if leaf.MmsValue_getType(value) != kind:
            raise ValueError(f"element {path} has MMS type {leaf.MmsValue_getType(value)}, expected {kind}")
        self._places[path] = root, value
        return value
