"""Folders of recorded traces, and spans of time cut out of them: one recording in the order of its rows.

Every file of a folder that a reader knows, and that may have rows in the span asked for, is read once to its end before
anything is run, so that a broken one is named while nothing has been done; what is kept of it is when its first and its
last row were. Files that are no traces are left alone. Rows themselves are read when they are run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from settlement.statement import iso
from telemetry.samples import Block
from telemetry.traces import EmptyTrace, NotFrequency, Trace, TraceError, UnknownFormat

Opener = Callable[[Path], Trace]


class FolderError(ValueError):
    """Files that are no recording together; the message names them and the remedy."""


class Span(Trace):
    """The rows of a trace in [from_ns, to_ns), None: without that end."""

    def __init__(self, trace: Trace, from_ns: int | None, to_ns: int | None) -> None:
        super().__init__(trace.path, trace.layout, skip_bad=trace.skip_bad, repaired=trace.repaired)
        self._trace, self.span_ns = trace, (from_ns, to_ns)

    def __iter__(self) -> Iterator[Block]:
        from_ns, to_ns = self.span_ns
        self.rows = 0
        for block in self._trace:
            t_ns = block["t_ns"]
            inside = (t_ns >= from_ns) if from_ns is not None else (t_ns == t_ns)
            if to_ns is not None:
                inside &= t_ns < to_ns
            if inside.any():
                self.rows += int(inside.sum())
                self.read_frac = self._trace.read_frac
                yield block if inside.all() else block[inside]
        self.rejected = self._trace.rejected


class File(NamedTuple):
    """A trace of a folder, and when its first and last rows were [ns]."""

    trace: Trace
    first_ns: int
    last_ns: int


@dataclass
class Recording:
    """What a folder came to."""

    files: list[File] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)  # file and why

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the files in their order, those left out, and the times between files."""
        return {
            "read": [
                {"file": one.trace.path, "first": iso(one.first_ns), "last": iso(one.last_ns)} for one in self.files
            ],
            "skipped": [{"file": path, "reason": reason} for path, reason in self.skipped],
            "gaps": [
                {"after": one.trace.path, "before": other.trace.path, "seconds": (other.first_ns - one.last_ns) / 1e9}
                for one, other in pairwise(self.files)
            ],
        }


def gather(
    folder: Path, opened: Opener, *, from_ns: int | None = None, to_ns: int | None = None, skip_bad: bool = False
) -> Recording:  # fmt: skip
    """Every trace in a folder (not in folders within it) that has rows in [from_ns, to_ns), in the order of their rows.

    Of a file whose first row tells that none of its rows can be in the span no more is read.

    skip_bad : leave a broken file out instead of refusing it

    Raises TraceError for a broken file; FolderError where two overlap, and where there is none.
    """
    found = Recording()
    begun: list[tuple[int, str, Trace]] = []
    for path in sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")):
        with suppress(UnknownFormat, NotFrequency), _skipping(found, path, skip_bad):
            trace = opened(path)
            begun.append((_first_ns(trace), trace.path, trace))
    if not begun:
        raise FolderError(f"{folder}: no trace of frequency in it that can be read; give a folder that has one")
    begun.sort(key=lambda one: one[:2])
    nexts_ns = [first_ns for first_ns, _, _ in begun[1:]]
    for (first_ns, name, trace), next_ns in zip(begun, [*nexts_ns, None], strict=True):
        over = from_ns is not None and next_ns is not None and next_ns <= from_ns
        if over or (to_ns is not None and first_ns >= to_ns):
            continue
        with _skipping(found, Path(name), skip_bad):
            last_ns = _last_ns(trace)
            if from_ns is None or last_ns >= from_ns:
                found.files.append(File(trace, first_ns, last_ns))
    if not found.files:
        raise FolderError(f"{folder}: no row in the span of --from and --to; give another one")
    _refuse_overlaps(found.files)
    return found


@contextmanager
def _skipping(found: Recording, path: Path, skip_bad: bool) -> Iterator[None]:
    """A broken file is refused, or left out and named."""
    try:
        yield
    except (UnknownFormat, NotFrequency):
        raise
    except TraceError as error:
        if not skip_bad:
            raise
        found.skipped.append((str(path), " ".join(str(error).split())))


def _first_ns(trace: Trace) -> int:
    """When its first row was. Raises TraceError."""
    for block in trace:
        if block.size:
            return int(block["t_ns"][0])
    raise EmptyTrace(trace.path, None, "no row that could be read")


def _last_ns(trace: Trace) -> int:
    """When its last row was; all of it is read. Raises TraceError."""
    return [int(block["t_ns"][-1]) for block in trace if block.size][-1]


def _refuse_overlaps(files: Sequence[File]) -> None:
    for one, other in pairwise(files):
        if other.first_ns <= one.last_ns:
            raise FolderError(
                f"{other.trace.path}: begins {iso(other.first_ns)}, before {one.trace.path} ends "
                f"({iso(one.last_ns)}); take one of them out of the folder"
            )


def recordings(
    paths: Sequence[Path], opened: Opener, *, from_ns: int | None = None, to_ns: int | None = None,
    skip_bad: bool = False,
) -> tuple[list[Trace], list[Recording]]:  # fmt: skip
    """The traces of these files and folders, one after the other, and what was found in the folders.

    from_ns, to_ns : only rows in [from_ns, to_ns) are run; a folder's files that have none are not read again

    Raises as `gather`; FolderError for a span of nothing.
    """
    if from_ns is not None and to_ns is not None and to_ns <= from_ns:
        raise FolderError(f"--to {iso(to_ns)} is not after --from {iso(from_ns)}: give a later one")
    traces: list[Trace] = []
    found: list[Recording] = []
    for path in paths:
        if not path.is_dir():
            traces.append(opened(path))
            continue
        whole = gather(path, opened, from_ns=from_ns, to_ns=to_ns, skip_bad=skip_bad)
        found.append(whole)
        traces += [one.trace for one in whole.files]
    if from_ns is None and to_ns is None:
        return traces, found
    return [Span(trace, from_ns, to_ns) for trace in traces], found
