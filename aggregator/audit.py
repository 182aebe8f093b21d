"""What an auditor reads: one line of JSON an event, appended to a file that its owner alone can read.

Policies: events wait for the disk in memory up to `EVENTS_MAX`, then the newest are dropped; of refusals no more than
`REFUSALS_MAX` a second are written, for whoever knocks must not fill the disk. Both losses are counted, and said in the
next line that is written.
"""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from typing import Any, Final

import orjson

EVENTS_MAX: Final = 10_000
REFUSALS_MAX: Final = 100


class Audit:
    """One line an event, appended and flushed to the disk."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = folder / f"{name}.jsonl"
        self.path.touch(mode=0o600)
        self._waiting: deque[dict[str, Any]] = deque()
        self.dropped = self.unwritten = self.lines = 0
        self._second, self._refusals = 0, 0

    def put(self, what: str, t_ns: int, **more: Any) -> None:
        """Record an event; any thread. Never waits."""
        if what.startswith("refused"):
            self._second, self._refusals = (t_ns // 10**9, 0) if t_ns // 10**9 != self._second else (
                self._second, self._refusals
            )  # fmt: skip
            self._refusals += 1
            if self._refusals > REFUSALS_MAX:
                self.unwritten += 1
                return
        if len(self._waiting) >= EVENTS_MAX:
            self.dropped += 1
            return
        self._waiting.append({"what": what, "t_ns": t_ns, **more})

    def flush(self) -> None:
        """To the disk; on a full disk events wait on, and are dropped from `EVENTS_MAX` on."""
        if not self._waiting:
            return
        rows = list(self._waiting)
        losses = {"dropped": self.dropped, "unwritten": self.unwritten}
        rows[-1] |= {name: count for name, count in losses.items() if count}
        with self.path.open("ab") as file:
            file.write(b"".join(orjson.dumps(row) + b"\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())
        self.lines += len(rows)
        for _ in rows:
            self._waiting.popleft()
