"""Kernels are compiled in a process of their own, once, and only loaded by those that decide.

A process that compiles a kernel and one that loads it may run two copies of what is called within it: both are right,
and a float32 may differ in its last bit. A recorded run is to be replayed byte for byte, and a stopped backtest to go
on to the same result; so whoever decides, settles or replays runs what lies in the cache, from the first start on.

A mark in the cache folder says that all of them are there, for these files, this Python, numba and processor. Where no
private folder can be had (`droop.numerics.cache_folder`) each process compiles for itself, and two of them may differ
in last bits.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final, Protocol

import aggregator
import droop
from droop.numerics import cache_folder, machine

LOCK: Final = "compiling.lock"
LOOK_S: Final = 0.1


class Told(Protocol):
    """Whether the process has been told to stop (`process.Stop`)."""

    def __bool__(self) -> bool:
        """True once it has."""

    def wait(self, seconds: float) -> bool:
        """Wait, unless told meanwhile."""


class Says(Protocol):
    """A log."""

    def info(self, event: str, **facts: object) -> object:
        """One line."""


def complete() -> bool:
    """Whether every kernel lies in the cache, or none ever will."""
    folder = cache_folder()
    return folder is None or _mark(folder).exists()


def ensure(log: Says | None = None, stop: Told | None = None) -> None:
    """Have every kernel compiled; one or two minutes at the first start of a version, nothing after it.

    Told to stop, it leaves at once, with nothing compiled. A compilation that fails leaves it to the caller's own.
    """
    if complete():
        return
    begun_s = time.monotonic()
    if log is not None:
        log.info("first start of this version: compiling kernels, one or two minutes", kept=str(cache_folder()))
    # Its standard input is our end: if we are killed, it goes as well.
    with subprocess.Popen([sys.executable, "-m", "aggregator.compiling"], stdin=subprocess.PIPE) as child:
        while child.poll() is None:
            if stop is not None and stop:
                child.kill()
            elif stop is not None:
                stop.wait(LOOK_S)
            else:
                time.sleep(LOOK_S)
    if log is not None and complete():
        log.info("kernels compiled", seconds=round(time.monotonic() - begun_s, 1))


def _mark(folder: Path) -> Path:
    return folder / f"whole-{machine()}-{_sources()}"


def _sources() -> str:
    """Where the kernels' files lie and when they were written, in twelve digits: numba keeps its cache by that."""
    facts = [
        (str(path), path.stat().st_mtime_ns, path.stat().st_size)
        for package in (droop, aggregator) for path in sorted(Path(package.__path__[0]).rglob("*.py"))
    ]  # fmt: skip
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


def _until_orphaned() -> None:
    # Not through `sys.stdin`: its lock, held by a thread at the interpreter's end, is a fatal error.
    while os.read(0, 1):
        pass
    os._exit(1)


def main() -> None:
    """Compile what is missing, one process at a time, and leave the mark."""
    # A terminal's Ctrl-C reaches the whole group; whether we end is our parent's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_until_orphaned, name="guard", daemon=True).start()
    folder = cache_folder()
    if folder is None:
        return
    with (folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete():
            from aggregator.warming import rehearse_everything

            rehearse_everything()
            _mark(folder).touch(mode=0o600)


if __name__ == "__main__":
    main()
