"""What each of several sources said, and when one was lost or contradicted: the record beside the journal.

Of every ingest that follows several sources a folder, `sources/NAME`, in the form of the journal: every row with its
marks (`Kind.SOURCES`), whether a decision came from it or not, and the ingest's alarms as they were raised and cleared
(`Kind.ALARM`). Nothing is decided or settled by it; it answers what a source said at a moment, and why it was not used.

Buffers, losses and resumption are the journal writer's (`journal_files`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from aggregator import journal_reader
from aggregator.journal import Entry, JournalError, Kind, Problem
from aggregator.journal_files import JournalWriter, parse
from aggregator.journal_parts import SOURCES
from telemetry import wire
from telemetry.samples import FREQUENCY


class SourceFiles:
    """The records of all ingests, for the one writer of a journal's folder.

    ingests : who may be heard; folders of others that are there are kept in order as well

    Raises OSError where they cannot be made or read, JournalError `schema` where they are a newer version's.
    """

    def __init__(self, folder: Path, ingests: Sequence[str]) -> None:
        self._home = folder / SOURCES
        self.malformed = 0  # payloads that are neither rows nor an alarm
        known = [path.name for path in journal_reader.source_folders(folder)]
        self._writers = {name: JournalWriter(self._home / name, of(name)) for name in dict.fromkeys((*ingests, *known))}

    @property
    def writers(self) -> tuple[JournalWriter, ...]:
        """Those that there are."""
        return tuple(self._writers.values())

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where they write."""
        return tuple(writer.folder for writer in self.writers)

    @property
    def waiting_bytes(self) -> int:
        """Payload not yet on disk."""
        return sum(writer.waiting_bytes for writer in self.writers)

    def resume_id(self, ingest: str) -> str | None:
        """Stream ID after which to go on reading; None for a new record."""
        return self._writers[ingest].resume_id()

    def feed(self, ingest: str, stream_id: str, payload: bytes) -> None:
        """Take one stream payload; one that is neither rows nor an alarm is counted and leaves a gap."""
        writer = self._writers[ingest]
        try:
            kind, now_ns = _read(payload)
        except ValueError:
            self.malformed += 1
            writer.refuse()
            return
        # Entries of the stream are numbered from 1, those of a journal from 0.
        writer.append([Entry(kind, 0, parse(stream_id)[1] - 1, now_ns, payload)], stream_id)

    def flush(self) -> None:
        """Write what waits. Raises what `JournalWriter.flush` does."""
        for writer in self.writers:
            writer.flush()


def of(ingest: str) -> str:
    """How GAP rows name the record of an ingest."""
    return f"{SOURCES}-{ingest}"


def alarms(
    folder: Path, ingest: str | None = None, problems: list[Problem] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:  # fmt: skip
    """(ingest, alarm) of every change on record, in order of each ingest; `cleared_ns` 0 where one was raised.

    folder : the journal's; ingest : of this one alone; problems : files that were passed over are added to it
    """
    for home in journal_reader.source_folders(folder):
        if ingest in (None, home.name):
            for entry in journal_reader.entries(home, (Kind.ALARM,), problems=problems):
                if entry.kind is Kind.ALARM:
                    yield home.name, dict(orjson.loads(entry.payload))


def _read(payload: bytes) -> tuple[Kind, int]:
    """(kind, time) of a payload. Raises ValueError."""
    if payload[:1] == b"{":
        alarm = orjson.loads(payload)
        now_ns = alarm.get("cleared_ns") or alarm.get("since_ns")
        if not isinstance(alarm.get("code"), str) or not isinstance(now_ns, int) or not 0 < now_ns < 2**63:
            raise JournalError("alarm", "no code or no time")
        return Kind.ALARM, now_ns
    block = wire.decode(payload)
    if block.dtype != FREQUENCY or not block.size:
        raise wire.WireError("kind", "the record of sources is FREQUENCY rows")
    return Kind.SOURCES, int(block["rx_ns"].max())
