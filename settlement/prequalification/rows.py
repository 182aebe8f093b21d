"""One requirement, one row: what was asked, what was measured, pass or fail, and how sure we are of the figure.

A row whose figure is marked M rests on memory, not on the document: it is shown with its mark, and a pass is no claim
of conformity. A measurement that could not be made is a failure, never a pass; a requirement that does not concern
the unit is neither.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

# Of a limit: times and powers are sums of rounded numbers.
ROUNDING: Final = 1e-6


@dataclass(frozen=True)
class Row:
    """One requirement in one part of the test.

    passed : None where the requirement does not apply
    """

    id: str
    part: str
    text: str
    limit: str
    measured: float | None
    unit: str
    passed: bool | None
    mark: str
    source: str
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


@dataclass(frozen=True)
class Rule:
    """What all rows of one requirement share."""

    id: str
    text: str
    unit: str
    mark: str
    source: str

    def at_most(self, part: str, measured: float, limit: float, note: str = "") -> Row:
        """Passed when the figure does not exceed the limit."""
        return self._row(part, f"<= {limit:g}", measured, measured <= limit + _slack(limit), note)

    def at_least(self, part: str, measured: float, limit: float, note: str = "") -> Row:
        """Passed when the figure reaches the limit."""
        return self._row(part, f">= {limit:g}", measured, measured >= limit - _slack(limit), note)

    def below(self, part: str, measured: float, limit: float, note: str = "") -> Row:
        """Passed when the figure stays below the limit."""
        return self._row(part, f"< {limit:g}", measured, measured < limit, note)

    def within(self, part: str, measured: float, low: float, high: float, note: str = "") -> Row:
        """Passed when the figure lies between two limits, both included."""
        inside = low - _slack(low) <= measured <= high + _slack(high)
        return self._row(part, f"{low:g} .. {high:g}", measured, inside, note)

    def not_applicable(self, part: str, note: str) -> Row:
        """The requirement does not concern this unit, or cannot be judged here; `note` says why."""
        return Row(self.id, part, self.text, "-", None, self.unit, None, self.mark, self.source, note)

    def _row(self, part: str, limit: str, measured: float, passed: bool, note: str) -> Row:
        known = math.isfinite(measured)
        if not known and not note:
            note = "never within the time recorded" if math.isinf(measured) else "nothing was recorded to measure it on"
        value = float(measured) if known else None
        # An infinite figure may pass a lower limit; an unknown one passes nothing.
        good = bool(passed) and not math.isnan(measured)
        return Row(self.id, part, self.text, limit, value, self.unit, good, self.mark, self.source, note)


def _slack(limit: float) -> float:
    return ROUNDING * max(1.0, abs(limit))


def passed(rows: list[Row]) -> bool:
    """Whether something was judged and nothing failed."""
    judged = [row.passed for row in rows if row.passed is not None]
    return bool(judged) and all(judged)
