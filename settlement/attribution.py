"""The pool's amounts shared out among the vehicles that earned them, to the cent.

This file knows amounts and accounts (`settlement.accounts.ACCOUNT`): no price, no market's rule. Three pots, three
questions:

- capacity goes by what each held available: headroom over time, in the direction sold; of a product sold both ways
  each direction is worth half. Available beyond what was sold is scaled down alike for everybody.
- energy (or performance) goes by what each delivered in the direction it was asked, at most what it was asked.
- a penalty goes to those who fell short of what they were asked, by how much. What limits took that the pool knew of
  when it sold (a feeder's cap, a full battery, the driver's departure) is nobody's fault and is borne by all who held
  power available, as they share the income; what no vehicle's limit explains is the seller's.

Shares are exact fractions in whole numbers; the cents that rounding leaves go to the largest remainders, of equal ones
to the next in turn. What nobody earned stays with the pool and is shown as such, so that the sum is always the pool's.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.reasons import Reason
from settlement.accounts import ACCOUNT

Rows = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]

CENT: Final = Decimal("0.01")
# Weights in whole units: a thousandth of a milliwatt hour.
UNITS_PER_KWH: Final = 1e9
# What a vehicle, its charger or its owner did, against what they had said.
OWN: Final = frozenset(
    {Reason.STALE, Reason.HELD, Reason.FAULT, Reason.REFUSED, Reason.RESPONSE, Reason.OVERRIDE}
)  # fmt: skip
DIRECTIONS: Final = ("up", "down", "both")


class AttributionError(ValueError):
    """Amounts that cannot be shared out; the message names the interval, the field and the remedy."""


class Pot(NamedTuple):
    """What one product earned the pool in one interval.

    direction          : `up`, `down` or `both`: which way the capacity is sold
    capacity, energy   : income, of either sign
    penalty            : 0 or more, to be taken off
    seller_kwh         : shortfall that no vehicle's limit explains: more was sold than is there
    quantum            : smallest amount of the currency; all three are whole multiples of it
    """

    start_ns: int
    end_ns: int
    product: str
    direction: str
    sold_kw: float
    currency: str
    capacity: Decimal
    energy: Decimal
    penalty: Decimal
    seller_kwh: float = 0.0
    quantum: Decimal = CENT


class Attribution(NamedTuple):
    """A pot shared out; amounts in whole quanta of its currency.

    rows            : ACCOUNT[n]
    capacity, energy, penalty : int64[n]
    reserved_kwh    : float64[n]  availability that was paid for, of what was sold
    credited_kwh    : float64[n]  delivered in the direction asked
    blamed_kwh      : float64[n]  shortfall of its own doing
    rest            : (capacity, energy, penalty) that stays with the pool
    """

    pot: Pot
    rows: Rows
    capacity: Ints
    energy: Ints
    penalty: Ints
    reserved_kwh: npt.NDArray[np.float64]
    credited_kwh: npt.NDArray[np.float64]
    blamed_kwh: npt.NDArray[np.float64]
    rest: tuple[int, int, int]

    @property
    def earned(self) -> Ints:
        """int64[n]: income less penalty of each account."""
        return self.capacity + self.energy - self.penalty

    def amount(self, quanta: int) -> Decimal:
        """So many quanta as an amount."""
        return int(quanta) * self.pot.quantum

    def total(self) -> Decimal:
        """Of all accounts and the rest: the pool's, to the cent."""
        return self.amount(int(self.earned.sum()) + self.rest[0] + self.rest[1] - self.rest[2])

    def by_site(self) -> dict[int, Decimal]:
        """Subtotal of each site that has accounts, by its leaf in the tree of caps; -1: none."""
        sites, place = np.unique(self.rows["site"], return_inverse=True)
        sums = np.zeros(sites.size, np.int64)
        np.add.at(sums, place, self.earned)
        return {int(site): self.amount(quanta) for site, quanta in zip(sites, sums.tolist(), strict=True)}


def share(pot: Pot, rows: Rows) -> Attribution:
    """Share a pot among accounts. rows : ACCOUNT[n], of the pot's interval

    Raises AttributionError.
    """
    quanta = _check(pot, rows)
    turn = pot.start_ns // max(pot.end_ns - pot.start_ns, 1)
    available, whole = _available(pot, rows)
    capacity, kept = dealt(quanta[0], available, turn)
    credited_kwh = _credited(pot, rows)
    energy, unearned = dealt(quanta[1], units(credited_kwh), turn)
    blamed_kwh, common_kwh = _blamed(rows)
    penalty, borne = _penalty(quanta[2], blamed_kwh, common_kwh, pot.seller_kwh, available, turn)
    sold_kwh = pot.sold_kw * (pot.end_ns - pot.start_ns) / 3.6e12
    reserved = np.array([float(w) for w in available]) / whole * sold_kwh if whole else np.zeros(rows.size)
    return Attribution(
        pot, rows, capacity, energy, penalty, reserved, credited_kwh, blamed_kwh, (kept, unearned, borne)
    )


