"""Which frequency may be acted on, and how much of the response is still due when it is lost.

Usable samples are acted on. Without one the last is held for the time the product allows, or three source
periods if that is longer, then the response fades to nothing; it comes back the same way. A dead bus is not a
lost measurement: there is no grid to support, so the response stops at once. Never full power on no news.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.numerics import strict

Column = npt.NDArray[Any]


class Verdict(IntEnum):
    """What the quality gate says of the sample at hand."""

    USABLE = 0
    UNUSABLE = 1
    DEAD_BUS = 2
    NONE = 3  # no sample: time went by


class Mode(IntEnum):
    """How the response stands to the frequency."""

    STARTING = 0  # no usable sample yet
    NORMAL = 1
    HOLD = 2
    RAMP = 3
    BASELINE = 4


class Memory(NamedTuple):
    """Supervision between ticks."""

    hz: Column  # float64[1]  last usable; NaN at the start
    weight: Column  # float64[1]  share of the response given
    good_ns: Column  # int64[1]  arrival of the last usable sample
    period_ns: Column  # int64[1]  typical time between usable samples
    mode: Column  # int64[1]
    dead: Column  # int64[1]  1 from a dead bus until the next usable sample


USABLE: Final = int(Verdict.USABLE)
DEAD_BUS: Final = int(Verdict.DEAD_BUS)
STARTING: Final = int(Mode.STARTING)
NORMAL: Final = int(Mode.NORMAL)
HOLD: Final = int(Mode.HOLD)
RAMP: Final = int(Mode.RAMP)
BASELINE: Final = int(Mode.BASELINE)


def unaware() -> Memory:
    """The state before the first sample."""
    return Memory(np.full(1, np.nan), np.zeros(1), *(np.zeros(1, np.int64) for _ in range(4)))


@strict
def supervise(
    memory: Memory, now_ns: int, elapsed_s: float, hz: float, verdict: int, hold_ns: int, fade_s: float
) -> None:  # fmt: skip
    """Take one sample, or the lack of one, into account.

    hold_ns : time without a usable sample that the product allows [ns]
    fade_s  : time from full response to none, and back [s]
    """
    if verdict == DEAD_BUS:
        memory.weight[0] = 0.0
        memory.mode[0] = BASELINE
        memory.dead[0] = 1
        return
    step = elapsed_s / fade_s
    # The gate lets no such number through; if one came, it would ask for full power.
    if verdict == USABLE and np.isfinite(hz):
        gap = now_ns - memory.good_ns[0]
        # A gap that ended at the baseline was an outage, unless the source is so slow that no period is known yet;
        # samples that came in one breath have no gap.
        known = memory.mode[0] != BASELINE or memory.period_ns[0] == 0
        if memory.good_ns[0] > 0 and gap > 0 and known:
            # Shrinks fast, grows slowly: one gap must not stretch the hold that follows it.
            memory.period_ns[0] = gap if memory.period_ns[0] == 0 else min(gap, memory.period_ns[0] * 5 // 4 + 1)
        recovering = memory.mode[0] == RAMP or memory.mode[0] == BASELINE
        memory.good_ns[0] = now_ns
        memory.dead[0] = 0
        memory.hz[0] = hz
        memory.weight[0] = min(memory.weight[0] + step, 1.0) if recovering else 1.0
        memory.mode[0] = NORMAL if memory.weight[0] >= 1.0 else RAMP
        return
    if memory.mode[0] == STARTING:
        return
    if now_ns - memory.good_ns[0] <= max(hold_ns, 3 * memory.period_ns[0]) and memory.mode[0] != BASELINE:
        if memory.mode[0] == NORMAL:
            memory.mode[0] = HOLD
        return
    memory.weight[0] = max(memory.weight[0] - step, 0.0)
    memory.mode[0] = RAMP if memory.weight[0] > 0.0 else BASELINE
