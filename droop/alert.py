"""Whether the frequency is in an alert state: each criterion with a clock of its own (SO GL art. 18; TenneT NL 3.2.3).

A criterion is a deviation and the time for which it must be passed without a break; its clock begins at the first
sample at or beyond the deviation and is set back by the first one within it. The state holds while any criterion
does, and no longer.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from droop.numerics import strict

Column = npt.NDArray[Any]

# Reported frequencies are decimal: 50.05 Hz less 50 Hz is not 0.05 Hz to the last bit, and must pass it.
ROUNDING_HZ = 1e-9


@strict
def counted(since_ns: Column, beyond_hz: Column, for_ns: Column, dev_hz: float, now_ns: int) -> bool:
    """Take one deviation into account; whether the alert state holds.

    since_ns  : int64[k]    since when each criterion's deviation is passed; 0: it is not. Written.
    beyond_hz : float64[k]  deviations, magnitudes; infinite where a row has no such criterion
    for_ns    : int64[k]    time for which each must be passed; 0: at once
    dev_hz    : frequency minus nominal; NaN, no frequency, sets every clock back: nothing shows that it went on
    """
    alert = False
    for k in range(since_ns.size):
        if not abs(dev_hz) >= beyond_hz[k] - ROUNDING_HZ:
            since_ns[k] = 0
            continue
        if since_ns[k] == 0:
            since_ns[k] = now_ns
        alert = alert or now_ns - since_ns[k] >= for_ns[k]
    return alert
