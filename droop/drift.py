"""What a signal that is not neutral does to the energy of who follows it: drift, hours until the floor, buying back.

A regulation signal, and the answer to a frequency that is off nominal for long, move energy one way (data of RegA: a
mean of -0.46 over eight hours). Besides, what is charged and given back loses on its way, so that even a neutral signal
empties a battery. Shares are of the power sold, positive into the grid; energies are at the grid. Numbers only.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from droop.capability import Needs

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Drift(NamedTuple):
    """Energy that a kW sold takes in an hour each way [kWh/kWh], mean and standard deviation from block to block.

    up_pu   : of the energy that can be given: what goes out less what comes back of what comes in
    down_pu : of the room to take more: what comes in less what leaving makes free; below 0 where it grows
    mean_pu : mean of the signal itself
    """

    mean_pu: float
    up_pu: float
    up_sd: float
    down_pu: float
    down_sd: float
    blocks: int


def learned(t_ns: Ints, share: Floats, edges_ns: Ints, efficiency_frac: float = 1.0, least_frac: float = 0.9) -> Drift:
    """The drift that a recorded signal, or response, makes over blocks.

    t_ns, share     : int64[n] ascending, float64[n]  share[k] holds from t_ns[k] to the next, no longer than ten of
                      the usual steps; NaN where unknown
    edges_ns        : int64[b + 1]  of the blocks
    efficiency_frac : round trip, there and back
    least_frac      : blocks of which less is known are left out

    Raises ValueError where no block is known, and for an efficiency outside (0, 1].
    """
    if not 0.0 < efficiency_frac <= 1.0:
        raise ValueError(f"efficiency_frac takes a share above 0 and up to 1, got {efficiency_frac}")
    if t_ns.size < 2 or edges_ns.size < 2:
        raise ValueError("a drift wants a recorded signal over at least one whole block; give a longer one")
    steps = np.diff(t_ns)
    longest = 10 * int(np.median(steps))
    ends = np.append(t_ns[:-1] + np.minimum(steps, longest), t_ns[-1] + int(np.median(steps)))
    known = np.isfinite(share)
    value = np.where(known, share, 0.0)
    parts = [
        _over(t_ns, ends, column, edges_ns) for column in (known * 1.0, np.maximum(value, 0), np.maximum(-value, 0))
    ]
    covered, out, into = parts
    whole = covered >= least_frac * np.diff(edges_ns)
    if not whole.any():
        raise ValueError("no block of the recorded signal is known for long enough; give a longer or a better one")
    out, into = out[whole] / covered[whole], into[whole] / covered[whole]
    up, down = out - efficiency_frac * into, into - out / efficiency_frac
    sd = [float(np.std(side, ddof=1)) if side.size > 1 else 0.0 for side in (up, down)]
    return Drift(float((out - into).mean()), float(up.mean()), sd[0], float(down.mean()), sd[1], int(up.size))


def _over(start_ns: Ints, end_ns: Ints, value: Floats, edges_ns: Ints) -> Floats:
    """Integral of a step function over each block [value x ns], by its running sum at the edges."""
    total = np.concatenate([[0.0], np.cumsum(value * (end_ns - start_ns))])
    place = np.searchsorted(start_ns, edges_ns, side="right")
    within = np.maximum(place - 1, 0)
    part = np.clip(edges_ns - start_ns[within], 0, end_ns[within] - start_ns[within]) * value[within]
    return np.diff(np.where(place > 0, total[within] + part, 0.0))


def bound_pu(drift: Drift, confidence: float) -> tuple[float, float]:
    """Drift of one block to come that is not exceeded with the probability `confidence`: (up, down), 0 or more.

    Student's t of what was seen; one block alone says nothing of how others differ, and is taken as it is.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence takes a probability above 0 and below 1, got {confidence}")
    factor = 0.0
    if drift.blocks > 1:
        from scipy.special import stdtrit  # a fifth of a second of import for those who bid

        factor = float(stdtrit(drift.blocks - 1, confidence)) * math.sqrt(1.0 + 1.0 / drift.blocks)
    return max(drift.up_pu + factor * drift.up_sd, 0.0), max(drift.down_pu + factor * drift.down_sd, 0.0)


def hours_left(drift: Drift, sold_kw: float, up_kwh: float, down_kwh: float) -> float:
    """Hours of the mean drift until a fleet that sells `sold_kw` is at its floor or at its ceiling; inf: never.

    up_kwh, down_kwh : energy that may go either way until then, beyond what the product wants kept
    """
    ends = [
        kwh / (sold_kw * pu) for kwh, pu in ((up_kwh, drift.up_pu), (down_kwh, drift.down_pu)) if sold_kw * pu > 0.0
    ]
    return max(min(ends), 0.0) if ends else math.inf


def bought_back_kw(drift: Drift, sold_kw: float) -> float:
    """What the baseline must add, into the grid, so that the mean drift moves no energy: the mean out and home [kW].

    Losses included: less than 0, charging, where the stored energy falls.
    """
    return -sold_kw * drift.up_pu


def limit_kw(
    drift: Drift, needs: Needs, hours: float, power_kw: float, up_kwh: float, down_kwh: float, confidence: float,
    buy_back: bool = False,
) -> float:  # fmt: skip
    """What may be sold so that after a whole block of drift the product's energy is still there [kW].

    power_kw         : what the fleet's power could sell
    up_kwh, down_kwh : energy the fleet has each way at the block's begin
    hours            : length of the block [h]
    buy_back         : the drift is bought back through the baseline meanwhile: it then takes power, not energy
    """
    if not hours > 0.0:
        raise ValueError(f"hours takes the length of a block above 0, got {hours}")
    up, down = bound_pu(drift, confidence)
    if buy_back:
        # Charging for what goes out takes of the power downwards, and the other way round.
        taken = [(needs.up_frac, down), (needs.down_frac, up)]
        return min((power_kw * frac / (frac + pu) for frac, pu in taken if frac > 0.0), default=power_kw)
    ends = ((up_kwh, needs.up_h + hours * up), (down_kwh, needs.down_h + hours * down))
    return min((kwh / per_kw for kwh, per_kw in ends if per_kw > 0.0), default=power_kw)
