"""Pots shared out: to the cent, fairly, and to nobody who was not there."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droop.reasons import Reason
from settlement.accounts import ACCOUNT
from settlement.attribution import OWN, AttributionError, Pot, dealt, share
from tests import naive_accounts as naive

START_NS, END_NS = 1_790_000_000_000_000_000, 1_790_000_900_000_000_000


def accounts(n=3, **columns):
    rows = np.zeros(n, ACCOUNT)
    rows["vehicle"] = [f"car-{i}".encode() for i in range(n)]
    rows["slot"], rows["start_ns"], rows["end_ns"], rows["site"] = np.arange(n), START_NS, END_NS, -1
    for name, value in columns.items():
        rows[name] = value
    return rows


def pot(capacity="0", energy="0", penalty="0", direction="both", sold_kw=40.0, **more):
    return Pot(
        START_NS, END_NS, "ce_fcr", direction, sold_kw, "EUR", Decimal(capacity), Decimal(energy), Decimal(penalty),
        **more,
    )  # fmt: skip


def cents(values):
    return [int(v) for v in values]


def test_capacity_goes_by_what_was_available():
    rows = accounts(headroom_up_kwh=[3.0, 1.0, 0.0], headroom_down_kwh=[0.0, 2.0, 2.0])
    assert cents(share(pot("8.00", direction="up"), rows).capacity) == [600, 200, 0]
    assert cents(share(pot("8.00", direction="down"), rows).capacity) == [0, 400, 400]
    # Each direction half: 3/4 of one, 1/4 and 1/2, 1/2 of the other.
    assert cents(share(pot("8.00"), rows).capacity) == [300, 300, 200]


def test_reserved_is_what_was_sold_of_it():
    """Of 20 kWh available 10 were sold: half of each is reserved. Of 4, and 10 sold: all of it, not more."""
    rows = accounts(2, headroom_up_kwh=[15.0, 5.0])
    assert share(pot("1.00", direction="up"), rows).reserved_kwh == pytest.approx([7.5, 2.5])
    rows = accounts(2, headroom_up_kwh=[3.0, 1.0])
    assert share(pot("1.00", direction="up"), rows).reserved_kwh == pytest.approx([3.0, 1.0])
    rows = accounts(2, headroom_up_kwh=[15.0, 5.0], headroom_down_kwh=[5.0, 15.0])
    assert share(pot("1.00"), rows).reserved_kwh == pytest.approx([5.0, 5.0])


def test_energy_goes_by_what_was_given_as_asked():
    rows = accounts(
        4, asked_up_kwh=[2.0, 2.0, 0.0, 1.0], delivered_up_kwh=[2.0, 1.0, 9.0, 5.0], delivered_down_kwh=[0, 0, 0, 7.0]
    )
    found = share(pot(energy="4.00"), rows)
    assert found.credited_kwh.tolist() == [2.0, 1.0, 0.0, 1.0]
    assert cents(found.energy) == [200, 100, 0, 100]
    rows["asked_down_kwh"] = 1.0
    assert share(pot(energy="4.00", direction="up"), rows).credited_kwh.tolist() == [2.0, 1.0, 0.0, 1.0]
    assert share(pot(energy="4.00"), rows).credited_kwh.tolist() == [2.0, 1.0, 0.0, 2.0]


def test_a_penalty_goes_to_who_fell_short():
    rows = accounts(headroom_up_kwh=1.0, undelivered_kwh=[3.0, 1.0, 0.0], reason=[Reason.REFUSED, Reason.STALE, 0])
    assert cents(share(pot(penalty="8.00"), rows).penalty) == [600, 200, 0]
    assert share(pot(penalty="8.00"), rows).earned.tolist() == [-600, -200, 0]


def test_a_feeders_cap_is_borne_by_all():
    rows = accounts(headroom_up_kwh=[1.0, 2.0, 1.0], unserved_kwh=[4.0, 0.0, 0.0], reason=[Reason.SITE, 0, 0])
    assert cents(share(pot(penalty="8.00", direction="up"), rows).penalty) == [200, 400, 200]
    rows["reason"][0] = Reason.OVERRIDE  # an owner's wish is his own
    assert cents(share(pot(penalty="8.00", direction="up"), rows).penalty) == [800, 0, 0]


@pytest.mark.parametrize("reason", list(Reason))
def test_whose_fault_a_limit_is(reason):
    rows = accounts(2, headroom_up_kwh=1.0, unserved_kwh=[1.0, 0.0], reason=[reason, 0])
    paid = cents(share(pot(penalty="1.00"), rows).penalty)
    own = reason.name in ("STALE", "HELD", "FAULT", "REFUSED", "RESPONSE", "OVERRIDE")
    assert paid == ([100, 0] if own else [50, 50])
    assert (reason in OWN) == own


def test_what_no_limit_explains_is_the_sellers():
    rows = accounts(2, headroom_up_kwh=1.0, undelivered_kwh=[1.0, 0.0], reason=Reason.RESPONSE)
    found = share(pot(penalty="3.00", seller_kwh=2.0), rows)
    assert cents(found.penalty) == [100, 0]
    assert found.rest == (0, 0, 200)
    assert found.total() == Decimal("-3.00")
    # Nothing fell short, and there is a penalty: nobody's but the seller's.
    assert share(pot(penalty="3.00"), accounts(2, headroom_up_kwh=1.0)).rest == (0, 0, 300)


def test_nobody_was_there():
    for rows in (accounts(0), accounts(2)):
        found = share(pot("5.00", "2.00", "1.00"), rows)
        assert not found.earned.any()
        assert found.rest == (500, 200, 100)
        assert found.total() == Decimal("6.00")
        assert not found.reserved_kwh.any()


def test_site_subtotals_add_up():
    rows = accounts(4, headroom_up_kwh=[1.0, 2.0, 3.0, 4.0], site=[0, 1, 1, -1])
    found = share(pot("10.00"), rows)
    assert found.by_site() == {-1: Decimal("4.00"), 0: Decimal("1.00"), 1: Decimal("5.00")}
    assert sum(found.by_site().values()) == found.total()


def test_the_odd_cent_goes_round():
    """Three alike and 1.00: 34, 33, 33, and in the next interval the next one has it."""
    rows, got = accounts(headroom_up_kwh=1.0), []
    for k in range(3):
        start = (START_NS // (END_NS - START_NS) + k) * (END_NS - START_NS)
        rows["start_ns"], rows["end_ns"] = start, start + 1
        one = pot("1.00")._replace(start_ns=start, end_ns=start + END_NS - START_NS)
        got.append(cents(share(one, rows).capacity))
    assert sorted(got) == [[33, 33, 34], [33, 34, 33], [34, 33, 33]]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"capacity": Decimal("1.005")}, "capacity"), ({"energy": Decimal("NaN")}, "energy"),
        ({"penalty": Decimal(-1)}, "penalty"), ({"direction": "left"}, "direction"), ({"end_ns": START_NS}, "end_ns"),
        ({"quantum": Decimal(0)}, "quantum"), ({"seller_kwh": -1.0}, "seller_kwh"),
        ({"start_ns": START_NS + 1}, "rows"), ({"sold_kw": float("nan")}, "sold_kw"),
    ],
)  # fmt: skip
def test_bad_pots_are_named(change, field):
    with pytest.raises(AttributionError, match=field) as caught:
        share(pot("1.00")._replace(**change), accounts())
    assert "ce_fcr" in str(caught.value)
    with pytest.raises(AttributionError, match="rows"):
        share(pot(), np.zeros(1, np.dtype([("start_ns", "i8"), ("end_ns", "i8")])))


def test_yen_and_mills():
    rows = accounts(3, headroom_up_kwh=1.0)
    assert cents(share(pot("100", quantum=Decimal(1)), rows).capacity).count(33) == 2
    assert cents(share(pot("0.010", quantum=Decimal("0.001")), rows).capacity).count(3) == 2


# ---- properties ------------------------------------------------------------------------------------------------

KWH = st.floats(0, 50, allow_subnormal=False)


@st.composite
def fleets(draw, least=1):
    n = draw(st.integers(least, 12))
    rows = accounts(n)
    for name in ("headroom_up", "headroom_down", "asked_up", "asked_down", "delivered_up", "delivered_down",
                 "undelivered", "unserved"):  # fmt: skip
        rows[f"{name}_kwh"] = draw(st.lists(KWH, min_size=n, max_size=n))
    rows["reason"] = draw(st.lists(st.sampled_from([int(r) for r in Reason]), min_size=n, max_size=n))
    rows["site"] = draw(st.lists(st.integers(-1, 2), min_size=n, max_size=n))
    return rows


AMOUNT = st.integers(-10_000_000, 10_000_000)
POTS = st.builds(
    lambda c, e, p, d, s: pot(Decimal(c) / 100, Decimal(e) / 100, Decimal(p) / 100, d, seller_kwh=s),
    AMOUNT, AMOUNT, st.integers(0, 10_000_000), st.sampled_from(["up", "down", "both"]), KWH,
)  # fmt: skip


@given(fleets(least=0), POTS)
def test_the_sum_is_the_pools_to_the_cent(rows, amounts):
    found = share(amounts, rows)
    assert found.total() == amounts.capacity + amounts.energy - amounts.penalty
    assert sum(found.by_site().values(), Decimal(0)) + found.amount(
        found.rest[0] + found.rest[1] - found.rest[2]
    ) == found.total()  # fmt: skip
    assert (found.penalty >= 0).all()
    assert (np.sign(found.capacity) * np.sign(int(amounts.capacity * 100)) >= 0).all()


@given(fleets(), POTS)
def test_who_gave_and_held_and_missed_nothing_gets_nothing(rows, amounts):
    gone = accounts(1)
    gone["slot"] = 99
    found = share(amounts, np.concatenate([rows, gone]))
    assert found.capacity[-1] == found.energy[-1] == found.penalty[-1] == 0


@given(fleets(least=2), POTS)
def test_equal_vehicles_get_equal_amounts_within_a_cent(rows, amounts):
    rows[1] = rows[0]
    found = share(amounts, rows)
    for part in (found.capacity, found.energy):
        assert abs(int(part[0]) - int(part[1])) <= 1
    assert abs(int(found.penalty[0]) - int(found.penalty[1])) <= 2  # its own part and the common one


@given(fleets(least=2), POTS, st.floats(0, 20))
def test_more_delivered_never_earns_less(rows, amounts, more):
    amounts = amounts._replace(energy=abs(amounts.energy))
    before = share(amounts, rows)
    rows["delivered_up_kwh"][0] += more
    assert share(amounts, rows).energy[0] >= before.energy[0]


@given(fleets(least=2), POTS, st.floats(0, 20))
def test_more_available_never_earns_less_and_more_missed_never_costs_less(rows, amounts, more):
    amounts = amounts._replace(capacity=abs(amounts.capacity), direction="up", seller_kwh=0.0)
    rows["unserved_kwh"] = 0.0
    before = share(amounts, rows)
    rows["headroom_up_kwh"][0] += more
    rows["undelivered_kwh"][0] += more
    after = share(amounts, rows)
    assert after.capacity[0] >= before.capacity[0]
    assert after.penalty[0] >= before.penalty[0]


@given(fleets(), POTS, st.randoms())
def test_the_order_of_the_rows_moves_a_cent_at_most(rows, amounts, random):
    order = list(range(rows.size))
    random.shuffle(order)
    straight, mixed = share(amounts, rows), share(amounts, rows[order])
    for name in ("capacity", "energy"):
        assert (abs(getattr(straight, name)[order] - getattr(mixed, name)) <= 1).all()


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**12), min_size=1, max_size=15))
def test_dealing_is_the_twins(quanta, weights):
    shares, left = dealt(quanta, weights)
    exact = naive.dealt(quanta, [Fraction(w) for w in weights])
    if any(weights):
        assert shares.tolist() == naive.rounded(quanta, exact)
        assert left == 0
    else:
        assert (shares.tolist(), left) == ([0] * len(weights), quanta)
    assert dealt(-quanta, weights)[0].tolist() == [-s for s in shares.tolist()]
