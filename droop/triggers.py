"""All or nothing: a product that is triggered, given whole, held, let go and armed again (FFR, static FCR-D, ERCOT).

One state machine a step of the product; a product without steps of its own has one. A step is armed, gives its share
from the moment its threshold has been passed for `after_s`, and is released when its least time of support is over
and the frequency has been back beyond `release_hz` for `release_s` without a break. What is released goes down at the
product's rate, stands still while the frequency is beyond `pause_hz`, and is armed again after `ready_s`; steps not yet
activated stay armed all the while (Nordic technical requirements for FCR, static FCR-D; for FFR; rulebook 3.4, 3.8).

Only a sample may pull a trigger, or end a support that waits for the frequency: time that goes by without one is no
news.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from droop.numerics import strict

if TYPE_CHECKING:
    from droop.dynamics import Motion, Terms

# Where a step stands. RELEASED: not armed yet; what is still given of it is in `falling`.
ARMED: Final = 0
ACTIVE: Final = 1
RELEASED: Final = 2


@strict
def pull(motion: Motion, terms: Terms, row: int, hz: float, now_ns: int) -> None:
    """Take a sample: which thresholds are passed, and since when the frequency is back."""
    side = terms.side[row]
    back = terms.release_hz[row] == 0.0 or side * (hz - terms.release_hz[row]) > 0.0
    if not back:
        motion.back_ns[row] = 0
    elif motion.back_ns[row] == 0:
        motion.back_ns[row] = now_ns
    for k in range(terms.steps[row]):
        if motion.stage[row, k] != ARMED:
            continue
        if side * (hz - terms.step_hz[row, k]) > 0.0:
            motion.since_ns[row, k] = 0
            continue
        if motion.since_ns[row, k] == 0:
            motion.since_ns[row, k] = now_ns
        if now_ns - motion.since_ns[row, k] >= terms.after_ns[row]:
            motion.stage[row, k] = ACTIVE
            motion.since_ns[row, k] = now_ns


@strict
def forget(motion: Motion, terms: Terms, row: int) -> None:
    """The frequency is lost for longer than it may be held: what was counted without a break is broken."""
    motion.back_ns[row] = 0
    for k in range(terms.steps[row]):
        if motion.stage[row, k] == ARMED:
            motion.since_ns[row, k] = 0


@strict
def release(motion: Motion, terms: Terms, row: int, fresh: bool, now_ns: int) -> None:
    """Let go the steps whose support may end. fresh : whether there is a sample; without one no frequency is back"""
    back_ns = motion.back_ns[row]
    may = terms.release_hz[row] == 0.0 or (fresh and back_ns > 0 and now_ns - back_ns >= terms.release_ns[row])
    share = 1.0 / max(terms.steps[row], 1)
    for k in range(terms.steps[row]):
        held = motion.stage[row, k] == ACTIVE and now_ns - motion.since_ns[row, k] >= terms.support_ns[row]
        if held and may:
            counted_ns = motion.since_ns[row, k] if terms.from_start[row] == 1 else now_ns
            motion.stage[row, k] = RELEASED
            motion.since_ns[row, k] = counted_ns + terms.ready_ns[row]
            motion.falling[row] += share
            if terms.fall_pu_s[row] == np.inf:
                motion.falling[row] = max(motion.falling[row] - terms.fall_pu[row], 0.0)


@strict
def fall(motion: Motion, terms: Terms, row: int, hz: float, elapsed_s: float) -> None:
    """Take down what is released, unless the frequency is beyond where that stands still."""
    if motion.falling[row] == 0.0:
        return
    pause_hz = terms.pause_hz[row]
    if pause_hz > 0.0 and terms.side[row] * (hz - pause_hz) <= 0.0:
        return
    down = terms.fall_pu[row]
    if terms.fall_pu_s[row] < np.inf:
        down = min(down, terms.fall_pu_s[row] * max(elapsed_s, 0.0))
    motion.falling[row] = max(motion.falling[row] - down, 0.0)


@strict
def triggered(
    motion: Motion, terms: Terms, row: int, hz: float, fresh: bool, lost: bool, now_ns: int, elapsed_s: float
) -> float:  # fmt: skip
    """Share of the power sold that a triggered product gives now, signed as its direction.

    hz    : the last usable frequency; NaN before there was one
    fresh : whether it came with this call
    lost  : whether it is older than may be held
    """
    fall(motion, terms, row, hz, elapsed_s)
    for k in range(terms.steps[row]):
        if motion.stage[row, k] == RELEASED and now_ns >= motion.since_ns[row, k]:
            motion.stage[row, k] = ARMED
            motion.since_ns[row, k] = 0
    if fresh and not np.isnan(hz):
        pull(motion, terms, row, hz, now_ns)
    elif lost:
        forget(motion, terms, row)
    release(motion, terms, row, fresh, now_ns)
    active = 0
    for k in range(terms.steps[row]):
        active += 1 if motion.stage[row, k] == ACTIVE else 0
    given = active / max(terms.steps[row], 1)
    # A step that is activated again takes the place of what is left of its last support.
    motion.falling[row] = min(motion.falling[row], 1.0 - given)
    return terms.side[row] * (given + motion.falling[row])
