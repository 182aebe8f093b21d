"""Continental and Nordic reserve: capacity by block, and what a failure costs (rulebook 2.4; TenneT NL 7, 8.2).

The capacity price pays for power held ready. Where a market charges for what was missing, the block is paid whole and
the charge stands beside it (vector S-5); elsewhere what was not available is not paid. The factors of TenneT NL are 5
for capacity that was not available and 20 for a response that was not given; what they multiply, the capacity price of
the missing power over its time, is from memory [M].
"""

from __future__ import annotations

from typing import Final

from settlement.payment.lines import KW_PER_MW, Line, Number, PaymentError, at_least_0, exact, line, share

NON_AVAILABILITY: Final = 5
LACK_OF_RESPONSE: Final = 20


def capacity(
    kw: Number, price: Number, span: Number = 1, available: Number = 1, *, unit: str = "MW", currency: str = "EUR",
    unavailable_paid: bool = False, mark: str = "V", note: str = "",
) -> tuple[Line, ...]:  # fmt: skip
    """Power held ready over a time.

    span      : with a price per MW, the share of the price's own time; with one per MWh, hours
    available : share of the time
    """
    factor = exact(1) if unavailable_paid else share(available, "available")
    quantity = at_least_0(kw, "kw") / KW_PER_MW * at_least_0(span, "span")
    return (line("capacity", quantity, unit, price, factor, currency, mark, note if factor < 1 else ""),)


def non_availability(
    missing_kw: Number, price: Number, span: Number, *, factor: Number = NON_AVAILABILITY, unit: str = "MW",
    currency: str = "EUR", note: str = "",
) -> tuple[Line, ...]:  # fmt: skip
    """The charge for power that was not available over a time; vector S-5. A negative price charges nothing."""
    return _charge("not available", missing_kw, price, span, factor, unit, currency, note)


def lack_of_response(
    missing_kw: Number, price: Number, span: Number, *, factor: Number = LACK_OF_RESPONSE, unit: str = "MW",
    currency: str = "EUR", note: str = "",
) -> tuple[Line, ...]:  # fmt: skip
    """The charge for a response that was not given: on the largest deviation of the interval."""
    return _charge("lack of response", missing_kw, price, span, factor, unit, currency, note)


def admin_fee(fee: Number, count: Number = 1, *, currency: str = "EUR", note: str = "") -> tuple[Line, ...]:
    """A fixed fee, as for an allocation message that came late (TenneT NL 4.8: EUR 2,500 each)."""
    return (
        line("administrative fee", -at_least_0(count, "count"), "", at_least_0(fee, "fee"), 1, currency, "V", note),
    )


def _charge(
    what: str, missing_kw: Number, price: Number, span: Number, factor: Number, unit: str, currency: str, note: str
) -> tuple[Line, ...]:
    quantity = at_least_0(missing_kw, "missing_kw") / KW_PER_MW * at_least_0(span, "span")
    times = exact(factor, "penalty factor")
    if times < 0:
        raise PaymentError(f"a penalty factor is 0 or more, not {factor}; give it without a sign")
    if quantity == 0 or exact(price, "price") <= 0:
        return ()
    return (line(what, quantity, unit, price, -times, currency, "M", note),)
