"""Says once, in words for a log, that more is sold than the fleet can sustain.

The alarm SOLD_ABOVE_CAPABILITY is the core's; while a fleet is still reporting for the first time it comes and goes, so
it has to stand for a while before it is worth a line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aggregator.core import Aggregator

CODE: Final = "SOLD_ABOVE_CAPABILITY"
STANDS_NS: Final = 10_000_000_000


class Oversold:
    """Looks at one core's alarms; remembers that it has spoken."""

    def __init__(self) -> None:
        self._said = False

    def text(self, core: Aggregator, sustained_kw: Callable[[], tuple[float, float]], now_ns: int) -> str | None:
        """The line to log, the first time there is cause for it.

        sustained_kw : asked then: (up, down) that the fleet can sustain for the products' endurance
        """
        since = next((alarm.since_ns for alarm in core.alarms.standing() if alarm.code == CODE), now_ns)
        if self._said or now_ns - since < STANDS_NS:
            return None
        self._said = True
        contracts = core.settings.contracts
        sold = ", ".join(f"{one.sold_kw:g} kW of {one.product.id}" for one in contracts)
        minutes = max(one.product.sustain_min for one in contracts)
        up_kw, down_kw = sustained_kw()
        return (
            f"sold above capability: {sold}; the fleet sustains {up_kw:.0f} kW up and {down_kw:.0f} kW down for "
            f"{minutes:g} min; sell less (--sold-kw), or add vehicles"
        )
