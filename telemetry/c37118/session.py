"""What to say to a PMU and when to give it up: the conversation of one connection.

Pure: time is passed in (monotonic ns), frames go elsewhere (`Intake`), commands come out as octets. Commanded units are
told to stop (a stream of an earlier client's making may still run), asked for CFG-2, or CFG-3 first, until it comes and
whenever the data can no longer be read for certain, and told to start until data come. A unit that sends of its own
accord is only watched.

A unit is given up when no data of it could be used for `silent_after_s`, or for three of its own periods if those are
longer: an open connection proves nothing, and neither do octets that nobody understands.
"""

from __future__ import annotations

from typing import Final

from telemetry.c37118.frames import Command, command
from telemetry.c37118.intake import Intake

REPEAT_NS: Final = 500_000_000  # between two requests of the same thing
ANSWERED_NS: Final = 100_000_000  # likewise, once the first was answered
PERIODS: Final = 3
_NS: Final = 1_000_000_000


class Session:
    """One connection's conversation.

    stream    : IDCODE that commands are addressed to; None: the unit sends of its own accord
    now_ns    : monotonic, at the beginning
    cfg3      : ask for CFG-3 first; a unit that leaves that unanswered once is asked for CFG-2
    """

    def __init__(
        self, intake: Intake, stream: int | None, silent_after_s: float, now_ns: int, cfg3: bool = False
    ) -> None:  # fmt: skip
        self._intake, self._stream = intake, stream
        self._silent_ns = round(silent_after_s * _NS)
        self._lively, self._since_ns = intake.lively, now_ns
        self._cfg3 = cfg3
        self._asked_ns: int | None = None
        self._told = intake.told  # when it was asked
        self._started_ns: int | None = None
        self._began = intake.lively
        intake.connected()

    @property
    def waiting(self) -> bool:
        """Whether the unit has been understood and no data have come since it was told to start, if it was."""
        return self._stream is not None and (self._started_ns is None or self._intake.lively == self._began)

    def commands(self, now_ns: int, wall_ns: int) -> list[bytes]:
        """What is to be sent now. wall_ns : ns since 1970 UTC, for the commands' own stamps"""
        intake, stream = self._intake, self._stream
        if stream is None:
            return []
        if not intake.certain:
            if not _due(self._asked_ns, now_ns, REPEAT_NS if intake.told == self._told else ANSWERED_NS):
                return []
            first = self._asked_ns is None
            if not first and intake.told == self._told:
                self._cfg3 = False  # a unit of 2005 does not know the command, and need not say so
            self._asked_ns, self._told = now_ns, intake.told
            self._started_ns = None  # a unit may stop while it changes its configuration
            ask = Command.SEND_CFG3 if self._cfg3 else Command.SEND_CFG2
            words = [Command.STOP, ask] if first else [ask]
        else:
            if not self.waiting or not _due(self._started_ns, now_ns, max(REPEAT_NS, 2 * self._period_ns())):
                return []
            self._began, self._started_ns = intake.lively, now_ns
            words = [Command.START]
        return [command(stream, word, wall_ns) for word in words]

    def farewell(self, wall_ns: int) -> list[bytes]:
        """What is said when we leave: a unit over UDP would go on sending to nobody."""
        return [] if self._stream is None else [command(self._stream, Command.STOP, wall_ns)]

    def verdict(self, now_ns: int) -> str:
        """Why to give the unit up, in words; empty: go on."""
        intake = self._intake
        if intake.lively != self._lively:
            self._lively, self._since_ns = intake.lively, now_ns
            return ""
        patience_ns = max(self._silent_ns, PERIODS * self._period_ns())
        if now_ns - self._since_ns <= patience_ns:
            return ""
        hint = "" if self._stream is None else f" (is {self._stream} the IDCODE of its stream? else set `stream`)"
        what = "no usable data" if intake.configuration else f"no usable configuration{hint}"
        last = f"; last {intake.detail}" if intake.detail and not intake.certain else ""
        return f"{what} for {patience_ns / _NS:g} s{last}"

    def _period_ns(self) -> int:
        known = self._intake.configuration
        return known.period_ns if known else 0


def _due(last_ns: int | None, now_ns: int, wait_ns: int) -> bool:
    return last_ns is None or now_ns - last_ns >= wait_ns
