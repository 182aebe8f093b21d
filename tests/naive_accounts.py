"""Slow, obvious twins of the vehicles' accounts: one vehicle, one second, one report, one cent at a time.

Written from the rules (docs/vehicle-accounts.md, rulebook 9.1 and 10), not from the kernels; nothing of ours is
imported.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

S_NS = 1_000_000_000


@dataclass
class Seen:
    """What a look at a vehicle right after a decision shows."""

    command_kw: float
    valid_until_ns: int
    safe_kw: float
    plan_kw: float
    lo_kw: float
    hi_kw: float
    counts: bool  # plugged in and not at fault
    bound_by: int  # reason that holds it at its bound in the direction asked; 0: none


@dataclass
class Account:
    """One session of one charger within one interval, second by second: looked at at every decision."""

    start_ns: int
    seen: Seen
    at_ns: int
    asked_up_kwh: float = 0.0
    asked_down_kwh: float = 0.0
    commanded_kwh: float = 0.0
    plan_kwh: float = 0.0
    headroom_up_kwh: float = 0.0
    headroom_down_kwh: float = 0.0
    bound_s: dict[int, float] = field(default_factory=dict)

    def until(self, now_ns: int) -> None:
        """What was last seen holds until now; availability no longer than 2 s."""
        s = self.seen
        told_h = max(min(now_ns, s.valid_until_ns) - self.at_ns, 0) / S_NS / 3600
        whole_h = (now_ns - self.at_ns) / S_NS / 3600
        self.commanded_kwh += s.command_kw * told_h + s.safe_kw * (whole_h - told_h)
        if s.command_kw > s.plan_kw:
            self.asked_up_kwh += (s.command_kw - s.plan_kw) * told_h
        else:
            self.asked_down_kwh += (s.plan_kw - s.command_kw) * told_h
        self.plan_kwh += s.plan_kw * whole_h
        held_s = min((now_ns - self.at_ns) / S_NS, 2.0)
        if s.counts:
            self.headroom_up_kwh += max(s.hi_kw - s.plan_kw, 0.0) * held_s / 3600
            self.headroom_down_kwh += max(s.plan_kw - s.lo_kw, 0.0) * held_s / 3600
        if s.bound_by:
            self.bound_s[s.bound_by] = self.bound_s.get(s.bound_by, 0.0) + held_s
        self.at_ns = now_ns


def metered(
    told: Iterable[tuple[int, str, int, float]], session: int, start_ns: int, end_ns: int, plan_kw: float
) -> tuple[float, float, float, float, float]:
    """(up, down, above the plan, below it [kWh], covered [s]) of one account, from what one charger told in order.

    told : (t_ns, "begins" | "ends" | "report", session, power_kw); steps of a thousandth of each piece
    """
    up = down = over = under = covered = 0.0
    here: int | None = None
    t0, p0 = 0, 0.0
    for t_ns, what, who, power_kw in told:
        if what == "ends":
            here = None
        elif what == "begins":
            if here == who and t0 > t_ns:
                continue
            p0 = p0 if here == who else 0.0
            here, t0 = who, t_ns
        elif here == who and t_ns > t0:
            inside_ns = min(t_ns, end_ns) - max(t0, start_ns)
            if t_ns - t0 <= 15 * S_NS and inside_ns > 0 and who == session:
                steps = 1000
                h = inside_ns / S_NS / 3600 / steps
                for k in range(steps):  # the whole piece's shape, pro rata of the time inside
                    p = p0 + (power_kw - p0) * (k + 0.5) / steps
                    up, down = up + max(p, 0) * h, down + max(-p, 0) * h
                    over, under = over + max(p - plan_kw, 0) * h, under + max(plan_kw - p, 0) * h
                covered += inside_ns / S_NS
            t0, p0 = t_ns, power_kw
    return up, down, over, under, covered


def dealt(cents: int, weights: Sequence[Fraction]) -> list[Fraction]:
    """The exact shares, before any rounding."""
    whole = sum(weights, Fraction(0))
    return [Fraction(cents) * w / whole if whole else Fraction(0) for w in weights]


def rounded(cents: int, exact: Sequence[Fraction]) -> list[int]:
    """Largest remainder, the earlier first among equals; for amounts of 0 or more."""
    shares = [math.floor(x) for x in exact]
    left = cents - sum(shares)
    for i in sorted(range(len(exact)), key=lambda i: (shares[i] - exact[i], i))[:left]:
        shares[i] += 1
    return shares
