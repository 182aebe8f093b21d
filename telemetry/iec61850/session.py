"""One association and what it brings: reports of the best block that can be had, else answers; and the history beside.

The order of preference is the client's (client.py). Everything here happens on the supervisor's thread, except asking
for values, which has one of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from telemetry.iec61850 import layout as lay
from telemetry.iec61850.discovery import Description, browse, layout_of, points_in_order, pollable
from telemetry.iec61850.errors import BlockTaken, LayoutError, LinkLost, SubscribeError
from telemetry.iec61850.history import History
from telemetry.iec61850.intake import Intake
from telemetry.iec61850.link import Ask, Link

RETRY_S: Final = 10.0  # between tries to get from polling to reports
HISTORY_RETRY_S: Final = 2.0  # between tries to get a buffered block
# A device may take so long to see that our old connection is gone, and until then our block serves, it thinks, us.
# Another block knows nothing of the bookmark.
PATIENCE_S: Final = 60.0


class Wanted(NamedTuple):
    """What is wanted of a device."""

    blocks: list[str] | None
    hz_ref: str | None
    volt_ref: str | None
    integrity_ms: int
    poll_ms: int | None
    history_blocks: list[str] | None


@dataclass
class Polls:
    """Values asked for, over all sessions."""

    made: int = 0


class Session:
    """One association and what it brings; a `supervisor.Subscription`."""

    def __init__(
        self,
        link: Link,
        wanted: Wanted,
        intake: Intake,
        history: History | None,
        polls: Polls,
        give_up: Callable[[], bool],
    ) -> None:
        self._link, self._wanted = link, wanted
        self._intake, self._history, self._polls, self._give_up = intake, history, polls, give_up
        self._description: Description | None = None
        self._enabled: list[str] = []
        self._ending = threading.Event()
        self._poller: threading.Thread | None = None
        self._broken = self._without_history = False
        self._opened_s = self._retry_s = 0.0
        self.name, self.mode = "", ""

    def open(self) -> None:
        """Raises SubscribeError or LayoutError, naming each block's own reason."""
        refusals: list[SubscribeError | LayoutError] = []
        if not self._take_one(refusals):
            self._poll_instead(refusals)
        self._opened_s = self._retry_s = time.monotonic()
        self._without_history = self._history is not None and self.mode != "buffered reports"
        self.tend()

    def tend(self) -> None:
        """Get the history's block, at once or when it is free. Raises nothing: a lost peer shows in `alive`."""
        now_s = time.monotonic()
        if self._history is None or not self._without_history or now_s < self._retry_s:
            return
        self._retry_s = now_s + HISTORY_RETRY_S
        try:
            self._without_history = not self._take_history(self._history, now_s - self._opened_s < PATIENCE_S)
        except LinkLost as error:
            self._history.detail = str(error)
            self._broken = True

    def alive(self) -> bool:
        """Whether the connection is open and, where values are asked for, they are answered."""
        return not self._broken and self._link.alive()

    def close(self, polite: bool) -> None:
        """Free everything, in bounded time; `polite` gives the blocks back first, which takes an answering peer."""
        self._ending.set()
        if self._poller is not None:
            self._poller.join()
        if polite:
            for block in self._enabled:
                self._link.disable(block)
        self._link.close()

    # ---- reports

    def _take_one(self, refusals: list[SubscribeError | LayoutError]) -> bool:
        """Enable the first block that can be had; every other's reason is kept."""
        blocks = self._wanted.blocks if self._wanted.blocks is not None else self._browse().choose()
        for block in blocks:
            try:
                self._enable(block)
            except LinkLost:
                raise
            except (SubscribeError, LayoutError) as error:
                refusals.append(error)
            else:
                return True
        return False

    def _enable(self, block: str) -> None:
        link, wanted, history = self._link, self._wanted, self._history
        status = link.status(block)
        if status.taken:
            raise BlockTaken(f"enable {block}", reason=status.taken)
        layout = layout_of(link, status, wanted.hz_ref, wanted.volt_ref)[0]
        self._intake.connected(status.buffered)
        if history is not None and status.buffered:
            history.connected(block, alone=self._intake)
            link.enable(status, Ask(wanted.integrity_ms, history.ask(block), history.refused), layout, history)
        else:
            link.enable(status, Ask(wanted.integrity_ms), layout, self._intake)
        self._enabled.append(block)
        self.name, self.mode = block, "buffered reports" if status.buffered else "reports"

    def _browse(self) -> Description:
        if self._description is None:
            self._description = browse(self._link, self._wanted.hz_ref, self._wanted.volt_ref)
        return self._description

    def _take_history(self, history: History, patient: bool) -> bool:
        """A buffered block beside control. Without one control goes on; the reason stands in the status."""
        wanted, refusals = self._wanted, []
        blocks = wanted.history_blocks if wanted.history_blocks is not None else self._browse().choose(buffered=True)
        mark = history.bookmark
        if mark is not None:  # the block that knows our bookmark first, and for a while no other
            others = [block for block in blocks if block != mark.block]
            blocks = [mark.block] if patient and self._exists(mark.block) else [mark.block, *others]
        for block in blocks:
            try:
                status = self._link.status(block)
                layout = layout_of(self._link, status, wanted.hz_ref, wanted.volt_ref)[0]
                if status.taken:
                    raise BlockTaken(f"enable {block}", reason=status.taken)
                if any(self._link.status(other).rpt_id == status.rpt_id for other in self._enabled):
                    raise SubscribeError(f"enable {block}", reason="its RptID is that of control's block")
                history.connected(block, alone=None)
                self._link.enable(status, Ask(None, history.ask(block), history.refused), layout, history)
            except LinkLost:
                raise
            except (SubscribeError, LayoutError) as error:
                refusals.append(str(error))
            else:
                self._enabled.append(block)
                history.detail = ""
                return True
        history.detail = "; ".join(refusals) or "the device has no buffered block for this frequency"

        return False

    def _exists(self, block: str) -> bool:
        try:
            self._link.status(block)
        except LinkLost:
            raise
        except SubscribeError:
            return False
        return True

    # ---- asking

    def _poll_instead(self, refusals: Sequence[SubscribeError | LayoutError]) -> None:
        """Only where blocks are missing or taken; a name or a point that is wrong stays an error."""
        taken = any(isinstance(error, BlockTaken) for error in refusals)
        if self._wanted.poll_ms is None or not (taken or self._wanted.blocks is None):
            raise SubscribeError("no report control block is free", reason=_reasons(refusals, self._description))
        try:
            refs, layout = self._point()
            self._intake.connected(buffered=False)
            self._ask_once(refs, layout)
        except LinkLost:
            raise
        except (SubscribeError, LayoutError) as error:
            reasons = _reasons([*refusals, error], self._description)
            raise SubscribeError("no report control block is free, nor a value to ask for", reason=reasons) from error
        self.name, self.mode = f"{refs[0]}, asked every {self._wanted.poll_ms} ms", "polling"
        self._poller = threading.Thread(target=self._poll, args=(refs, layout), name="iec61850-poll", daemon=True)
        self._poller.start()

    def _point(self) -> tuple[list[str], lay.Layout]:
        wanted = self._wanted
        if wanted.hz_ref is not None:
            return pollable(self._link, wanted.hz_ref, wanted.volt_ref)
        if wanted.blocks is not None:  # the frequency that the named block would have reported
            _, hz, volt = layout_of(self._link, self._link.status(wanted.blocks[0]), None, wanted.volt_ref)
            try:
                return pollable(self._link, hz, volt)
            except SubscribeError:
                return pollable(self._link, hz, None)
        points = points_in_order(self._browse())
        if not points:
            raise LayoutError("no logical node has a frequency (an MV called Hz) that can be read")
        return pollable(self._link, points[0].hz, wanted.volt_ref or points[0].volt or None)

    def _poll(self, refs: list[str], layout: lay.Layout) -> None:
        """Ask until told to end; an answer that does not come ends the session."""
        period_s = (self._wanted.poll_ms or 0) / 1000
        due_s = time.monotonic()
        retry_s = due_s + RETRY_S
        while not self._ending.wait(max(0.0, due_s - time.monotonic())) and not self._give_up():
            now_s = time.monotonic()
            due_s = max(due_s + period_s, now_s)  # what was missed is not made up for
            try:
                if now_s >= retry_s:
                    retry_s = now_s + RETRY_S
                    self._description = None
                    if self._take_one([]):
                        return
                self._ask_once(refs, layout)
            except LinkLost:
                self._broken = True
                return
            except (SubscribeError, LayoutError) as error:
                self._intake.surprise(str(error), time.time_ns())

    def _ask_once(self, refs: list[str], layout: lay.Layout) -> None:
        report = self._link.read(refs, layout)
        rx_ns = time.time_ns()
        self._polls.made += 1
        self._intake.take(report, rx_ns)


def _reasons(refusals: Sequence[SubscribeError | LayoutError], description: Description | None) -> str:
    reasons = [str(error) for error in refusals]
    if description is not None:
        reasons += [f"{block.ref}: {block.why_not}" for block in description.blocks if block.why_not]
        reasons += [f"{point.hz}: {point.why_not}" for point in description.points if point.why_not]
    return "; ".join(reasons)
