"""Reason codes are a wire format: they never move."""

from __future__ import annotations

from droop import reasons
from droop.reasons import COUNT, Reason
from tests import naive


def test_codes_stand():
    assert {reason.name: int(reason) for reason in Reason} == {
        "NONE": 0, "RATING": 1, "SOC": 2, "SOH": 3, "DOD": 4, "DEPARTURE": 5, "STALE": 6, "UNPLUGGED": 7,
        "FAULT": 8, "REFUSED": 9, "HELD": 10, "TEMPERATURE": 11, "TAPER": 12, "THROUGHPUT": 13, "OVERRIDE": 14,
        "RAMP": 15, "MINIMUM": 16, "SITE": 17, "RESPONSE": 18, "FREQUENCY_OUT_OF_BOUNDS": 19,
    }  # fmt: skip


def test_names_in_json():
    assert [reasons.name(code) for code in (1, 2, 5, 10)] == ["rating", "soc", "departure", "held"]


def test_arrays_have_room():
    assert max(Reason) < COUNT == 24


def test_the_twin_counts_alike():
    assert (naive.STALE, naive.HELD, naive.FAULTY) == (Reason.STALE, Reason.HELD, Reason.FAULT)
