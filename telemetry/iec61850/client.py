"""A frequency from an IEC 61850 device: associate, choose a block, listen; else ask; and fetch what was missed.

The library is behind `link.Connect`, the thread that keeps it all alive is the supervisor's. Order of preference, each
step only where the one before cannot be had:

1. reports of an unbuffered block (of a buffered one where that is named), the one configured or the best one found;
2. where every block serves somebody else, or the device has none: the values themselves, asked for every `poll_ms`,
   repetitions left out by their time, and a block tried for again every `session.RETRY_S`.

Beside either, if `on_backfill` is given: a buffered block for the record (history.py).
"""

from __future__ import annotations

from collections.abc import Callable

from telemetry.iec61850.history import Bookmark, Gap, History
from telemetry.iec61850.intake import Intake
from telemetry.iec61850.link import Connect
from telemetry.iec61850.references import candidates
from telemetry.iec61850.session import Polls, Session, Wanted
from telemetry.iec61850.supervisor import Supervisor
from telemetry.source import OnBlock, SourceStatus


class ReportClient(Supervisor):
    """A `FrequencySource`.

    connect           : how to associate, from a backend
    report_block      : the first report control block to try; the next two instances follow if it is taken.
                        None: the model is browsed and the best free one taken
    hz_ref, volt_ref  : the MV and the WYE; by default the `Hz` of the block's data set, and `PhV` beside it
    nominal_volt      : phase to neutral, in the unit the IED reports
    integrity_ms      : period of repeated reports, which tell a silent grid from a dead IED
    silent_after_s    : without any report for so long the association is given up and made anew
    source            : number of the measuring point, copied into each row
    poll_ms           : period of asking where no block is free; None: do not ask, wait for a block
    on_backfill       : rows that control missed, from a buffered block; None: no history
    on_gap            : called with a `history.Gap` for what the device no longer held
    history_block     : the first buffered block to try; None: the best one found
    bookmark          : where an earlier run's history ended

    Raises ValueError for a parameter that cannot be.
    """

    def __init__(
        self,
        connect: Connect,
        report_block: str | None = None,
        hz_ref: str | None = None,
        volt_ref: str | None = None,
        nominal_volt: float = 230.0,
        integrity_ms: int = 1000,
        silent_after_s: float = 3.0,
        source: int = 0,
        connect_timeout_s: float = 1.0,
        poll_ms: int | None = 20,
        on_backfill: OnBlock | None = None,
        on_gap: Callable[[Gap], None] | None = None,
        history_block: str | None = None,
        bookmark: Bookmark | None = None,
    ) -> None:
        if poll_ms is not None and poll_ms <= 0:
            raise ValueError(f"poll_ms {poll_ms}: give a positive number of milliseconds, or None")
        wanted = Wanted(
            candidates(report_block) if report_block is not None else None, hz_ref, volt_ref, integrity_ms, poll_ms,
            candidates(history_block, buffered=True) if history_block is not None else None,
        )  # fmt: skip
        intake = Intake(nominal_volt, source)
        self._history: History | None = None
        if on_backfill is not None:
            self._history = History(nominal_volt, source, on_backfill, on_gap or (lambda _: None), bookmark)
            intake.on_delivered = self._history.had
        self._polls = Polls()

        def subscribe(give_up: Callable[[], bool]) -> Session:
            session = Session(connect(give_up), wanted, intake, self._history, self._polls, give_up)
            try:
                session.open()
            except BaseException:
                session.close(polite=False)
                raise
            return session

        super().__init__(subscribe, intake, silent_after_s, stop_within_s=5.0 + 4 * connect_timeout_s)

    def stop(self) -> None:
        """End; bounded by a few request timeouts. What waits in the history is delivered. Again: nothing."""
        super().stop()
        if self._history is not None:
            self._history.shut()

    def bookmark(self) -> Bookmark | None:
        """Where the history has come to; keep it, and give it to the next run."""
        return self._history.bookmark if self._history is not None else None

    def status(self) -> SourceStatus:
        """The counters now."""
        status, history = super().status(), self._history
        counters = {"polls": self._polls.made}
        if history is not None:
            counters |= {"backfilled": history.backfilled, "history_gaps": history.gaps}
            told = history.detail and status.connected
            detail = f"{status.detail}; history: {history.detail}" if told else status.detail
            return SourceStatus(**status.__dict__ | counters | {"detail": detail})
        return SourceStatus(**status.__dict__ | counters)
