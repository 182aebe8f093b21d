"""Why one vehicle got the power it got, from its row and the fleet's multiplier.

    free = plan + slope soft(lam, price),   power = clip(free, lo, hi)

The two bounds carry the reason that set them, so the question "and without that limit?" has two answers: at the
same multiplier, where nobody else notices, and with the split solved again, where the others give way.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from droop import reasons
from droop.fleet import Fleet
from droop.reasons import Reason
from droop.split import LAM_MAX, fill, solve
from droop.weights import LEAST

Column = npt.NDArray[Any]

WORDS: Final = {
    Reason.NONE: "no limit",
    Reason.RATING: "rated power",
    Reason.SOC: "SoC window",
    Reason.SOH: "SoC window of an aged battery",
    Reason.DOD: "depth of discharge",
    Reason.DEPARTURE: "energy for the departure",
    Reason.STALE: "report too old",
    Reason.UNPLUGGED: "no vehicle",
    Reason.FAULT: "charger at fault",
    Reason.REFUSED: "charger does not follow",
    Reason.HELD: "report ageing",
    Reason.TEMPERATURE: "battery temperature",
    Reason.TAPER: "taper near the end of the SoC range",
    Reason.THROUGHPUT: "the day's throughput",
    Reason.OVERRIDE: "the owner's wish",
    Reason.RAMP: "ramp of the charger",
    Reason.MINIMUM: "least power of the charger",
    Reason.SITE: "cap of the site",
    Reason.RESPONSE: "charger gives less than told",
    Reason.FREQUENCY_OUT_OF_BOUNDS: "frequency beyond the trip limits",
}


@dataclass(frozen=True)
class Explanation:
    """One vehicle's power in parts; powers in kW, positive into the grid.

    slope_kw    : willingness in the direction of lam, per unit of lam
    moved_kw    : what lam calls for on top of the plan
    free_kw     : plan and moved: the power without any bound
    bound       : "ceiling" or "floor": the one it is held at, else the one it moves towards
    binding     : whether it is held there
    without_kw  : with that bound at the next one behind it, at the same lam
    resolved_kw : the same with lam solved again over the fleet, resolved_lam; None where there is no fleet
    command_kw  : what the charger was last told; None where unknown
    """

    power_kw: float
    plan_kw: float
    lam: float
    price: float
    slope_kw: float
    moved_kw: float
    free_kw: float
    lo_kw: float
    hi_kw: float
    reason_down: str
    reason_up: str
    bound: str
    binding: bool
    without_kw: float
    resolved_kw: float | None = None
    resolved_lam: float | None = None
    command_kw: float | None = None

    @property
    def reason(self) -> str:
        """Name of what set the bound in question."""
        return self.reason_up if self.bound == "ceiling" else self.reason_down

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**asdict(self), "reason": self.reason, "sentence": self.sentence()}

    def sentence(self) -> str:
        """The same in words, powers to a tenth of a kW."""
        bound_kw = self.hi_kw if self.bound == "ceiling" else self.lo_kw
        parts = [
            f"{_number(self.power_kw)} kW: plan {_number(self.plan_kw)}, "
            f"{_number(self.moved_kw, sign='+')} for the fleet's lambda of {_number(self.lam, 2)}"
        ]
        if abs(self.lam) <= self.price and self.price > 0.0:
            parts.append(f"it stays until lambda passes its price of {self.price:.2f}")
        parts.append(f"the {self.bound} is {_number(bound_kw)} kW ({_words(self.reason)})")
        without = f"without it {_number(self.without_kw)}"
        if self.binding and self.resolved_kw is not None and self.resolved_lam is not None:
            without += (
                f", or {_number(self.resolved_kw)} once the others give way (lambda {_number(self.resolved_lam, 2)})"
            )
        return "; ".join([*parts, without])


def explain_row(
    plan_kw: float, slope_up: float, slope_dn: float, lam: float, lo_kw: float, hi_kw: float,
    reason_up: int | str = Reason.RATING, reason_down: int | str = Reason.RATING, *,
    rated_lo_kw: float | None = None, rated_hi_kw: float | None = None, price: float = 0.0,
    command_kw: float | None = None,
) -> Explanation:  # fmt: skip
    """Explain one vehicle from plain numbers.

    rated_lo_kw, rated_hi_kw : bounds that would hold without the limits behind lo_kw and hi_kw [kW]; the same
                               when left out. A bound beyond the rating stays: lifting a limit tightens nothing.

    Raises ValueError naming the number that is not finite, lo above hi, a negative slope or price.
    """
    rated_lo = lo_kw if rated_lo_kw is None else rated_lo_kw
    rated_hi = hi_kw if rated_hi_kw is None else rated_hi_kw
    for name, number in (
        ("plan_kw", plan_kw), ("slope_up", slope_up), ("slope_dn", slope_dn), ("lam", lam), ("lo_kw", lo_kw),
        ("hi_kw", hi_kw), ("rated_lo_kw", rated_lo), ("rated_hi_kw", rated_hi), ("price", price),
    ):  # fmt: skip
        if not math.isfinite(number):
            raise ValueError(f"{name}: takes a finite number, got {number}")
        if name in ("slope_up", "slope_dn", "price") and number < 0.0:
            raise ValueError(f"{name}: takes a number of at least 0, got {number}")
    if lo_kw > hi_kw:
        raise ValueError(f"lo_kw: must not be above hi_kw, got {lo_kw} and {hi_kw}")
    beyond = math.copysign(max(abs(lam) - price, 0.0), lam)
    slope = slope_up if lam >= 0.0 else slope_dn
    free = plan_kw + slope * beyond
    over = _held(plan_kw, free, hi_kw, beyond)
    under = not over and _held(-plan_kw, -free, -lo_kw, -beyond)
    ceiling = over or (lam >= 0.0 and not under)
    lo = lo_kw if ceiling else min(lo_kw, rated_lo)
    hi = max(hi_kw, rated_hi) if ceiling else hi_kw
    return Explanation(
        power_kw=min(max(free, lo_kw), hi_kw), plan_kw=plan_kw, lam=lam, price=price, slope_kw=slope,
        moved_kw=slope * beyond, free_kw=free, lo_kw=lo_kw, hi_kw=hi_kw, reason_down=_name(reason_down),
        reason_up=_name(reason_up), bound="ceiling" if ceiling else "floor", binding=over or under,
        without_kw=min(max(free, lo), hi), command_kw=command_kw,
    )  # fmt: skip


def explain(
    fleet: Fleet, slot: int, lam: float, request_kw: float | None = None, price: Column | None = None
) -> Explanation:
    """Explain the vehicle in `slot`, and solve the split again without the limit that binds it.

    lam        : the multiplier of the tick in question
    request_kw : what was asked of the fleet; what it deals at lam when left out, which is less if it fell short
    price      : [n] as `droop.split.solve` was given it

    Behind a site's cap or a charger's least power stands the vehicle's own bound, behind that its rating.
    Willingness is in proportion to room (`droop.weights`): an own bound that is lifted takes the slope along.
    """
    if not 0 <= slot < fleet.state.size:
        raise ValueError(f"slot: takes a row of the fleet, 0 to {fleet.state.size - 1}, got {slot}")
    names = ("plan_kw", "slope_up", "slope_dn", "lo_kw", "hi_kw", "command_kw")
    plan, up, dn, lo, hi, told = (float(getattr(fleet, name)[slot]) for name in names)
    paid = 0.0 if price is None else float(price[slot])
    why = int(fleet.reason_up[slot]), int(fleet.reason_down[slot])
    row = explain_row(plan, up, dn, lam, lo, hi, *why, price=paid, command_kw=told)
    if not row.binding:
        return replace(row, resolved_kw=row.power_kw, resolved_lam=lam)
    up, dn, lo, hi = _lifted(fleet, slot, row, up, dn)
    without_kw = explain_row(plan, up, dn, lam, lo, hi, price=paid).power_kw
    kw, solved = _resolved(fleet, slot, lam, (up, dn, lo, hi), request_kw, price)
    return replace(row, without_kw=without_kw, resolved_kw=kw, resolved_lam=solved)


def _lifted(fleet: Fleet, slot: int, row: Explanation, up: float, dn: float) -> tuple[float, float, float, float]:
    """Slopes and bounds of a vehicle without the bound it is held at: (up, down, lo, hi)."""
    lo, hi = row.lo_kw, row.hi_kw
    if row.bound == "ceiling":
        own = float(fleet.free_hi_kw[slot])
        if own > hi:
            return up, dn, lo, own
        hi = max(hi, float(fleet.discharge_max_kw[slot]))
        return _grown(up, own - row.plan_kw, hi - row.plan_kw), dn, lo, hi
    own = float(fleet.free_lo_kw[slot])
    if own < lo:
        return up, dn, own, hi
    lo = min(lo, -float(fleet.charge_max_kw[slot]))
    return up, _grown(dn, row.plan_kw - own, row.plan_kw - lo), lo, hi


def _resolved(
    fleet: Fleet, slot: int, lam: float, lifted: tuple[float, float, float, float], request_kw: float | None,
    price: Column | None,
) -> tuple[float, float]:  # fmt: skip
    """Power and multiplier with the lifted numbers for one vehicle and everybody else as they are."""
    names = ("plan_kw", "slope_up", "slope_dn", "lo_kw", "hi_kw")
    t, s_up, s_dn, lo, hi = (getattr(fleet, name).astype(np.float64) for name in names)
    paid = np.empty(0) if price is None else price.astype(np.float64)
    p = np.empty_like(t)
    dealt, _ = fill(lam, t, s_up if lam >= 0.0 else s_dn, lo, hi, p, paid)
    s_up[slot], s_dn[slot], lo[slot], hi[slot] = lifted
    asked = dealt if request_kw is None else float(request_kw)
    scale = max(float(np.abs(lo).sum()), float(np.abs(hi).sum()), abs(asked))
    _, _, solved, _ = solve(
        asked, 1e-14 * scale, t, s_up, s_dn, lo, hi, p, float(lo.sum()), float(hi.sum()), paid,
        np.array([lam, dealt, 0.0]), LAM_MAX + float(paid.max(initial=0.0)),
    )  # fmt: skip
    return float(p[slot]), float(solved)


def _held(plan: float, free: float, bound: float, beyond: float) -> bool:
    """Whether the upper bound keeps a vehicle from where it would be; without room its slope says nothing."""
    return free > bound or (beyond > 0.0 and plan >= bound)


def _grown(slope: float, room: float, next_room: float) -> float:
    """A slope with the room it would have; from no room at all as willing as the fleet's mean."""
    factor = slope / room if room > LEAST else 1.0
    return max(factor * next_room, LEAST)


def _name(reason: int | str) -> str:
    return reason if isinstance(reason, str) else reasons.name(int(reason))


def _words(name: str) -> str:
    """A reason's name in words; a word of one's own as it is."""
    return WORDS[Reason[name.upper()]] if name.upper() in Reason.__members__ else name


def _number(value: float, digits: int = 1, sign: str = "") -> str:
    """A number of so many decimals, without minus zero."""
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}"
