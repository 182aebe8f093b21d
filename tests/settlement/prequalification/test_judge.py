"""What every verdict rests on: enough data at the test's rate, and a failure for whatever could not be measured."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droop.products import load
from settlement import prequalification as pq
from settlement.prequalification.recording import Trace
from settlement.prequalification.rows import Rule, passed
from tests.settlement.prequalification.plants import SOLD_KW, failed, failed_in, played

CE, D = load("ce_fcr"), load("nordic_fcr_d_up")
RULE = Rule("r", "text", "s", "M", "source")
SHORT = pq.Options(hold_s=300.0, operation_s=0.0)


def ce(parts=("a",)):
    plan = pq.plan_of(CE, SHORT).only(parts)
    return plan, played(CE, plan)


def test_missing_power_is_never_taken_for_delivered():
    plan, recording = ce(("a", "b"))
    gone = recording.power_kw.copy()
    gone[100:250] = np.nan
    found = pq.judge(CE, plan, recording._replace(power_kw=gone), SOLD_KW)
    assert failed_in(found) == {("data", "a")}
    assert found.qualified_kw == 0.0


def test_a_missing_baseline_counts_as_missing():
    plan, recording = ce()
    none = pq.judge(CE, plan, recording._replace(baseline_kw=np.full(recording.t_s.size, np.nan)), SOLD_KW)
    # The sampling of the power itself is as it should be; no requirement passes.
    assert [row.id for row in none.rows if row.passed] == ["sampling"]


def test_a_recording_that_is_too_slow_fails_the_sampling():
    plan = pq.plan_of(D, SHORT)
    recording = played(D, plan)
    slow = type(recording)(*(column[::10] for column in recording))
    found = pq.judge(D, plan, slow, SOLD_KW)
    assert "sampling" in failed(found)
    assert next(row for row in found.rows if row.id == "sampling").measured == pytest.approx(1.0)


@pytest.mark.parametrize("product", ["ce_fcr", "nordic_fcr_n", "nordic_fcr_d_up", "gb_dc_low", "ieee1547"])
def test_a_test_that_was_cut_short_fails_and_does_not_crash(product):
    tested = load(product)
    plan = pq.plan_of(tested, SHORT)
    recording = played(tested, plan)
    short = type(recording)(*(column[: column.size // 3] for column in recording))
    found = pq.judge(tested, plan, short, SOLD_KW)
    assert not found.passed
    assert found.qualified_kw == 0.0
    assert {row.part for row in found.rows if row.id == "data" and row.passed is False}


def test_a_verdict_is_json_ready():
    plan, recording = ce()
    table = pq.judge(CE, plan, recording, SOLD_KW).to_dict()
    assert table["passed"] is True
    assert table["failed"] == []
    for row in table["requirements"]:
        assert set(row) == {
            "id", "part", "text", "limit", "measured", "unit", "passed", "mark", "source", "note",
        }  # fmt: skip
        assert row["measured"] is None or math.isfinite(row["measured"])
        assert row["mark"] in ("V", "V2", "M", "D")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sold_kw": 0.0}, "field `sold_kw` takes a power above 0"),
        ({"sold_kw": math.nan}, "field `sold_kw`"),
        ({"cut": "power_kw"}, "rows of one length"),
        ({"order": True}, "each later than the last"),
        ({"empty": True}, "at least two times"),
    ],
)
def test_what_cannot_be_judged_is_refused_by_name(change, message):
    plan, recording = ce()
    if "cut" in change:
        recording = recording._replace(power_kw=recording.power_kw[1:])
    if "order" in change:
        recording = recording._replace(t_s=recording.t_s[::-1])
    if "empty" in change:
        recording = type(recording)(*(column[:0] for column in recording))
    with pytest.raises(pq.PrequalificationError, match=message):
        pq.judge(CE, plan, recording, change.get("sold_kw", SOLD_KW))


def test_rows_pass_at_their_limits_and_not_beyond():
    assert RULE.at_most("p", 2.0, 2.0).passed is True
    assert RULE.at_most("p", 2.001, 2.0).passed is False
    assert RULE.at_least("p", 2.0, 2.0).passed is True
    assert RULE.at_least("p", 1.999, 2.0).passed is False
    assert RULE.below("p", 2.0, 2.0).passed is False
    assert [RULE.within("p", x, -1, 1).passed for x in (-1.1, -1, 1, 1.1)] == [False, True, True, False]
    assert RULE.not_applicable("p", "why").passed is None


def test_what_was_not_measured_fails_and_says_so():
    for row in (RULE.at_most("p", math.nan, 1), RULE.at_least("p", math.nan, 1), RULE.below("p", math.nan, 1)):
        assert (row.passed, row.measured, row.note) == (False, None, "nothing was recorded to measure it on")
    never = RULE.at_most("p", math.inf, 1)
    assert (never.passed, never.measured, never.note) == (False, None, "never within the time recorded")


def test_nothing_judged_is_nothing_passed():
    assert passed([]) is False
    assert passed([RULE.not_applicable("p", "")]) is False
    assert passed([RULE.not_applicable("p", ""), RULE.at_most("p", 0, 1)]) is True
    assert passed([RULE.at_most("p", 2, 1), RULE.at_most("p", 0, 1)]) is False


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=40), st.integers(1, 9), st.floats(0.0, 1.0))
def test_measurements_agree_with_plain_loops(values, span, level):
    t_s = np.arange(len(values)) * 0.5
    trace = Trace(t_s, np.array(values))
    pairs = list(zip(t_s.tolist(), values, strict=True))
    inside = [y for t, y in pairs if 0.5 - 1e-9 <= t < span - 1e-9]
    mean = trace.mean(0.5, span)
    assert mean == pytest.approx(sum(inside) / len(inside)) if inside else math.isnan(mean)
    reached = [t - 0.5 for t, y in pairs if 0.5 - 1e-9 <= t <= span + 1e-9 and y >= level]
    assert trace.first(level, 0.5, span) == (pytest.approx(max(reached[0], 0.0)) if reached else math.inf)
    smooth = [
        (t, [v for s, v in pairs if t - 1e-9 <= s < t + 1.0 - 1e-9]) for t, _ in pairs if t + 1.0 <= pairs[-1][0] + 1e-9
    ]
    found = trace.smoothed(1.0)
    assert found.t_s.tolist() == pytest.approx([t for t, _ in smooth])
    assert found.y.tolist() == pytest.approx([sum(seen) / len(seen) for _, seen in smooth], abs=1e-9)