def dealt(quanta: int, weights: Sequence[int], turn: int = 0) -> tuple[Ints, int]:
    """(share of each, what is left): whole quanta in proportion to whole weights, by the largest remainder.

    turn : who of several with the same remainder comes first

    All is left where nobody has a weight.
    """
    whole = sum(weights)
    if not whole:
        return np.zeros(len(weights), np.int64), quanta
    sign, quanta = (-1, -quanta) if quanta < 0 else (1, quanta)
    pairs = [divmod(quanta * weight, whole) for weight in weights]
    shares = np.array([floor for floor, _ in pairs], np.int64)
    spare = quanta - int(shares.sum())
    if spare:
        n = len(weights)
        order = sorted(range(n), key=lambda i: (-pairs[i][1], (i - turn) % n))
        shares[order[:spare]] += 1
    return sign * shares, 0


def units(kwh: npt.NDArray[np.float64]) -> list[int]:
    """Energies as whole weights; nothing and less is none."""
    return [max(round(value * UNITS_PER_KWH), 0) for value in kwh.tolist()]


def _available(pot: Pot, rows: Rows) -> tuple[list[int], int]:
    """(weight of each, weight of all that was sold): of a product sold both ways each direction is worth half.

    Where less was available than sold, the weight of all is larger than the sum: what nobody held is nobody's.
    """
    sold = max(round(pot.sold_kw * (pot.end_ns - pot.start_ns) / 3.6e12 * UNITS_PER_KWH), 0)
    up, down = units(rows["headroom_up_kwh"]), units(rows["headroom_down_kwh"])
    if pot.direction != "both":
        one = up if pot.direction == "up" else down
        return one, max(sum(one), sold)
    # A common denominator for both halves; a direction in which nobody held anything has no half to give.
    whole_up, whole_down = max(sum(up), 1), max(sum(down), 1)
    weights = [a * whole_down + b * whole_up for a, b in zip(up, down, strict=True)]
    return weights, max(sum(up), sold, 1) * whole_down + max(sum(down), sold, 1) * whole_up


def _credited(pot: Pot, rows: Rows) -> npt.NDArray[np.float64]:
    ways = ("up", "down") if pot.direction == "both" else (pot.direction,)
    credited = np.zeros(rows.size)
    for way in ways:
        credited += np.minimum(rows[f"delivered_{way}_kwh"], rows[f"asked_{way}_kwh"])
    return credited


def _blamed(rows: Rows) -> tuple[npt.NDArray[np.float64], float]:
    """(shortfall of each one's own doing, that of limits which are nobody's fault) [kWh]."""
    own = np.isin(rows["reason"], [int(reason) for reason in OWN])
    blamed = rows["undelivered_kwh"] + np.where(own, rows["unserved_kwh"], 0.0)
    return blamed, float(rows["unserved_kwh"][~own].sum())


def _penalty(
    quanta: int, blamed_kwh: npt.NDArray[np.float64], common_kwh: float, seller_kwh: float, available: list[int],
    turn: int,
) -> tuple[Ints, int]:  # fmt: skip
    """(share of each, the seller's)."""
    own = units(blamed_kwh)
    parts = [sum(own), *units(np.array([common_kwh, seller_kwh]))]
    (owned, common, sellers), rest = dealt(quanta, parts)
    penalty, unowned = dealt(int(owned), own, turn)
    borne, unborne = dealt(int(common), available, turn)
    return penalty + borne, int(sellers) + rest + unowned + unborne


def _check(pot: Pot, rows: Rows) -> tuple[int, int, int]:
    """The pot's amounts in whole quanta."""
    where = f"{pot.product}, interval {pot.start_ns}:{pot.end_ns}"
    if rows.dtype != ACCOUNT:
        raise AttributionError(f"{where}: field `rows` takes ACCOUNT rows of settlement.accounts")
    if pot.direction not in DIRECTIONS:
        raise AttributionError(f"{where}: field `direction` takes one of {', '.join(DIRECTIONS)}")
    if pot.end_ns <= pot.start_ns:
        raise AttributionError(f"{where}: field `end_ns` must lie after `start_ns`")
    if np.any(rows["start_ns"] < pot.start_ns) or np.any(rows["end_ns"] > pot.end_ns):
        raise AttributionError(f"{where}: field `rows`: an account reaches beyond the interval; give those within it")
    if not pot.quantum > 0:
        raise AttributionError(f"{where}: field `quantum` takes the smallest amount of the currency, above 0")
    if pot.penalty < 0:
        raise AttributionError(f"{where}: field `penalty` takes 0 or more; what is earned belongs in `energy`")
    if not 0.0 <= pot.seller_kwh < float("inf") or not 0.0 <= pot.sold_kw < float("inf"):
        raise AttributionError(f"{where}: fields `seller_kwh` and `sold_kw` take 0 or more")
    amounts: list[int] = []
    for name in ("capacity", "energy", "penalty"):
        quanta = getattr(pot, name) / pot.quantum
        if not quanta.is_finite() or quanta != quanta.to_integral_value():
            raise AttributionError(f"{where}: field `{name}` is {getattr(pot, name)}; round it to {pot.quantum} first")
        amounts.append(int(quanta))
    return amounts[0], amounts[1], amounts[2]
