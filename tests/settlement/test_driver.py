"""A driver's statement: the numbers of the accounts and shares, in words and as a table."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droop.reasons import Reason
from settlement.accounts import TimeQuality
from settlement.attribution import share
from settlement.driver import DriverError, statement
from tests.settlement.test_attribution import accounts, pot


def mine(**columns):
    rows = accounts(3, plugged_s=900.0, reported_s=900.0, headroom_up_kwh=2.0, headroom_down_kwh=1.0)
    for name, value in columns.items():
        rows[name][1] = value
    return rows


def test_energies_alone():
    rows = mine(asked_up_kwh=0.5, delivered_up_kwh=0.4, commands=9, site=1)
    found = statement("car-1", rows, sites=["hall", "yard"])
    assert found["vehicle"] == "car-1"
    assert found["sites"] == ["yard"]
    assert found["asked_up_kwh"] == 0.5
    assert found["commands"] == 9
    assert found["earned"] == {}
    assert found["income"] == []
    assert len(found["intervals"]) == 1
    assert found["sentences"][0] == "car-1 was plugged in for 15 min and reported 100 % of that time."
    assert not any("earned" in line for line in found["sentences"])
    json.dumps(found)


def test_income_in_words():
    rows = mine(asked_up_kwh=1.0, delivered_up_kwh=0.5, undelivered_kwh=0.5, shortfall_kwh=0.5, reason=Reason.REFUSED)
    items = [share(pot("9.00", "2.00", "1.00"), rows)]
    found = statement("car-1", rows, items)
    assert found["earned"] == {"EUR": "4.00"}
    assert found["income"][0]["capacity"] == "3.00"
    assert found["income"][0]["pool"] == {"capacity": "9.00", "energy": "2.00", "penalty": "1.00"}
    assert found["shortfall_by_reason"] == {"refused": 0.5}
    assert (
        "It earned 4.00 EUR: 3.00 for being available, 2.00 for what it gave, less 1.00 for what fell short."
        in (found["sentences"])
    )
    assert "0.50 kWh fell short: charger does not follow." in found["sentences"]


def test_several_intervals_and_stays_add_up():
    one, two = mine(delivered_up_kwh=1.0, quality=TimeQuality.LATE), mine(delivered_up_kwh=2.0, session=5)
    two["start_ns"] += 900 * 10**9
    two["end_ns"] += 900 * 10**9
    found = statement("car-1", np.concatenate([two, one]))
    assert found["stays"] == 2
    assert found["delivered_up_kwh"] == 3.0
    assert [item["delivered_up_kwh"] for item in found["intervals"]] == [1.0, 2.0]
    assert found["quality"] == "late"
    assert found["sentences"][-1] == "Some of its reports arrived late."


def test_a_vehicle_that_was_not_there_is_named():
    with pytest.raises(DriverError, match="car-9"):
        statement("car-9", mine())


def test_no_word_is_missing():
    for reason in Reason:
        found = statement("car-1", mine(shortfall_kwh=1.0, reason=reason))
        assert any("fell short" in line for line in found["sentences"])
    for quality in TimeQuality:
        assert statement("car-1", mine(quality=quality))["quality"] == quality.name.lower()


@given(st.lists(st.floats(0, 9), min_size=3, max_size=3), st.integers(-9999, 9999), st.integers(0, 999))
def test_the_drivers_statements_add_up_to_the_pools(headroom, capacity, penalty):
    """To the cent: all drivers' amounts and what stays with the pool."""
    rows = mine()
    rows["headroom_up_kwh"], rows["undelivered_kwh"] = headroom, headroom[::-1]
    item = share(pot(Decimal(capacity) / 100, "1.23", Decimal(penalty) / 100), rows)
    told = sum((Decimal(statement(f"car-{i}", rows, [item])["earned"]["EUR"]) for i in range(3)), Decimal(0))
    rest = item.amount(item.rest[0] + item.rest[1] - item.rest[2])
    assert told + rest == Decimal(capacity) / 100 + Decimal("1.23") - Decimal(penalty) / 100
