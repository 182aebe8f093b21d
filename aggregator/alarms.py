"""Alarms that stand: raised once, cleared once, each with its time and what to do about it.

Pure: time is passed in. Every change is a record for the journal; repeating a standing alarm is none.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final, Literal

Severity = Literal["warning", "critical"]


@dataclass(frozen=True)
class Kind:
    """One row of the alarm table."""

    severity: Severity
    text: str


TABLE: Final = {
    "FREQUENCY_LOST": Kind("critical", "no usable frequency: response held, then ramped to the baseline"),
    "DEAD_BUS": Kind("critical", "no voltage at the measuring point: response stopped, nothing is discharged"),
    "FREQUENCY_OUT_OF_BOUNDS": Kind(
        "critical", "frequency beyond the trip limits: all vehicles ceased, back by the code's window, delay and ramp"
    ),
    "SOURCE_LOST": Kind("warning", "a source of frequency is silent or unusable: the others go on without it"),
    "INGEST_LOST": Kind("warning", "an ingest is silent or has nothing usable: the others go on without it"),
    "SOURCES_DISAGREE": Kind("critical", "sources of frequency contradict each other: see which of them is acted on"),
    "SHORTFALL": Kind("critical", "the fleet cannot give what is asked; see unserved power by reason"),
    "SOLD_ABOVE_CAPABILITY": Kind("warning", "more is sold than the fleet has power and energy for"),
    "STALE_REPORTS": Kind("warning", "more than one plugged vehicle in ten is silent, or left out for not following"),
    "SITE_SHED": Kind("warning", "a site's cap left no room for what its vehicles must do: some of it was shed"),
    "SITE_OVERLOADED": Kind("critical", "a site's cap is passed by power that nobody here can move"),
    "SITE_BLIND": Kind("critical", "a site's meter is silent, and its worst cases leave no power that is safe"),
    "CHARGERS_REFUSE": Kind("warning", "chargers acknowledge commands and do not follow: left out, tried again later"),
    "NO_FLEET": Kind("warning", "no vehicle is plugged in"),
    "ALERT_STATE": Kind("warning", "alert state of the grid: limited reservoirs are spent, not restored"),
    "RESERVE_MODE": Kind("warning", "little energy in an alert state: only the short-term deviation is answered"),
    "NEM_ACTIVE": Kind("warning", "little energy one way: charging or discharging within the product, by its rule"),
    "AEM_ACTIVE": Kind("critical", "next to no energy one way: the reference moves, capacity is unavailable"),
}


@dataclass(frozen=True)
class Alarm:
    """A standing alarm, or the end of one."""

    code: str
    severity: Severity
    since_ns: int
    text: str
    cleared_ns: int = 0


class Alarms:
    """The alarms standing now, and the changes not yet drained."""

    def __init__(self) -> None:
        self._standing: dict[str, Alarm] = {}
        self._changes: list[Alarm] = []
        self.raised: list[str] = []

    def set(self, code: str, holds: bool, now_ns: int) -> None:
        """Raise `code` if it holds and does not stand, clear it if it stands and does not hold."""
        standing = self._standing.get(code)
        if holds and standing is None:
            kind = TABLE[code]
            alarm = Alarm(code, kind.severity, now_ns, kind.text)
            self._standing[code] = alarm
            self._changes.append(alarm)
            if code not in self.raised:
                self.raised.append(code)
        elif standing is not None and not holds:
            del self._standing[code]
            cleared = {**asdict(standing), "cleared_ns": now_ns}
            self._changes.append(Alarm(**cleared))

    def stands(self, code: str) -> bool:
        """Whether `code` stands now."""
        return code in self._standing

    def standing(self) -> list[Alarm]:
        """Standing alarms, oldest first."""
        return sorted(self._standing.values(), key=lambda alarm: alarm.since_ns)

    def drain(self) -> list[Alarm]:
        """Changes since the last call."""
        changes, self._changes = self._changes, []
        return changes
