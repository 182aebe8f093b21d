"""Recorded charging sessions: one reader per published format, all giving the same STAY rows.

    stays = open_sessions("acndata_sessions.json")
    inspect(stays)

Formats are recognised by content, plain or gzipped.
"""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from datetime import tzinfo
from os import PathLike, fspath
from pathlib import Path
from types import ModuleType
from typing import Final

from telemetry.sessions import acn_json, norway_csv, stays_csv
from telemetry.sessions.errors import (
    BadSessionOption,
    Fault,
    MalformedSession,
    SessionError,
    UnknownSessions,
)
from telemetry.sessions.report import inspect
from telemetry.sessions.stays import STAY, Row, Stays, judged, table
from telemetry.traces.stamps import zone_of

__all__ = [
    "FORMATS",
    "STAY",
    "BadSessionOption",
    "MalformedSession",
    "SessionError",
    "Stays",
    "UnknownSessions",
    "inspect",
    "open_sessions",
    "recognise",
]

READERS: Final[tuple[ModuleType, ...]] = (acn_json, norway_csv, stays_csv)
FORMATS: Final[dict[str, ModuleType]] = {module.NAME: module for module in READERS}
HEAD: Final = 65_536
GZIP: Final = b"\x1f\x8b"


def recognise(path: str | PathLike[str]) -> str | None:
    """The name of a session file's format; None for one that is none. Raises SessionError where there is no file."""
    name = fspath(path)
    try:
        with Path(name).open("rb") as file:
            head = file.read(HEAD)
        if head.startswith(GZIP):
            with gzip.open(name) as file:
                head = file.read(HEAD)
    except (OSError, EOFError, zlib.error):
        # Whoever opens it says why it cannot be read.
        return None
    return next((known for known, reader in FORMATS.items() if reader.recognises(head)), None)


def open_sessions(
    path: str | PathLike[str], *, format: str | None = None, tz: str | None = None, skip_bad: bool = False
) -> Stays:
    """A file of sessions, read and judged row by row.

    format   : one of FORMATS; recognised by content where None
    tz       : zone of times that name none (IANA name or +02:00); the publisher's where None
    skip_bad : count rows that cannot be true (`rejected`) instead of raising MalformedSession

    Raises SessionError.
    """
    name = fspath(path)
    if format is not None and format not in FORMATS:
        raise BadSessionOption(name, None, f"--format: no format {format!r} of sessions; known: {', '.join(FORMATS)}")
    data = _bytes(name)
    found = format or next((known for known, reader in FORMATS.items() if reader.recognises(data[:HEAD])), None)
    if found is None:
        raise UnknownSessions(name, None, f"no charging sessions that are known ({', '.join(FORMATS)})")
    reader = FORMATS[found]
    zone = tz or str(reader.zone_of(name, data))
    try:
        clock: tzinfo = zone_of(zone)
    except ValueError as error:
        raise BadSessionOption(name, None, f"--tz: {error}") from None
    rejected: Counter[str] = Counter()
    rows: list[tuple[int, Row]] = []
    for line, row in reader.read(name, data, clock):
        fault = row if isinstance(row, Fault) else _fault(row)
        if fault is None:
            rows.append((line, row))
        elif skip_bad:
            rejected[fault.reason] += 1
        else:
            raise MalformedSession(name, line, fault)
    block, sites = table(rows)
    return Stays(name, found, zone, block, sites, rejected)


def _fault(row: Row) -> Fault | None:
    try:
        judged(row)
    except Fault as fault:
        return fault
    return None


def _bytes(name: str) -> bytes:
    try:
        data = Path(name).read_bytes()
        return gzip.decompress(data) if data.startswith(GZIP) else data
    except FileNotFoundError:
        raise UnknownSessions(name, None, "no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UnknownSessions(name, None, f"cannot be read: {error}") from None
