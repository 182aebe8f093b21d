"""Payment by name: a product's file names how it is paid and what a failure costs, this file finds the rule.

The rules are pure functions of numbers, one file a market; here they get their numbers from what one product did over
one piece of an interval, and their parameters from the product's `settlement` and `penalty` tables. What a statement
does not show was not delivered: no score earns nothing, time that is not covered was not available.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final, NamedTuple

from droop.products import Product
from settlement.payment import america, australia, efa, europe
from settlement.payment.lines import HOUR_NS, KW_PER_MW, Line, PaymentError, exact
from settlement.prices import CAPACITY, Price, PriceBook, PriceError
from settlement.statement import iso

__all__ = ["PENALTIES", "RULES", "Case", "Line", "PaymentError", "charge", "pay"]


class Case(NamedTuple):
    """What one product did in one piece of an interval: under one contract, at one price of each kind.

    sold_kw        : contracted
    available      : share of the time, and `why` it is less than all
    score          : of the interval; None: nothing could be scored
    mileage        : in units of the power sold, over the piece
    up_kwh, down_kwh : delivered, over the piece
    error          : worst relative error that a quality factor goes by; None: unknown
    missing_kw     : largest response owed and not given, 0 where the response was adequate
    """

    product: Product
    start_ns: int
    end_ns: int
    sold_kw: Fraction
    available: Fraction
    why: str
    score: Fraction | None
    score_note: str
    mileage: Fraction
    up_kwh: Fraction
    down_kwh: Fraction
    error: Fraction | None
    missing_kw: Fraction
    kpis: Mapping[str, float | bool | None]
    prices: PriceBook

    @property
    def hours(self) -> Fraction:
        """Length of the piece."""
        return Fraction(self.end_ns - self.start_ns, HOUR_NS)

    def price(self, kind: str = CAPACITY, per: str = "") -> Price:
        """The price of a kind; it must be for `per`. Raises PriceError."""
        found = self.prices.at(self.product.id, kind, self.start_ns, self.end_ns)
        if per and found.per != per:
            raise PriceError(
                f"{self.product.id}: field `unit` of the `{kind}` price from {iso(found.start_ns)} is {found.unit}, "
                f"its rule takes one per {per}; convert the prices"
            )
        return found

    def span(self, price: Price) -> Fraction:
        """By how much the power is to be multiplied: hours, or the share of a price's own time."""
        whole = HOUR_NS if price.per == "MWh" else price.end_ns - price.start_ns
        return Fraction(self.end_ns - self.start_ns, whole)

    def scored(self) -> tuple[Fraction, str]:
        """The score and why it is none: what could not be scored earns nothing."""
        if self.score is None:
            return Fraction(0), f"not scored: {self.score_note}"
        return self.score, f"score {float(self.score):.4f}"


Rule = Callable[[Case, Mapping[str, Any]], tuple[Line, ...]]


def pay(case: Case) -> tuple[Line, ...]:
    """What is earned, by the product's settlement rule; a product without one is paid for capacity.

    Raises PaymentError for a rule that is not known, PriceError for a price that is missing.
    """
    table = case.product.settlement
    return _rule(case.product, "settlement", table.get("fn", "capacity_block"), RULES)(case, table)


def charge(case: Case) -> tuple[Line, ...]:
    """What a failure costs: the lines of the product's penalty rule; none without one."""
    table = case.product.penalty
    if "fn" not in table:
        return ()
    return _rule(case.product, "penalty", table["fn"], PENALTIES)(case, table)


def _rule(product: Product, field: str, name: Any, known: Mapping[str, Rule]) -> Rule:
    if name not in known:
        raise PaymentError(f"{product.id}: field `{field}.fn` names `{name}`; known: {', '.join(known)}")
    return known[name]


def _efa(case: Case, rule: Mapping[str, Any]) -> tuple[Line, ...]:
    product, price = case.product, case.price(per="MWh")
    low, high = product.score.get("k", (efa.FULL, efa.NONE))
    least = product.availability.get("least_frac", efa.AVAILABLE_MIN)
    if "fn" in product.score and case.error is None:
        note, factor = f"no error known, nothing is paid: {case.score_note}", Fraction(0)
    else:
        error = case.error or Fraction(0)
        note, factor = f"error {float(error):.2%}", efa.k_factor(error, low, high)
    return efa.efa(
        case.sold_kw, case.hours, price.price, case.available, factor, currency=price.currency, available_min=least,
        sp_loss=rule.get("sp_loss", "0.125"), mark=_mark(product, "V2"), note=note,
    )  # fmt: skip


def _capacity_block(case: Case, rule: Mapping[str, Any]) -> tuple[Line, ...]:
    price = case.price()
    return europe.capacity(
        case.sold_kw, price.price, case.span(price), case.available, unit=price.per, currency=price.currency,
        # A market that charges for what was missing pays the block whole (S-5).
        unavailable_paid=bool(rule.get("unavailable_paid", "fn" in case.product.penalty)),
        mark=_mark(case.product, "V" if rule else "M"), note=case.why,
    )  # fmt: skip


def _ce_factors(case: Case, rule: Mapping[str, Any]) -> tuple[Line, ...]:
    price = case.price()
    span, missing_kw = case.span(price), case.sold_kw * (1 - case.available)
    return (
        *europe.non_availability(
            missing_kw, price.price, span, factor=rule.get("non_availability", europe.NON_AVAILABILITY),
            unit=price.per, currency=price.currency, note=case.why,
        ),
        *europe.lack_of_response(
            case.missing_kw, price.price, span, factor=rule.get("lack_of_response", europe.LACK_OF_RESPONSE),
            unit=price.per, currency=price.currency, note=case.score_note,
        ),
    )  # fmt: skip


