"""Great Britain: how much energy a unit must have at the start of each settlement period (NESO, from 2024-11-15).

The requirement starts at the contracted response energy volume (REV), falls by what is delivered and rises again by
the energy recovery allowance (ERAV), which a unit must be able to buy back with the notice that the market's gate
leaves. A period that starts outside it is unavailable. One direction at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

# Settlement periods between a delivery and the period in which its energy must be on its way back.
NOTICE: Final = 3


def requirement_kwh(rev_kwh: float, delivered_kwh: Sequence[float], recovery_frac: float) -> list[float]:
    """Least state of energy at the start of each settlement period, one more than there are deliveries [kWh].

    rev_kwh       : contracted response energy volume
    delivered_kwh : energy delivered in each period, 0 or more
    recovery_frac : share of the volume that must be recoverable in a period

    ERAV_k = min(r REV, max(0, REV - req_(k-3) - sum of ERAV_(k-3) .. ERAV_(k-1))), for period k + 1; never above REV.

    Raises ValueError for negative numbers and NaN.
    """
    for name, values in (("rev_kwh", [rev_kwh]), ("delivered_kwh", delivered_kwh), ("recovery_frac", [recovery_frac])):
        if not all(value >= 0.0 for value in values):
            raise ValueError(f"{name} takes numbers of 0 or more")
    required: list[float] = [rev_kwh]
    allowed: list[float] = []
    for k, gone_kwh in enumerate(delivered_kwh):
        missing = rev_kwh - required[k - NOTICE] - sum(allowed[k - NOTICE :]) if k >= NOTICE else 0.0
        allowed.append(min(recovery_frac * rev_kwh, max(missing, 0.0)))
        required.append(min(max(required[k] - gone_kwh + allowed[k], 0.0), rev_kwh))
    return required


def available(
    energy_kwh: Sequence[float], capacity_kwh: float, low_kwh: Sequence[float], high_kwh: Sequence[float]
) -> list[bool]:  # fmt: skip
    """Whether each settlement period starts within its requirement: enough to give, and enough room to take.

    energy_kwh        : state of energy at the start of each period; NaN, nobody knows, is outside
    low_kwh, high_kwh : `requirement_kwh` of the products of low and of high frequency
    """
    return [
        low <= energy <= capacity_kwh - high for energy, low, high in zip(energy_kwh, low_kwh, high_kwh, strict=False)
    ]
