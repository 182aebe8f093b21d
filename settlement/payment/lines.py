"""One line of a bill: what, how much, at what price, times what, makes how much.

This file knows numbers: no market, no interval. Within a line everything is an exact fraction; money is rounded once,
where the line ends: to the cent, ties to the even cent (ROUND_HALF_EVEN). Sums are sums of rounded lines, so that a
bill adds up to the cent whatever it is cut into.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from fractions import Fraction
from typing import Final, NamedTuple

CENTS: Final = 2
SHOWN: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)  # ours: a caller's own context must not change a bill
KW_PER_MW: Final = 1000
HOUR_NS: Final = 3_600_000_000_000

Number = Fraction | Decimal | int | float | str


class PaymentError(ValueError):
    """What cannot be paid; the message names the product, the field and the remedy."""


class Line(NamedTuple):
    """quantity x price x factor = amount, rounded to the cent.

    unit   : of the quantity, e.g. `MWh` (also of power held for an hour), `MW`, `MW mileage`
    amount : positive: we are paid
    note   : why the factor is what it is
    mark   : confidence of the rule behind it: V, V2, M or D
    exact  : the same before rounding, to see what rounding did
    """

    what: str
    quantity: Decimal
    unit: str
    price: Decimal
    factor: Decimal
    amount: Decimal
    currency: str
    note: str
    mark: str
    exact: Fraction


def exact(value: Number, name: str = "value") -> Fraction:
    """A number as it reads: 0.1 is a tenth, not the float next to it. Raises PaymentError for what is none."""
    if isinstance(value, Fraction):
        return value
    try:
        if isinstance(value, float):
            value = Decimal(float.__repr__(value))
        return Fraction(Decimal(value) if isinstance(value, str) else value)
    except (ValueError, OverflowError, InvalidOperation):
        raise PaymentError(f"field `{name}` takes a finite number, not {value!r}") from None


def share(value: Number, name: str) -> Fraction:
    """A number of 0..1."""
    found = exact(value, name)
    if not 0 <= found <= 1:
        raise PaymentError(f"field `{name}` takes a share of 0..1, not {value}")
    return found


def at_least_0(value: Number, name: str) -> Fraction:
    """A number of 0 or more."""
    found = exact(value, name)
    if found < 0:
        raise PaymentError(f"field `{name}` takes a number of 0 or more, not {value}")
    return found


def decimal(value: Fraction, places: int = 9) -> Decimal:
    """A fraction as it is shown: to so many places, ties to even, no trailing zeros."""
    # Fraction.__round__ to a whole number rounds ties to even and is exact.
    shown = Decimal(round(value * 10**places)).scaleb(-places, SHOWN).normalize(SHOWN)
    return shown.quantize(Decimal(1), context=SHOWN) if shown == shown.to_integral_value() else shown


def cents(value: Fraction) -> Decimal:
    """Money: to the cent, ties to the even cent."""
    return Decimal(round(value * 10**CENTS)).scaleb(-CENTS, SHOWN)


def mwh(kw: Number, hours: Number) -> Fraction:
    """Power held for a time [MWh]."""
    return at_least_0(kw, "kw") * at_least_0(hours, "hours") / KW_PER_MW


def line(
    what: str, quantity: Fraction, unit: str, price: Number, factor: Fraction | int, currency: str, mark: str,
    note: str = "",
) -> Line:  # fmt: skip
    """The line that these make."""
    amount = quantity * exact(price, "price") * factor
    return Line(
        what, decimal(quantity), unit, decimal(exact(price)), decimal(Fraction(factor)), cents(amount), currency, note,
        mark, amount,
    )  # fmt: skip
