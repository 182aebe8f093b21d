"""Sessions in a text table with a header: its columns, and each of its rows or what is wrong with it."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from typing import NamedTuple

from telemetry.sessions.errors import Fault
from telemetry.sessions.stays import Row


class TableFile(NamedTuple):
    """The text of a table.

    names : of its columns, in small letters
    lines : below the header
    """

    names: list[str]
    lines: list[str]
    delimiter: str

    def rows(self, row: Callable[[dict[str, str]], Row]) -> Iterator[tuple[int, Row | Fault]]:
        """Each row, or its fault, with its line from 1. row : makes one of its cells by name; raises Fault"""
        for line, cells in enumerate(csv.reader(self.lines, delimiter=self.delimiter), 2):
            if not cells:
                continue
            try:
                if len(cells) != len(self.names):
                    raise Fault("row", "cells", f"{len(cells)} cells, the header has {len(self.names)}")
                yield line, row(dict(zip(self.names, cells, strict=True)))
            except Fault as fault:
                yield line, fault


def table(data: bytes, delimiter: str) -> TableFile:
    """The table in a file, or as much of it as its beginning shows."""
    first, *others = data.decode("utf-8-sig", "replace").splitlines() or [""]
    names = [cell.strip().strip('"').lower() for cell in first.strip().split(delimiter)]
    return TableFile(names, others, delimiter)