def _pjm(case: Case, rule: Mapping[str, Any]) -> tuple[Line, ...]:
    score, note = case.scored()
    # RegD moves more than RegA by a ratio that is published beside the prices; RegA is its own measure.
    own = rule.get("mileage", "regd")
    if own not in ("one", "regd"):
        raise PaymentError(f"{case.product.id}: field `settlement.mileage` takes one or regd, not {own!r}")
    ratio = 1 if own == "one" else case.price("mileage_ratio", "1").price
    lines = america.pjm(
        case.sold_kw, case.hours, score, case.price(per="MWh").price, case.price("performance", "MWh").price, ratio,
        score_min=rule.get("score_min", america.PJM_SCORE_MIN), mark=_mark(case.product, "V2"), note=note,
    )  # fmt: skip
    least = exact(rule.get("score_min", america.PJM_SCORE_MIN), "score_min")
    # What earns no credit for want of a score is made whole by nothing either: silence must not pay.
    if score < least or not {"offer", "lost_opportunity"} <= case.prices.kinds(case.product.id):
        return lines
    held = case.sold_kw / KW_PER_MW * case.hours
    offer, lost = (held * exact(case.price(kind, "MWh").price) for kind in ("offer", "lost_opportunity"))
    return lines + america.pjm_loc(offer, lost, sum((item.exact for item in lines), Fraction(0)))


def _miso(case: Case, rule: Mapping[str, Any]) -> tuple[Line, ...]:
    score, note = case.scored()
    alpha = rule.get("alpha", america.MISO_MAKE_WHOLE)
    return america.miso(case.sold_kw, case.hours, score, case.price(per="MWh").price, make_whole=alpha, note=note)


def _isone(case: Case, _: Mapping[str, Any]) -> tuple[Line, ...]:
    score, note = case.scored()
    return america.isone(
        case.sold_kw, case.hours, score, case.price(per="MWh").price, case.mileage, case.price("mileage", "MW").price,
        note=note,
    )  # fmt: skip


def _nyiso(case: Case, rule: Mapping[str, Any]) -> tuple[Line, ...]:
    score, note = case.scored()
    return america.nyiso(
        case.sold_kw, case.hours, score, case.price(per="MWh").price, up_kwh=case.up_kwh, down_kwh=case.down_kwh,
        energy_price=_energy_price(case, rule), penalty=rule.get("factor", america.NYISO_PENALTY), note=note,
    )  # fmt: skip


def _caiso(case: Case, rule: Mapping[str, Any]) -> tuple[Line, ...]:
    score, note = case.scored()
    (first, *others), moved = _capacities(case), case.price("mileage", "MW").price
    mileage_mw = case.mileage * case.sold_kw / KW_PER_MW
    lines = america.caiso(
        case.sold_kw, case.hours, first[1].price, score, mileage_mw, moved, available=case.available, note=note
    )  # fmt: skip
    # A product of both directions holds its power twice; it moves once.
    for what, price in others:
        lines += america.deployed(case.sold_kw, case.hours, price.price, what, case.available, note=case.why)
    return lines + america.energy(case.up_kwh, case.down_kwh, _energy_price(case, rule))


def _deployed(case: Case, rule: Mapping[str, Any]) -> tuple[Line, ...]:
    lines: tuple[Line, ...] = ()
    for what, price in _capacities(case):
        lines += america.deployed(case.sold_kw, case.hours, price.price, what, case.available, note=case.why)
    return lines + america.energy(case.up_kwh, case.down_kwh, _energy_price(case, rule))


def _nem(case: Case, rule: Mapping[str, Any]) -> tuple[Line, ...]:
    lines = australia.nem(case.sold_kw, case.hours, case.price(per="MWh").price, case.available, note=case.why)
    # Performance payments come beside the enablement where the prices have what they go by.
    performed = "required_mw" in case.prices.kinds(case.product.id)
    return lines + _fpp(case, rule) if performed else lines


def _fpp(case: Case, _: Mapping[str, Any]) -> tuple[Line, ...]:
    factor = case.kpis.get("contribution_factor")
    if factor is None:
        return ()  # the region's sum is not known: nothing can be said to have helped or harmed
    required_mw = case.price("required_mw", "1").price
    return australia.fpp(factor, required_mw, case.hours, case.price(per="MWh").price)


def _capacities(case: Case) -> list[tuple[str, Price]]:
    """One capacity price, or one each way where power is sold both ways under one name."""
    if case.product.direction != "symmetric":
        return [("regulation", case.price(per="MWh"))]
    return [(f"regulation {way}", case.price(f"{CAPACITY}_{way}", "MWh")) for way in ("up", "down")]


def _energy_price(case: Case, rule: Mapping[str, Any]) -> Fraction:
    """Real-time price of the energy moved; a product whose energy is settled elsewhere says `energy = false`."""
    return exact(case.price("energy", "MWh").price) if rule.get("energy", True) else Fraction(0)


def _mark(product: Product, own: str) -> str:
    """Confidence of the rule: what the product's file says of its settlement, else the rule's own."""
    return str(product.marks.get("settlement", product.settlement.get("confidence", own)))


RULES: Final[Mapping[str, Rule]] = {
    "efa": _efa, "capacity_block": _capacity_block, "pjm_v1": _pjm, "miso": _miso, "isone": _isone, "nyiso": _nyiso,
    "caiso": _caiso, "ercot": _deployed, "spp": _deployed, "nem": _nem, "fpp": _fpp,
}  # fmt: skip
PENALTIES: Final[Mapping[str, Rule]] = {"ce_factors": _ce_factors}
