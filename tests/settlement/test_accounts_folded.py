"""Accounts of the smallest common interval, folded up to the interval of one product."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droop.reasons import Reason
from settlement.accounts import ACCOUNT, folded

NS = 1_000_000_000


def accounts(draws):
    """One row a (slot, session) and 300 s; values whole, so that sums are exact."""
    rows = np.zeros(len(draws), ACCOUNT)
    for row, (slot, session, k, value, reason) in zip(rows, draws, strict=True):
        row["vehicle"], row["slot"], row["session"] = f"EV{slot}-{session}", slot, session
        row["start_ns"], row["end_ns"] = 300 * k * NS, 300 * (k + 1) * NS
        for name in ACCOUNT.names or ():
            if name.endswith("_kwh") or name in ("commands", "acknowledged", "refused"):
                row[name] = value
        row["plugged_s"], row["reported_s"], row["bound_s"] = 300, value, value % 7
        row["shortfall_kwh"], row["reason"], row["quality"] = value % 3, reason, value % 4
        row["coverage_frac"] = value / 300
    return rows


PIECE = st.tuples(
    st.integers(0, 3), st.integers(1, 2), st.integers(0, 2), st.integers(0, 300), st.sampled_from([0, 3, 5])
)


@given(st.lists(PIECE, max_size=12, unique_by=lambda item: item[:3]))
def test_a_stay_is_one_row_and_everything_adds_up(draws):
    rows = accounts(draws)
    found = folded(rows)
    stays = sorted({item[:2] for item in draws})
    assert found[["slot", "session"]].tolist() == stays
    for row, stay in zip(found, stays, strict=True):
        own = [item for item in rows if (item["slot"], item["session"]) == stay]
        for name in ("asked_up_kwh", "delivered_kwh", "headroom_up_kwh", "plugged_s", "reported_s", "commands"):
            assert row[name] == sum(item[name] for item in own), name
        assert (row["start_ns"], row["end_ns"]) == (min(r["start_ns"] for r in own), max(r["end_ns"] for r in own))
        assert row["quality"] == max(item["quality"] for item in own)
        assert row["coverage_frac"] == pytest.approx(row["reported_s"] / row["plugged_s"])
        most = max(item["shortfall_kwh"] for item in own)
        longest = max(item["bound_s"] for item in own if item["shortfall_kwh"] == most)
        blamed = {item["reason"] for item in own if (item["shortfall_kwh"], item["bound_s"]) == (most, longest)}
        assert row["reason"] in blamed
        assert row["bound_s"] == sum(item["bound_s"] for item in own if item["reason"] == row["reason"])


def test_one_account_is_itself():
    rows = accounts([(2, 1, 0, 30, int(Reason.SOC)), (1, 1, 0, 60, 0)])
    assert folded(rows).tobytes() == rows[[1, 0]].tobytes()
    assert folded(rows[:0]).size == 0
