"""The meters' error in a statement: by the classes on record, against the product's own limit."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from aggregator.contracts import Contract, CoreSettings, from_json
from droop.products import load
from settlement.align import NS
from settlement.evidence import to_facts, to_plain
from settlement.facts import Classes, Declarations, Facts, Meters, Samples, floats, ints, no_shortfall, no_signal
from settlement.interval import Sold, settle, verify
from settlement.metering import accuracy
from settlement.report.page import _accuracy

T0 = 1_700_000_100 * NS
FCR = load("ce_fcr")


def facts(powers, classes):
    t_ns = T0 + NS * np.arange(-60, 900)
    n = len(powers)
    meters = Meters(
        np.tile(t_ns, n), np.repeat(np.array(powers, float), t_ns.size),
        np.repeat(np.arange(1, n + 1), t_ns.size), np.ones(n * t_ns.size, bool),
    )  # fmt: skip
    samples = Samples(t_ns, np.full(t_ns.size, 50.0), np.ones(t_ns.size, bool))
    declared = Declarations(ints(T0 - 90 * NS), ints(T0 - 60 * NS), ints(T0 + 900 * NS), floats(0.0), ints(1),
                            np.zeros(1, bool))  # fmt: skip
    columns = [np.array(column, float) for column in zip(*classes, strict=True)] if classes else [floats()] * 3
    known = Classes(columns[0].astype(np.int64), columns[1], columns[2])
    return Facts(samples, meters, declared, no_signal(), no_shortfall(), classes=known)


def found(powers, classes, product=FCR):
    own = facts(powers, classes)
    return accuracy(product, own.meters, own.classes, T0, T0 + 900 * NS)


def test_independent_errors_are_a_root_of_squares_common_ones_a_sum():
    one = found([300.0, -400.0], [(1, 0.01, 0.002), (2, 0.01, 0.002)])
    error_kw = math.hypot(3.0, 4.0) + 0.002 * 700.0
    assert (one.error_kw, one.error_frac) == pytest.approx((error_kw, error_kw / 700.0))
    assert (one.limit_frac, one.precise, one.note) == (0.01, True, "")


def test_beyond_the_products_limit_it_says_so():
    one = found([100.0], [(1, 0.01, 0.01)])
    assert one.precise is False
    assert one.note == "meters may be wrong by 2.00%, 1.00% are admitted"
    free = replace(FCR, sampling=replace(FCR.sampling, power_accuracy_frac=0.0))
    assert found([100.0], [(1, 0.01, 0.01)], free).precise is None


@pytest.mark.parametrize(("classes", "which"), [([], "1, 2"), ([(1, 0.01, 0.0)], "2")])
def test_without_a_class_of_every_meter_it_is_unknown(classes, which):
    one = found([100.0, 50.0], classes)
    assert (one.error_kw, one.error_frac, one.precise) == (None, None, None)
    assert one.note == f"unknown: no class on record for meter {which}"


def test_a_sum_of_nothing_has_no_share():
    one = found([0.0], [(1, 0.01, 0.0)])
    assert (one.error_kw, one.error_frac, one.precise) == (0.0, None, None)


def test_it_stands_in_the_statement_and_on_the_page_and_is_computed_again():
    sold, own = [Sold(FCR, 1000.0)], facts([100.0], [(1, 0.004, 0.0)])
    (stated,) = settle(sold, own, T0, T0 + 900 * NS)
    assert stated.accuracy.error_frac == pytest.approx(0.004)
    verify(stated, to_facts(to_plain(own)))
    assert _accuracy([stated]) == "0.40 % of 1 %"
    (unknown,) = settle(sold, facts([100.0], []), T0, T0 + 900 * NS)
    assert _accuracy([stated, unknown]) == "unknown"


def test_the_classes_travel_with_the_run():
    settings = CoreSettings("ce", 4, (Contract(FCR, 1.0),), meter_classes=((1, 0.01, 0.002), (7, 0.02, 0.0)))
    again = from_json(settings.to_json())
    assert again == settings
    assert again.classes().meter.tolist() == [1, 7]
    assert CoreSettings("ce", 4, (Contract(FCR, 1.0),)).classes().meter.size == 0
