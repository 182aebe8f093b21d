"""Keeps one subscription alive: connect, watch for silence, tear down, try again, until stopped.

It knows nothing of the protocol: a backend hands it `subscribe`, which returns a `Subscription` or raises. One thread.
A frozen IED keeps its TCP connection (the kernel answers for it), so silence is the only sign of its death.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from telemetry.iec61850.intake import Intake
from telemetry.source import OnBlock, SourceStatus

BACKOFF_MIN_S: Final = 0.1
BACKOFF_MAX_S: Final = 2.0
LOOK_S: Final = 0.05  # how often the watchdog looks; `stop` and a closed connection wake it no later


class Subscription(Protocol):
    """One association that brings samples."""

    @property
    def name(self) -> str:
        """What is subscribed, for people."""

    @property
    def mode(self) -> str:
        """How samples come; see `SourceStatus.mode`."""

    def tend(self) -> None:
        """Called now and then by the supervisor's thread, in which it may ask the peer."""

    def alive(self) -> bool:
        """False once the connection is known to be closed."""

    def close(self, polite: bool) -> None:
        """Free everything, in bounded time; `polite` gives the block back first, which takes an answering peer."""


Subscribe = Callable[[Callable[[], bool]], Subscription]  # takes "shall I give up?"


class Supervisor:
    """A `FrequencySource` around `subscribe`."""

    def __init__(self, subscribe: Subscribe, intake: Intake, silent_after_s: float, stop_within_s: float) -> None:
        if not silent_after_s > 0:
            raise ValueError(f"silent_after_s {silent_after_s}: give a positive number of seconds")
        self._subscribe = subscribe
        self._intake = intake
        self._silent_after_s = silent_after_s
        self._stop_within_s = stop_within_s
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._connected = False
        self._mode = ""
        self._subscriptions = 0
        self._detail = "not started"

    def start(self, on_block: OnBlock) -> None:
        """Begin to subscribe, and return at once. Raises RuntimeError if it is running already."""
        if self._thread is not None:
            raise RuntimeError("the source is running: stop it before it is started again")
        self._stopping.clear()
        self._intake.open(on_block)
        self._thread = threading.Thread(target=self._run, name="iec61850-source", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; bounded by a few request timeouts. A second call does nothing."""
        self._stopping.set()
        self._intake.shut()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(self._stop_within_s)
            self._detail = "did not end in time" if thread.is_alive() else "stopped"

    def status(self) -> SourceStatus:
        """The counters now."""
        intake = self._intake
        return SourceStatus(
            connected=self._connected,
            reports=intake.reports,
            reconnects=max(0, self._subscriptions - 1),
            gaps=intake.gaps,
            repeats=intake.repeats,
            last_rx_ns=intake.last_rx_ns,
            detail=intake.detail if self._connected and intake.detail else self._detail,
            surprises=intake.surprises,
            handler_errors=intake.handler_errors,
            mode=self._mode if self._connected else "",
        )

    def _run(self) -> None:
        backoff_s = BACKOFF_MIN_S
        while not self._stopping.is_set():
            before = self._intake.reports
            self._once()
            backoff_s = BACKOFF_MIN_S if self._intake.reports > before else min(2 * backoff_s, BACKOFF_MAX_S)
            self._stopping.wait(backoff_s)

    def _once(self) -> None:
        """One subscription from its beginning to its end; every error ends here, in `detail`."""
        try:
            subscription = self._subscribe(self._stopping.is_set)
        except Exception as error:
            self._detail = f"{type(error).__name__}: {error}"
            return
        self._subscriptions += 1
        self._describe(subscription)
        self._connected = True
        polite = False
        try:
            polite = self._watch(subscription)
        finally:
            self._connected = False
            subscription.close(polite)

    def _describe(self, subscription: Subscription) -> None:
        self._mode, self._detail = subscription.mode, f"subscribed to {subscription.name}"

    def _watch(self, subscription: Subscription) -> bool:
        """Return when the subscription is over; True if the peer still answers."""
        reports, since = self._intake.reports, time.monotonic()
        while not self._stopping.wait(min(LOOK_S, self._silent_after_s / 4)):
            if not subscription.alive():
                self._detail = "connection lost"
                return False
            subscription.tend()
            self._describe(subscription)
            if self._intake.reports != reports:
                reports, since = self._intake.reports, time.monotonic()
            elif time.monotonic() - since > self._silent_after_s:
                self._detail = f"no report for {self._silent_after_s:g} s"
                return False
        return True
