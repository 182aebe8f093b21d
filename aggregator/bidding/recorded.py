"""Availability from what was recorded: a backtest's folder, a run's journal, a file of charging sessions.

A journal is not replayed: its sessions, reports and wishes go through the core's own door into an empty fleet, which is
looked at as a backtest looks at its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from aggregator.bidding import available, stays
from aggregator.bidding.available import FILE, SLICE, Slices, Watcher
from aggregator.bidding.products import BidError, Bundle, TooLittle
from aggregator.bidding.stays import Car
from aggregator.contracts import from_json
from aggregator.journal import Kind
from aggregator.registry import Registry
from droop.fleet import Fleet, allocate, allocate_totals
from telemetry import wire
from telemetry.sessions import open_sessions

JOURNAL: Final = "journal"
DOORS: Final = (Kind.START, Kind.SESSIONS, Kind.VEHICLES, Kind.WISHES)


class History(NamedTuple):
    """What was found: SLICE[n] in order of time; what had to be assumed; rows left out, by reason."""

    slices: Slices
    assumed: tuple[str, ...]
    left_out: dict[str, int]


def history(
    paths: Sequence[Path], bundle: Bundle, car: Car | None = None, *, chargers: int | None = None,
    site: str | None = None, tz: str | None = None, skip_bad: bool = False,
) -> History:  # fmt: skip
    """All of them together, each slice once; where two know one, the first speaks.

    car, chargers, site, tz, skip_bad : of session files

    Raises BidError for a path that is none of these, and for an empty history; SessionError for a bad session file.
    """
    if not paths:
        raise BidError("--history: give a backtest's folder, a run's folder or a file of charging sessions")
    parts, said, left_out = [], [], dict[str, int]()
    for path in paths:
        if path.is_dir() and (path / FILE).exists():
            parts.append(available.read(path / FILE, bundle))
        elif path.is_dir() and (path / JOURNAL).is_dir():
            parts.append(from_journal(path / JOURNAL, bundle))
        elif path.is_dir():
            raise BidError(f"--history {path}: holds neither {FILE} nor a journal; give a run or a backtest")
        elif path.suffix == ".parquet":
            parts.append(available.read(path, bundle))
        else:
            assumed = car or Car()
            rows, told = _sessions(path, bundle, assumed, chargers, site, tz, skip_bad)
            parts.append(rows)
            said.append(assumed.told())
            left_out = {name: left_out.get(name, 0) + told.get(name, 0) for name in {**left_out, **told}}
    rows = available.checked(np.concatenate([np.zeros(0, SLICE), *parts]), ", ".join(map(str, paths)))
    if not rows.size:
        raise TooLittle(f"--history {', '.join(map(str, paths))}: is empty: not one whole settlement interval in it")
    return History(rows, tuple(dict.fromkeys(said)), left_out)


def _sessions(
    path: Path, bundle: Bundle, car: Car, chargers: int | None, site: str | None, tz: str | None, skip_bad: bool
) -> tuple[Slices, dict[str, int]]:
    found = open_sessions(path, tz=tz, skip_bad=skip_bad)
    rows = found.rows
    if site is not None:
        if site not in found.sites:
            raise BidError(f"--site {site}: not in {path}; it has {', '.join(found.sites) or 'none'}")
        rows = rows[rows["site"] == found.sites.index(site)]
    made, unknown = stays.slices(rows, bundle, car, chargers)
    return made, dict(found.rejected) | {"leave_unknown": unknown}


def from_journal(folder: Path, bundle: Bundle, end_ns: int | None = None) -> Slices:
    """SLICE[n] of a run's journal. end_ns : only what was recorded before"""
    from aggregator import journal_reader  # Arrow: only where files are read

    looking: _Looking | None = None
    parts: list[Slices] = []
    for entry in journal_reader.entries(folder, set(DOORS), end_ns=end_ns):
        if entry.kind is Kind.START:
            settings = from_json(entry.payload)
            if looking is None or settings.continues == (0, 0):
                parts += [looking.watcher.rows] if looking is not None else []
                looking = _Looking(settings.rows, bundle)
        elif looking is not None and entry.kind is not Kind.GAP:
            looking.take(entry.kind, entry.payload, entry.now_ns)
    parts += [looking.watcher.rows] if looking is not None else []
    return np.concatenate([np.zeros(0, SLICE), *parts])


class _Looking:
    """An empty fleet that hears what a core heard."""

    def __init__(self, rows: int, bundle: Bundle) -> None:
        totals = allocate_totals()
        self.fleet: Fleet = allocate(rows)
        self.registry, self.watcher = Registry(self.fleet, totals), Watcher(bundle)

    def take(self, kind: Kind, payload: bytes, now_ns: int) -> None:
        """One call into a core; what was true before it is looked at first."""
        self.watcher.look(self.fleet, now_ns)
        block = wire.decode(payload)
        if kind is Kind.SESSIONS:
            self.registry.sessions(block, now_ns)
        elif kind is Kind.VEHICLES:
            self.registry.reports(block, now_ns)
        else:
            self.registry.wishes(block, now_ns)
