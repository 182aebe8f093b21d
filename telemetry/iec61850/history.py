"""What control missed, for the record: the reports of a buffered block, gap-free as long as the device's buffer lasts.

Policy for buffers and losses:
- A device keeps a buffered block's reports while nobody listens. On return we name the last one we settled (its
  EntryID, IEC 61850-7-2 17.2.2), and the device goes on after it. `bookmark` is that name; the caller keeps it over a
  restart.
- A row that control has had is not delivered again. Any other waits `SETTLE_NS` for the unbuffered report of the same
  instant, then leaves through `on_backfill`. At most `WAITING` rows wait; beyond, the oldest leaves at once.
- What the device lost is a `Gap`: its buffer overflowed (BufOvfl), it no longer knows our EntryID, its numbering began
  anew, or numbers were skipped. Rows around it tell from when to when.
- While the buffer is replayed, rows not after the bookmark are repeats: counted, not delivered.
- Where the buffered block is control's only one, fresh rows go to control; old ones, while the replay lasts, do not.

No library, no clock; one lock, because control may be polled from another thread.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from telemetry.iec61850.intake import NEVER_MEASURED, Intake
from telemetry.iec61850.mapping import Report
from telemetry.samples import Block
from telemetry.source import OnBlock

SETTLE_NS: Final = 1_000_000_000  # an unbuffered report of the same change comes within milliseconds
FRESH_NS: Final = 1_000_000_000  # older at arrival, while a replay lasts: history
REPLAY_NS: Final = 10_000_000_000  # a replay is over by then, whatever the device's clock says
WAITING: Final = 100_000
REMEMBERED: Final = 8192  # instants control has had
OLDEST: Final = bytes(8)  # the EntryID that asks for everything


class Bookmark(NamedTuple):
    """The last settled report of a buffered block."""

    block: str
    entry: bytes  # EntryID
    t_ns: int  # source time of its row

    def as_dict(self) -> dict[str, Any]:
        """For a file."""
        return {"block": self.block, "entry": self.entry.hex(), "t_ns": self.t_ns}

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> Bookmark:
        """The inverse. Raises ValueError or KeyError for what is none."""
        return cls(str(kept["block"]), bytes.fromhex(kept["entry"]), int(kept["t_ns"]))


class Gap(NamedTuple):
    """Reports the device no longer had."""

    block: str
    after_t_ns: int  # source time of the last row before; 0: unknown
    before_t_ns: int  # of the first row after
    reason: str  # overflow, entry_unknown, renumbered, other_block, skipped


class _Waiting(NamedTuple):
    instant: bytes
    entry: bytes
    row: Block
    rx_ns: int


class History:
    """One source's history.

    nominal_volt, source : as control's
    on_backfill          : a row that control did not have; called from the library's thread
    on_gap               : reports that are lost for good
    bookmark             : where an earlier run ended; None: everything the device still holds
    """

    def __init__(
        self,
        nominal_volt: float,
        source: int,
        on_backfill: OnBlock,
        on_gap: Callable[[Gap], None],
        bookmark: Bookmark | None = None,
    ) -> None:
        self._intake = Intake(nominal_volt, source)
        self._on_backfill, self._on_gap = on_backfill, on_gap
        self.bookmark = bookmark
        self.block = ""
        self.detail = ""
        self.backfilled = self.gaps = self.repeats = self.handler_errors = 0
        self._lock = threading.RLock()  # handing a row to control comes back as `had`
        self._had: OrderedDict[bytes, None] = OrderedDict()
        self._waiting: deque[_Waiting] = deque()
        self._alone: Intake | None = None
        self._gap = ""
        self._report: Report | None = None
        self._skipped = 0
        self._replaying = False
        self._replay_ends_ns = 0
        self._first = True

    @property
    def surprises(self) -> int:
        """Reports that could not be read."""
        return self._intake.surprises

    def ask(self, block: str) -> bytes:
        """The EntryID to resume a block after."""
        mark = self.bookmark
        return mark.entry if mark is not None and mark.block == block else OLDEST

    def connected(self, block: str, alone: Intake | None) -> None:
        """Before a block is enabled. alone : control's intake, if it has no block of its own"""
        with self._lock:
            self._flush()
            if self.bookmark is not None and self.bookmark.block != block:
                self._gap = "other_block"
            self.block, self._alone = block, alone
            self._replaying, self._replay_ends_ns, self._first = True, 0, True
            self._intake.connected(buffered=True)
            self._intake.open(self._row)

    def refused(self) -> None:
        """The device no longer has the EntryID we asked it to go on after."""
        with self._lock:
            if self.bookmark is not None:
                self._gap = self._gap or "entry_unknown"

    def had(self, report: Report) -> None:
        """Control was given this report's row."""
        with self._lock:
            self._had[report.utc[:7]] = None
            if len(self._had) > REMEMBERED:
                self._had.popitem(last=False)

    def take(self, report: Report, rx_ns: int) -> None:
        """One report of the buffered block."""
        with self._lock:
            if not self._replay_ends_ns:
                self._replay_ends_ns = rx_ns + REPLAY_NS
            self._notice_losses(report)
            self._report = report
            self._replaying = self._replaying and rx_ns < self._replay_ends_ns
            self._intake.take(report, rx_ns)
            if self._alone is not None:
                if self._replaying:
                    self._alone.alive(rx_ns)
                else:
                    self._alone.take(report, rx_ns)
            self._settle(rx_ns)

    def surprise(self, what: str, rx_ns: int) -> None:
        """A report that could not be read."""
        with self._lock:
            self._intake.surprise(what, rx_ns)
            if self._alone is not None:
                self._alone.surprise(what, rx_ns)
            self._gap = self._gap or "skipped"

    def shut(self) -> None:
        """Deliver what waits; nothing after it."""
        with self._lock:
            self._flush()
            self._intake.shut()

    # ---- under the lock

    def _notice_losses(self, report: Report) -> None:
        mark = self.bookmark
        if report.overflow and not (self._first and mark is None):  # before the first bookmark nothing was ours
            self._gap = self._gap or "overflow"
        resumed = self._first and mark is not None and mark.block == self.block
        if resumed and mark is not None and len(report.entry) == len(mark.entry) and report.entry <= mark.entry:
            self._gap = self._gap or "renumbered"
        self._first = False

    def _row(self, row: Block) -> None:
        """A row of the buffered block's intake, which has sorted out periodic repetitions."""
        report = self._report
        if report is None:
            return
        if self._intake.gaps > self._skipped:
            self._skipped = self._intake.gaps
            self._gap = self._gap or "skipped"
        t_ns, rx_ns = int(row["t_ns"][0]), int(row["rx_ns"][0])
        if report.utc[:7] == NEVER_MEASURED:  # a device that has started, and kept that in its buffer
            self.repeats += 1
            return
        mark = self.bookmark
        if self._replaying:
            if mark is not None and t_ns <= mark.t_ns:
                self.repeats += 1
                self._mark(report.entry, mark.t_ns)
                return
            self._replaying = rx_ns - t_ns > FRESH_NS
        self._tell_gap(t_ns)
        if self._alone is None:
            self._waiting.append(_Waiting(report.utc[:7], report.entry, row, rx_ns))
            return
        if self._replaying:
            self._backfill(row)
        self._mark(report.entry, t_ns)

    def _tell_gap(self, t_ns: int) -> None:
        reason, self._gap = self._gap, ""
        if not reason:
            return
        self.gaps += 1
        after_ns = self.bookmark.t_ns if self.bookmark is not None else 0
        if self._waiting:
            after_ns = int(self._waiting[-1].row["t_ns"][0])
        try:
            self._on_gap(Gap(self.block, after_ns, t_ns, reason))
        except Exception as error:
            self.handler_errors += 1
            self.detail = f"on_gap raised {type(error).__name__}: {error}"

    def _settle(self, rx_ns: int) -> None:
        """In order: what control had is done with, what has waited long enough is history."""
        while self._waiting:
            first = self._waiting[0]
            if first.instant not in self._had:
                if rx_ns - first.rx_ns < SETTLE_NS and len(self._waiting) <= WAITING:
                    return
                self._backfill(first.row)
            self._mark(first.entry, int(first.row["t_ns"][0]))
            self._waiting.popleft()

    def _flush(self) -> None:
        while self._waiting:
            self._settle(self._waiting[0].rx_ns + SETTLE_NS)

    def _mark(self, entry: bytes, t_ns: int) -> None:
        if entry:
            self.bookmark = Bookmark(self.block, entry, t_ns)

    def _backfill(self, row: Block) -> None:
        self.backfilled += 1
        try:
            self._on_backfill(row)
        except Exception as error:
            self.handler_errors += 1
            self.detail = f"on_backfill raised {type(error).__name__}: {error}"
