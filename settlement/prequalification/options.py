"""What a test may be told beside the product and the power sold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from settlement.prequalification.plan import PrequalificationError

# Where the frequency is injected in software its measurement is not in the loop; the Nordic text's default.
FME_S: Final = 1.0


@dataclass(frozen=True)
class Options:
    """Choices that a test leaves open.

    hold_s      : length of the test's long hold; None: the rule's own
    operation_s : length of real operation, where a test ends with it; None: the rule's own, 0: left out
    seed        : of the frequency or signal that stands in for real operation
    fme_s       : time constant of the frequency measurement that the injection goes round; 0: it is in the loop
    latency_s   : measured end to end, sample to power (99th percentile); None: not measured
    actuator_s  : first-order time constant of the chargers
    """

    hold_s: float | None = None
    operation_s: float | None = None
    seed: int = 1
    fme_s: float = FME_S
    latency_s: float | None = None
    actuator_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("hold_s", "operation_s", "fme_s", "latency_s", "actuator_s"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise PrequalificationError(f"option `{name}` takes a number of 0 or more, not {value!r}")

    def hold(self, default_s: float) -> float:
        """The long hold [s]."""
        return default_s if self.hold_s is None else self.hold_s
