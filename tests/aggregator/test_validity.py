"""A product outside its validity, sold twice, or sold above what the fleet can sustain."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from aggregator.alarms import Alarms
from aggregator.oversold import STANDS_NS, Oversold
from aggregator.validity import SoldTwiceError, check_sold_once, check_valid, local_day
from droop.products import ProductDateError, ProductError, load

V1, V2, FCR = load("pjm_reg_v1"), load("pjm_reg_v2"), load("ce_fcr")


def ns(*parts):
    return round(datetime(*parts, tzinfo=UTC).timestamp()) * 1_000_000_000


@pytest.mark.parametrize(
    ("at", "old", "new"),
    [
        # Midnight of 1 October 2025 in Philadelphia is 04:00 UTC (S-4f: 23:30 is refused to the new market).
        ((2025, 10, 1, 3, 30), True, False),
        ((2025, 10, 1, 3, 59, 59), True, False),
        ((2025, 10, 1, 4, 0), False, True),
        ((2026, 10, 1, 3, 59, 59), False, True),
        ((2026, 10, 1, 4, 0), False, False),
    ],
)
def test_a_day_begins_at_midnight_of_the_market(at, old, new):
    for product, valid in ((V1, old), (V2, new)):
        if valid:
            check_valid([FCR, product], ns(*at))
        else:
            with pytest.raises(ProductDateError, match=rf"`{product.id}`.*--any-date"):
                check_valid([FCR, product], ns(*at))


def test_days_are_local_and_before_1970_too():
    assert local_day(V1, ns(2025, 10, 1, 3, 59, 59)) == date(2025, 9, 30)
    assert local_day(load("nem_r1"), ns(2023, 10, 8, 14)) == date(2023, 10, 9)
    assert local_day(FCR, -1) == date(1970, 1, 1)  # one in the morning in Brussels


def test_a_zone_that_there_is_not_is_named():
    lost = replace(V1, market=replace(V1.market, zone="Mars/Olympus"))
    with pytest.raises(ProductError, match=r"`pjm_reg_v1`: field `market.zone`.*Mars/Olympus"):
        local_day(lost, 0)


def test_nothing_is_sold_twice():
    check_sold_once([])
    check_sold_once([FCR, V1, load("gb_dc_low"), load("gb_dc_high")])
    with pytest.raises(SoldTwiceError, match=r"`contract.product`: `ce_fcr` is sold by 2 contracts.*sold_kw"):
        check_sold_once([FCR, V1, load("CE FCR")])


class Core:
    """What `Oversold` looks at."""

    def __init__(self):
        self.alarms = Alarms()
        one = type("Contract", (), {"product": FCR, "sold_kw": 500.0})()
        self.settings = type("Settings", (), {"contracts": (one,)})()


def test_above_capability_is_said_once_and_not_while_the_fleet_reports_for_the_first_time():
    core, oversold, asked = Core(), Oversold(), []

    def reserved():
        asked.append(1)
        row = {"minutes": 15.0, "up_kw": 500.0, "down_kw": 500.0, "have_up_kw": 80.4, "have_down_kw": 120.0}
        return {"power": row | {"minutes": 0.0, "short": False}, "sustain": [row | {"short": True}]}

    assert oversold.text(core, reserved, 0) is None
    core.alarms.set("SOLD_ABOVE_CAPABILITY", True, 5)
    assert oversold.text(core, reserved, 5 + STANDS_NS - 1) is None
    assert not asked  # the fleet is looked at only when there is something to say
    said = oversold.text(core, reserved, 5 + STANDS_NS)
    for words in ("500 kW of ce_fcr", "500 kW up", "has 80 and 120", "15 min", "--sold-kw"):
        assert words in said
    assert oversold.text(core, reserved, 6 * STANDS_NS) is None


def test_an_alarm_that_went_away_says_nothing():
    core, oversold = Core(), Oversold()
    core.alarms.set("SOLD_ABOVE_CAPABILITY", True, 0)
    core.alarms.set("SOLD_ABOVE_CAPABILITY", False, 1)
    core.alarms.set("SHORTFALL", True, 0)
    assert oversold.text(core, dict, 10 * STANDS_NS) is None
