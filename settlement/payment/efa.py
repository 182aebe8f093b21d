"""Great Britain: availability of the dynamic services, by settlement period of an EFA block (rulebook 4.2, 4.3).

Price x MW x hours; delivered energy is not paid, it is an imbalance volume. A period that is unavailable loses its
share of the block, 1/8 of four hours. A K factor takes the measured error off what is paid: nothing up to 3 %, all
from 7 % on [M]; whether a period's own error counts or the worst of its block is `k_scope` [M].
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from settlement.payment.lines import Line, Number, exact, line, mwh, share

PERIODS: Final = 8  # of a block of four hours
FULL: Final = 0.03  # [M] error up to which all is paid
NONE: Final = 0.07  # [M] error from which nothing is
AVAILABLE_MIN: Final = 0.999  # [V2] a period below is unpaid


def k_factor(error: Number, full: Number = FULL, none: Number = NONE) -> Fraction:
    """1 up to an error of `full`, 0 from `none` on, linear between; vector K-1 [M]."""
    e, low, high = exact(error, "error"), exact(full, "k"), exact(none, "k")
    if high <= low:
        return Fraction(e <= low)
    return min(max((high - e) / (high - low), Fraction(0)), Fraction(1))


def efa(
    kw: Number, hours: Number, price: Number, available: Number, k: Number = 1, *, currency: str = "GBP",
    available_min: Number = AVAILABLE_MIN, sp_loss: Number = "0.125", mark: str = "V2", note: str = "",
) -> tuple[Line, ...]:  # fmt: skip
    """One settlement period, or a part of one.

    kw, hours : contracted; price : per MW and hour; available : share of the period; k : factor for quality, 0..1
    sp_loss   : what an unavailable period loses, of the payment for eight such periods
    """
    quantity, factor = mwh(kw, hours), share(k, "k")
    paid = line("availability", quantity, "MWh", price, 1, currency, mark)
    if share(available, "available") < exact(available_min):
        lost = share(sp_loss, "sp_loss") * PERIODS
        why = f"available {float(exact(available)):.2%}, {float(exact(available_min)):.1%} are needed"
        return paid, line("unavailable settlement period", quantity, "MWh", price, -lost, currency, mark, why)
    if factor == 1:
        return (paid,)
    # The thresholds of K are from memory, whatever the mark of the rest.
    return paid, line("performance below contract", quantity, "MWh", price, factor - 1, currency, "M", note)
