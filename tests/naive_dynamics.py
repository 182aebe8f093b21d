"""Slow, obvious twins of triggers, insensitivity, set-points and protection: they remember every sample and look back.

Written from the rule book (1.2, 3.4, 3.8, 7.1, 8), not from the code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from droop.promises import Protection, Trigger

S_NS = 10**9


@dataclass
class Past:
    """Every sample since the frequency was last lost."""

    samples: list[tuple[int, float]] = field(default_factory=list)

    def since(self, holds) -> int | None:
        """Since when, without a break up to the newest sample, `holds(hz)`; None if not now."""
        first = None
        for t_ns, hz in reversed(self.samples):
            if not holds(hz):
                break
            first = t_ns
        return first


@dataclass
class Sensing:
    """Insensitivity around the operating point."""

    width_hz: float
    ends_hz: tuple[float, float]
    point_hz: float = 0.0

    def feel(self, dev_hz: float) -> float:
        full = dev_hz <= self.ends_hz[0] or dev_hz >= self.ends_hz[1]
        if self.width_hz == 0 or full or round(abs(dev_hz - self.point_hz) - self.width_hz, 9) >= 0:
            self.point_hz = dev_hz
        return self.point_hz


@dataclass
class Step:
    """One threshold of a trigger. armed_ns: from when on it may be pulled; None while it is active"""

    hz: float
    armed_ns: int | None = 0
    active_ns: int = 0


class Pulling:
    """A triggered product, up or down."""

    def __init__(self, trigger: Trigger, up: bool) -> None:
        self.rule, self.sign = trigger, 1 if up else -1
        self.steps = [Step(hz) for hz in (trigger.steps_hz or (trigger.hz,))]
        self.past, self.left, self.last_hz = Past(), 0.0, math.nan

    def _beyond(self, hz: float, limit_hz: float) -> bool:
        return hz <= limit_hz if self.sign > 0 else hz >= limit_hz

    def tick(self, now_ns: int, elapsed_s: float, hz: float | None, lost: bool) -> float:
        """hz : None where time went by without a sample; lost : for longer than it is held"""
        rule = self.rule
        paused = rule.pause_hz > 0 and self._beyond(self.last_hz if hz is None else hz, rule.pause_hz)
        # What stood until now is judged by what was known until now: a sample comes with its own tick.
        if hz is not None:
            self.last_hz = hz
            self.past.samples.append((now_ns, hz))
        elif lost:
            self.past.samples.clear()
        if not paused and self.left > 0:
            down = rule.fall_step_pu
            if math.isfinite(rule.fall_pu_s):
                down = min(down, rule.fall_pu_s * elapsed_s)
            self.left = max(self.left - down, 0.0)
        for step in self.steps:
            if step.armed_ns is not None and now_ns >= step.armed_ns and hz is not None:
                begun = self._passed_since(step)
                if begun is not None and now_ns - begun >= round(rule.after_s * S_NS):
                    step.armed_ns, step.active_ns = None, now_ns
        for step in self.steps:
            if step.armed_ns is None and now_ns - step.active_ns >= round(rule.hold_s * S_NS):
                self._let_go(step, now_ns, hz)
        given = sum(step.armed_ns is None for step in self.steps) / len(self.steps)
        self.left = min(self.left, 1 - given)
        return self.sign * (given + self.left)

    def _passed_since(self, step: Step) -> int | None:
        begun = self.past.since(lambda hz: self._beyond(hz, step.hz))
        # Not armed, it counted nothing: the first sample from there on is where counting begins.
        if begun is not None and begun < step.armed_ns:
            begun = next(t for t, _ in self.past.samples if t >= step.armed_ns)
        return begun

    def _let_go(self, step: Step, now_ns: int, hz: float | None) -> None:
        rule = self.rule
        if rule.release_hz:
            back = self.past.since(lambda value: not self._beyond(value, rule.release_hz))
            if hz is None or back is None or now_ns - back < round(rule.release_s * S_NS):
                return
        counted = now_ns if rule.ready_from == "release" else step.active_ns
        step.armed_ns = counted + round(rule.ready_s * S_NS)
        self.left += 1 / len(self.steps)
        if math.isinf(rule.fall_pu_s):
            self.left = max(self.left - rule.fall_step_pu, 0.0)


def set_point(now_ns: int, until_ns: int, hold_s: float, fade_s: float) -> float:
    """How much of a set-point stands."""
    over_s = (now_ns - until_ns) / S_NS
    if over_s < 0 or over_s <= hold_s:
        return 1.0
    return max(1.0 - (over_s - hold_s) / fade_s, 0.0)


class Disconnecting:
    """The interconnection's protection."""

    def __init__(self, rule: Protection, nominal_hz: float) -> None:
        self.rule, self.nominal_hz = rule, nominal_hz
        self.past: list[tuple[int, float, float]] = []
        self.off, self.trips, self.entered_ns = False, 0, None

    def _for_s(self, now_ns: int, holds) -> float | None:
        first = None
        for t_ns, hz, volt in reversed(self.past):
            if not holds(hz, volt):
                break
            first = t_ns
        return None if first is None else (now_ns - first) / S_NS

    def tick(self, now_ns: int, hz: float | None, volt: float, lost: bool) -> float:
        """Share of the power that may be given. hz : None without a sample"""
        if hz is None:
            if lost:
                self.past.clear()
            return self._share(now_ns)
        self.past.append((now_ns, hz, volt))
        for limit_hz, after_s in self.rule.trips:
            under = limit_hz < self.nominal_hz
            passed = self._for_s(now_ns, lambda f, _, h=limit_hz, u=under: f < h if u else f > h)
            if passed is not None and passed > 0 and passed >= after_s and not self.off:
                self.off, self.entered_ns = True, None
                self.trips += 1
        if self.off:
            inside = self._for_s(now_ns, self._inside)
            if inside is not None and inside >= self.rule.enter_delay_s:
                self.off, self.entered_ns = False, now_ns
        return self._share(now_ns)

    def _inside(self, hz: float, volt: float) -> bool:
        low, high = self.rule.enter_low_pu, self.rule.enter_high_pu or math.inf
        known = not math.isnan(volt)
        return self.rule.enter_low_hz <= hz <= self.rule.enter_high_hz and not (known and not low <= volt <= high)

    def _share(self, now_ns: int) -> float:
        if self.off:
            return 0.0
        if self.entered_ns is None:
            return 1.0
        gone_s = (now_ns - self.entered_ns) / S_NS
        return min(gone_s / self.rule.enter_ramp_s, 1.0) if self.rule.enter_ramp_s else 1.0
