"""How sources stand with a choice, in words, and when one that is gone is worth an alarm.

For the sources of one ingest and for the ingests that a worker follows alike: both are chosen from by
`telemetry.choice`. Pure: time is passed in.
"""

from __future__ import annotations

from typing import Final

from telemetry.choice import Choice
from telemetry.samples import Quality
from telemetry.standing import Standing

# A source that has not been heard since the start is lost only after sources have had time to connect.
GRACE_NS: Final = 10_000_000_000
# All that end together do not end in one instant: one is missed when another has gone on without it for so long.
MISSED_NS: Final = 1_000_000_000


class Watch:
    """Whether one of several is missed. begun_ns : when they were started"""

    def __init__(self, choice: Choice, begun_ns: int) -> None:
        self._choice, self._begun_ns = choice, begun_ns
        self._missed_ns = 0  # since when one is lost while another serves

    def missed(self, now_ns: int) -> bool:
        """Whether one is lost, and another has served without it for longer than is forgiven."""
        young = now_ns - self._begun_ns < GRACE_NS
        sources = self._choice.sources
        served = any(s.serving(now_ns) for s in sources)
        lost = any(not s.serving(now_ns) and not s.outvoted and (s.heard_ns or not young) for s in sources)
        self._missed_ns = (self._missed_ns or now_ns) if served and lost else 0
        return bool(self._missed_ns) and now_ns - self._missed_ns >= MISSED_NS


def state_of(standing: Standing, used: bool, choice: Choice, now_ns: int) -> tuple[str, str]:
    """(state, why) of a source, in words."""
    if not standing.heard_ns:
        return "unheard", "no row since the start"
    if now_ns - standing.heard_ns > standing.gap_ns():
        return "lost", f"silent for {(now_ns - standing.heard_ns) * 1e-9:.1f} s"
    if standing.marks:
        flags = ", ".join(str(flag.name).lower() for flag in Quality(standing.marks))
        return ("rejected" if standing.serving(now_ns) else "lost"), f"newest row: {flags}"
    if standing.outvoted:
        return "outvoted", "the others agree with each other and not with it"
    if used:
        return "used", _why_used(standing, choice, now_ns)
    if not standing.serving(now_ns):
        return "returning", f"usable for {(now_ns - standing.since_ns) * 1e-9:.1f} s since it was lost"
    return "standby", "in service; another one is preferred"


def _why_used(standing: Standing, choice: Choice, now_ns: int) -> str:
    if len(choice.sources) == 1:
        return "the only source"
    if choice.settings.policy == "voting" and len(choice.used()) > 1:
        return f"one of {len(choice.used())} in the median"
    if choice.agreement.disagreeing(now_ns):
        return "the first in the order of those that disagree"
    above = [s for s in choice.sources if s.rank < standing.rank and s.serving(now_ns)]
    return "stands in for one that is overdue" if above else "the first in the order that is in service"
