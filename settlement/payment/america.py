"""North American regulation: capacity and movement, most of it times a performance score (rulebook 5.1, 5.2).

One pure function a market, in the form of its public revenue formula; marks say from where. Prices are per MW and hour
unless said; five-minute prices need no division, their rows are five minutes long.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from settlement.payment.lines import KW_PER_MW, Line, Number, at_least_0, exact, line, mwh, share

PJM_SCORE_MIN: Final = 0.25  # [V2] below it an hour earns nothing
MISO_MAKE_WHOLE: Final = 0.03  # [V2] about
NYISO_PENALTY: Final = 1.1  # [V2]
USD: Final = "USD"


def pjm(
    kw: Number, hours: Number, score: Number, rmccp: Number, rmpcp: Number, ratio: Number = 1, *,
    score_min: Number = PJM_SCORE_MIN, mark: str = "V2", note: str = "",
) -> tuple[Line, ...]:  # fmt: skip
    """PJM until 2025-09-30: capability and performance credit; vector S-3.

    ratio : mileage ratio of the signal followed, 1 for RegA
    """
    quantity, factor, moved = mwh(kw, hours), share(score, "score"), at_least_0(ratio, "mileage_ratio")
    if factor < exact(score_min, "score_min"):
        note, factor = f"score {float(factor):.3f} below {score_min}: no credit", Fraction(0)
    return (
        line("RMCCP credit", quantity, "MWh", rmccp, factor, USD, mark, note),
        line("RMPCP credit", quantity, "MWh", rmpcp, factor * moved, USD, mark, note or f"mileage ratio {ratio}"),
    )


def pjm_loc(offer: Number, lost_opportunity: Number, credits: Number) -> tuple[Line, ...]:
    """Lost opportunity cost that the credits do not cover [M]: max(0, offer + lost opportunity - credits)."""
    short = exact(offer, "offer") + exact(lost_opportunity, "lost_opportunity") - exact(credits, "credits")
    return (line("lost opportunity", Fraction(1), "", max(short, Fraction(0)), 1, USD, "M"),) if short > 0 else ()


def miso(
    kw: Number, hours: Number, score: Number, price: Number, *, make_whole: Number = MISO_MAKE_WHOLE, note: str = ""
) -> tuple[Line, ...]:
    """MISO: (1 + make-whole) x score x price x MW; vector S-4b."""
    factor = (1 + at_least_0(make_whole, "make_whole")) * share(score, "score")
    return (line("regulation", mwh(kw, hours), "MWh", price, factor, USD, "V2", note),)


def isone(
    kw: Number, hours: Number, score: Number, price: Number, mileage: Number, service_price: Number, *, note: str = ""
) -> tuple[Line, ...]:
    """ISO New England: (mileage x service price + capacity price) x score x MW; vector S-4b.

    mileage : of the instructions, in units of the power sold, over the time paid for
    """
    factor, moved = share(score, "score"), at_least_0(mileage, "mileage") * at_least_0(kw, "kw") / KW_PER_MW
    return (
        line("regulation capacity", mwh(kw, hours), "MWh", price, factor, USD, "V2", note),
        line("regulation service", moved, "MW mileage", service_price, factor, USD, "V2", note),
    )


def nyiso(
    kw: Number, hours: Number, index: Number, price: Number, *, up_kwh: Number = 0, down_kwh: Number = 0,
    energy_price: Number = 0, penalty: Number = NYISO_PENALTY, note: str = "",
) -> tuple[Line, ...]:  # fmt: skip
    """New York: MW x price x (1 - 1.1 (1 - performance index)), and the energy of the movement; vector S-4.

    Below an index of 1/11 the factor is negative: movement that is not followed is charged.
    """
    factor = 1 - exact(penalty, "penalty") * (1 - share(index, "index"))
    capacity = line("regulation", mwh(kw, hours), "MWh", price, factor, USD, "V2", note)
    return capacity, *energy(up_kwh, down_kwh, energy_price)


def caiso(
    kw: Number, hours: Number, price: Number, accuracy: Number, mileage_mw: Number, mileage_price: Number, *,
    available: Number = 1, note: str = "",
) -> tuple[Line, ...]:  # fmt: skip
    """California, one direction: capacity, and mileage times accuracy [accuracy M]; vector S-4c.

    mileage_mw : sum of the set-points' changes [MW] over the time paid for
    available  : share of the time in which the capacity was there
    """
    moved, factor = at_least_0(mileage_mw, "mileage"), share(accuracy, "accuracy")
    return (
        line("regulation capacity", mwh(kw, hours), "MWh", price, share(available, "available"), USD, "V2"),
        line("mileage", moved, "MW mileage", mileage_price, factor, USD, "M", note),
    )


def deployed(
    kw: Number, hours: Number, price: Number, what: str = "regulation", available: Number = 1, *, note: str = ""
) -> tuple[Line, ...]:  # fmt: skip
    """ERCOT and SPP, one direction: capacity without a performance multiplier; vector S-4d with `energy`.

    available : share of the time in which the capacity was there: what is not shown was not held
    """
    factor = share(available, "available")
    return (line(what, mwh(kw, hours), "MWh", price, factor, USD, "V2", note if factor < 1 else ""),)


def energy(up_kwh: Number, down_kwh: Number, price: Number) -> tuple[Line, ...]:
    """Energy moved, up less down, at the real-time price; charging is paid for."""
    net = (at_least_0(up_kwh, "up_kwh") - at_least_0(down_kwh, "down_kwh")) / KW_PER_MW
    return (line("energy", net, "MWh", price, 1, USD, "V2"),) if net and exact(price, "price") else ()
