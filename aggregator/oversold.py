"""Says once, in words for a log, that more is sold than the fleet can sustain.

The alarm SOLD_ABOVE_CAPABILITY is the core's; while a fleet is still reporting for the first time it comes and goes, so
it has to stand for a while before it is worth a line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from aggregator.core import Aggregator

CODE: Final = "SOLD_ABOVE_CAPABILITY"
STANDS_NS: Final = 10_000_000_000


class Oversold:
    """Looks at one core's alarms; remembers that it has spoken."""

    def __init__(self) -> None:
        self._said = False

    def text(self, core: Aggregator, reserved: Callable[[], Mapping[str, Any]], now_ns: int) -> str | None:
        """The line to log, the first time there is cause for it.

        reserved : asked then: `aggregator.reserved.figures`
        """
        since = next((alarm.since_ns for alarm in core.alarms.standing() if alarm.code == CODE), now_ns)
        if self._said or now_ns - since < STANDS_NS:
            return None
        self._said = True
        sold = ", ".join(f"{one.sold_kw:g} kW of {one.product.id}" for one in core.settings.contracts)
        found = reserved()
        short = next((row for row in (*found["sustain"], found["power"]) if row["short"]), found["power"])
        return (
            f"sold above capability: {sold}; that reserves {short['up_kw']:.0f} kW up and {short['down_kw']:.0f} kW "
            f"down for {short['minutes']:g} min, the fleet has {short['have_up_kw']:.0f} and "
            f"{short['have_down_kw']:.0f}; sell less (--sold-kw), or add vehicles"
        )
