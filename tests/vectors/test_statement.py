"""The rulebook's settlement vectors: S-1 to S-5 and K-1, each with its tolerance, mark and origin."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest

from droop.products import parse
from droop.promises import Market
from settlement.calendar import nanoseconds
from settlement.payment import america, australia, efa, europe
from settlement.sales import SaleError, check_bid


class Vector(NamedTuple):
    id: str
    found: object
    expected: tuple[float, ...]
    tolerance: float
    mark: str
    origin: str


def each(lines):
    return tuple(float(line.amount) for line in lines)


def block(unavailable):
    """A GB block of eight settlement periods, 5 MW at 10 GBP/MW/h."""
    return [line for k in range(8) for line in efa.efa(5000, 0.5, 10, 0 if k in unavailable else 1)]


ROUNDED = 0.005001  # the vector is given to a tenth of a cent, a line ends at the cent

VECTORS = [
    Vector("S-1", (sum(each(block(()))), sum(each(block((3,))))), (200.0, 175.0), 0, "V2", "rulebook 4.2"),
    Vector("S-2", each(australia.nem(10_000, Fraction(5, 60), 60)), (50.0,), 0, "V2", "rulebook 6"),
    Vector("S-3", each(america.pjm(5000, 1, 0.90, 20, 3, 2.5)), (90.0, 33.75), 0, "V2", "rulebook 5.1, S11, S14"),
    Vector("S-3 below", each(america.pjm(5000, 1, 0.24, 20, 3, 2.5)), (0.0, 0.0), 0, "V2", "rulebook 5.1"),
    Vector("S-4", each(america.nyiso(5000, 1, 0.95, 10)), (47.25,), 0, "V2", "rulebook 5.2, S14"),
    Vector("S-4b MISO", each(america.miso(4000, 1, 0.95, 12, make_whole=0.03)), (46.968,), ROUNDED, "V2", "S14"),
    Vector("S-4b ISO-NE", (sum(each(america.isone(4000, 1, 0.9, 10, 2, 1.5))),), (46.80,), 0, "V2", "S14"),
    Vector("S-4c", (sum(each(america.caiso(5000, 1, 8, 0.85, 7, 0.5))),), (42.975,), ROUNDED, "M", "rulebook 5.2"),
    Vector(
        "S-4d", each((*america.deployed(5000, 1, 7), *america.deployed(5000, 1, 4), *america.energy(1250, 750, 30))),
        (35.0, 20.0, 15.0), 0, "V2", "rulebook 5.2, S14",
    ),
    Vector("S-4e", each(australia.fpp(0.2, 40, Fraction(5, 60), 15)), (10.0,), 0, "M", "rulebook 6"),
    Vector(
        "S-5", each((*europe.capacity(1000, 40, unavailable_paid=True), *europe.non_availability(1000, 40, 0.5))),
        (40.0, -100.0), 0, "M", "rulebook 2.4; TenneT NL 8.2",
    ),
    Vector("2.4 lack of response", each(europe.lack_of_response(500, 40, 0.25)), (-100.0,), 0, "M", "TenneT NL 8.2"),
    Vector("K-1", tuple(float(efa.k_factor(e)) for e in (0.0, 0.03, 0.05, 0.07, 0.5)), (1, 1, 0.5, 0, 0), 0, "M",
           "rulebook 4.3"),
]  # fmt: skip


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v.id} [{v.mark}]")
def test_the_vector_holds(vector):
    assert vector.found == pytest.approx(vector.expected, rel=0, abs=vector.tolerance)


def test_what_is_exact_before_the_cent():
    """S-4b and S-4c to the digit they are given with."""
    (line,) = america.miso(4000, 1, 0.95, 12, make_whole=0.03)
    assert line.exact == Fraction("46.968")
    lines = america.caiso(5000, 1, 8, 0.85, 7, 0.5)
    assert sum(line.exact for line in lines) == Fraction("42.975")


@pytest.mark.parametrize(
    ("start", "version", "refused"),
    [
        ((2025, 9, 30, 23, 30), "v2", "validity"),
        ((2025, 10, 1, 0, 0), "v2", None),
        ((2025, 10, 1, 0, 15), "v2", "within the block 00:00-00:30"),
        ((2025, 9, 30, 23, 30), "v1", None),
        ((2025, 10, 1, 0, 0), "v1", "validity"),
    ],
    ids=["S-4f before", "S-4f first", "S-4f off the half hour", "v1 last", "v1 over"],
)
def test_a_pjm_bid_begins_on_a_half_hour_under_its_own_rules(start, version, refused):
    """S-4f [V2]: the regime changed on 2025-10-01, Eastern time."""
    market = Market(block_s=1800, zone="America/New_York", currency="USD", price_unit="USD/MW/h")
    dates = {"v1": ("2012-10-01", "2025-10-01"), "v2": ("2025-10-01", "2026-10-01")}[version]
    product = replace(
        parse({"id": "pjm", "title": "t", "area": "PJM", "nominal_hz": 60.0, "direction": "symmetric",
               "curve": [[-0.1, 1.0], [0.1, -1.0]]}, "test"),
        market=market, effective_from=dates[0], effective_to=dates[1],
    )  # fmt: skip
    start_ns = nanoseconds(datetime(*start, tzinfo=ZoneInfo("America/New_York")))
    if refused is None:
        check_bid(product, start_ns, 500)
    else:
        with pytest.raises(SaleError, match=refused):
            check_bid(product, start_ns, 500)
