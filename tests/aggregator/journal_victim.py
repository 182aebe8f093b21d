"""A journal writer that is killed: run by `test_journal_crash` as a process of its own.

    python -m tests.aggregator.journal_victim FOLDER ROUNDS SEED

Forks a writer a round. The writer goes on where the files end, as a restarted settlement would, from a stream that
still holds everything, and is killed with SIGKILL: after so many bytes or file operations, or by the parent's clock.
Each writer first checks what the one before left. Prints one JSON document.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from aggregator import journal, journal_keeping, journal_parts, journal_reader
from aggregator.journal import Entry, Kind
from aggregator.journal_files import JournalWriter
from telemetry import wire
from telemetry.samples import POWER

NS = 1_000_000_000
NOW_NS = 1_700_000_000 * NS
PAYLOADS = 48
HOLES = {9, 30}  # stream entries that never were, so that there are gaps to resume over


def stream() -> list[tuple[str, list[Entry]]]:
    """What the stream holds: two epochs, payloads of a few entries some ten minutes apart, over hour edges."""
    found = []
    for epoch, base in ((7, 0), (8, PAYLOADS // 2)):
        seq = 0
        for k in range(PAYLOADS // 2):
            now_ns = NOW_NS + (base + k) * 11 * 60 * NS
            block = np.zeros(k % 3 + 1, POWER)
            block["t_ns"], block["power_kw"] = now_ns, base + k
            kinds = [
                (Kind.METERS, wire.encode(block)),
                (Kind.TIME, b"12345678"),
                (Kind.COMMANDS, os.urandom(0) + b"c" * 99),
            ]
            entries = [] if k else [Entry(Kind.START, 0, 0, 0, b"{}")]
            first = seq + len(entries)
            entries += [Entry(kind, 0, first + n, now_ns + n, data) for n, (kind, data) in enumerate(kinds)]
            seq = entries[-1].seq + 1
            if base + k not in HOLES:
                found.append((f"{epoch}-{k + 1}", entries))
    return found


def expected() -> list[Entry]:
    """What a journal of all of it holds, as one that was never killed would write it."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        writer = JournalWriter(Path(folder))
        for stream_id, entries in stream():
            writer.append(entries, stream_id)
        writer.flush()
        return list(journal_reader.entries(Path(folder)))


class Fate:
    """Counts what the writer does and kills it at the given step."""

    def __init__(self, steps: int | None) -> None:
        self.left = steps

    def step(self, count: int = 1) -> None:
        if self.left is not None:
            self.left -= count
            if self.left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Every byte written and every fsync, rename, unlink and mkdir is a step."""
        real_create, fate = journal_parts.create, self

        class File:
            def __init__(self, path: Path) -> None:
                self._file = real_create(path)
                self.closed = False

            def write(self, data: bytes) -> int:
                data = bytes(data)
                if fate.left is not None and fate.left <= len(data):
                    self._file.write(data[: fate.left])
                    self._file.flush()
                fate.step(len(data))
                return self._file.write(data)

            def close(self) -> None:
                self._file.close()
                self.closed = True

            def __enter__(self) -> File:
                return self

            def __exit__(self, *_: object) -> None:
                self.close()

            def __getattr__(self, name: str) -> object:
                return getattr(self._file, name)

        journal_parts.create = journal_keeping.create = File  # type: ignore[assignment, misc]
        for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink"), (Path, "mkdir")):
            setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, real):
        def call(*args, **kwargs):
            self.step(20)
            return real(*args, **kwargs)

        return call


def left_whole(folder: Path, wanted: list[Entry], wreck: str) -> None:
    """What is there is the beginning of what should be, nothing twice and nothing named."""
    problems: list[journal.Problem] = []
    found = list(journal_reader.entries(folder, problems=problems))
    assert found == wanted[: len(found)], f"{wreck}: another order or other entries"
    assert not problems, f"{wreck}: {problems}"


def life(folder: Path, wanted: list[Entry], rng: np.random.Generator, fate: Fate) -> None:
    """One writer, from where the files end to the end of the stream, flushing and merging as it goes."""
    left_whole(folder, wanted, "after a kill")
    fate.install()
    writer = JournalWriter(folder)
    resume = writer.resume_id()
    for stream_id, entries in stream():
        if resume is None or tuple(map(int, stream_id.split("-"))) > tuple(map(int, resume.split("-"))):
            writer.append(entries, stream_id)
            if rng.random() < 0.4:
                writer.flush()
            if rng.random() < 0.3:
                journal_keeping.merge(folder)
    writer.flush()
    while journal_keeping.merge(folder) is not None:
        pass


def main() -> None:
    """Rounds of kills; then one writer that lives; then the next journal."""
    folder, rounds, rng = Path(sys.argv[1]), int(sys.argv[2]), np.random.default_rng(int(sys.argv[3]))
    wanted = expected()
    killed = journals = 0
    home = folder / "0"
    for _ in range(rounds):
        steps = int(rng.integers(1, 120_000)) if rng.random() < 0.7 else None
        seed = int(rng.integers(1 << 32))
        pid = os.fork()
        if pid == 0:
            try:
                life(home, wanted, np.random.default_rng(seed), Fate(steps))
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        if steps is None:
            time.sleep(rng.random() * 0.15)
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            killed += 1
            continue
        if os.WEXITSTATUS(status):
            raise SystemExit(f"round in {home} failed")
        journals += 1
        home = folder / str(journals)
    print(json.dumps({"killed": killed, "journals": journals}))


if __name__ == "__main__":
    main()
