"""Slow, obvious twins of the doors: one row, plain Python numbers, rules as the row layouts state them.

Nothing of ours is imported. Tests hold the twins and the kernels equal.
"""

from __future__ import annotations

import math
from typing import Any

S_NS = 1_000_000_000
DAY_NS = 86_400 * S_NS


def session_verdict(row: dict[str, Any]) -> str | None:
    """Why the numbers of a session that begins are refused; None where nothing is wrong."""
    numbers = [
        "capacity_kwh", "soh_frac", "soc_frac", "soc_min_frac", "soc_max_frac", "dod_max_frac", "charge_max_kw",
        "discharge_max_kw", "eta_charge_frac", "eta_discharge_frac", "safe_kw", "depart_kwh", "min_kw", "ramp_kw_s",
        "budget_kwh", "wear",
    ]  # fmt: skip
    if not all(math.isfinite(row[name]) for name in numbers):
        return "session_nan"
    for name in ("soh_frac", "soc_frac", "soc_min_frac", "soc_max_frac", "dod_max_frac"):
        if row[name] < 0 or row[name] > 1:
            return "session_range"
    for name in ("eta_charge_frac", "eta_discharge_frac"):
        if row[name] <= 0 or row[name] > 1:
            return "session_range"
    if row["soc_min_frac"] > row["soc_max_frac"]:
        return "session_range"
    if row["capacity_kwh"] <= 0 or row["capacity_kwh"] > 1e5:
        return "session_range"
    for name in ("charge_max_kw", "discharge_max_kw"):
        if row[name] < 0 or row[name] > 1e4:
            return "session_range"
    if row["safe_kw"] > 0 or row["safe_kw"] < -row["charge_max_kw"]:
        return "session_range"
    for name in ("depart_kwh", "min_kw", "ramp_kw_s", "budget_kwh", "wear"):
        if row[name] < 0:
            return "session_range"
    if row["min_kw"] > row["charge_max_kw"] and row["min_kw"] > row["discharge_max_kw"]:
        return "session_range"
    if row["wear"] and (row["wear"] < 0.01 or row["wear"] > 100):
        return "session_range"
    return None


class Wishes:
    """Who wishes what. running : session at each charger, None where nobody is."""

    def __init__(self, running: list[int | None]) -> None:
        self.running = running
        self.stands = [(0, 0)] * len(running)  # wish, until_ns
        self.told_ns = [0] * len(running)

    def take(self, t_ns: int, until_ns: int, slot: int, session: int, wish: int, now_ns: int) -> str | None:
        """One row; why it is refused."""
        if slot not in range(len(self.running)):
            return "wish_slot"
        if wish not in (0, 1, 2, 3):
            return "wish_code"
        if self.running[slot] is None or self.running[slot] != session:
            return "wish_session"
        if t_ns <= 0 or t_ns - now_ns > 5 * S_NS:
            return "wish_range"
        if wish and until_ns - now_ns > 31 * DAY_NS:
            return "wish_range"
        if t_ns <= self.told_ns[slot]:
            return "wish_old"
        if wish and until_ns - now_ns <= 0:
            return "wish_old"
        self.told_ns[slot] = t_ns
        self.stands[slot] = (wish, until_ns if wish else 0)
        return None
