"""An independent little charger: what it is told, when it listens, what its meter says. Nothing of ours is imported."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass
class Charger:
    """Dead time, then a ramp, times a gain; a meter with noise; spells in which it acknowledges and does nothing."""

    rng: random.Random
    dead_s: float = 0.3
    ramp_kw_s: float = 1e9
    gain: float = 1.0
    noise_frac: float = 0.01
    deaf: tuple[tuple[float, float], ...] = ()
    told: list[tuple[float, float]] = field(default_factory=list)
    power: float = 0.0
    at: float = 0.0

    def hear(self, t: float, setpoint_kw: float) -> None:
        if not any(a <= t < b for a, b in self.deaf):
            self.told.append((t, setpoint_kw))

    def run(self, t: float) -> None:
        """In steps of 50 ms towards what it was told a dead time ago."""
        while self.at + 0.05 <= t + 1e-9:
            self.at += 0.05
            heard = [p for s, p in self.told if s + self.dead_s <= self.at]
            self.told = self.told[max(len(heard) - 1, 0) :]
            goal = self.gain * heard[-1] if heard else 0.0
            if any(a <= self.at < b for a, b in self.deaf):
                goal = 0.0
            step = self.ramp_kw_s * 0.05
            self.power += min(max(goal - self.power, -step), step)

    def meter(self) -> float:
        return self.power * (1 + self.noise_frac * self.rng.gauss(0, 1)) + 0.01 * self.rng.gauss(0, 1)


S_NS = 1_000_000_000


@dataclass
class Told:
    """What one charger was told, and what its report says; powers at the grid [kW], times [ns].

    before : the report before this one; told_kw : the set-point; the rest as the fleet's columns
    """

    measured_kw: float
    t_ns: int
    before_kw: float
    before_ns: int
    command_kw: float
    told_kw: float
    from_kw: float
    past_lo_kw: float
    past_hi_kw: float
    sent_ns: int
    valid_until_ns: int
    rating_kw: float


@dataclass
class Believer:
    """What is believed of one charger; `hear` is one report. The rules, written out case by case."""

    gain_up: float = 1.0
    gain_dn: float = 1.0
    dead_s: float = 0.0
    misses: int = 0
    refused_ns: int = 0
    tolerance_kw: float = 0.3
    tolerance_frac: float = 0.05
    most_misses: int = 5
    retry_ns: int = 900 * S_NS

    def hear(self, told: Told) -> None:
        if self.refused_ns > 0:
            # Left out: nothing is learned, until it is tried again.
            if told.t_ns >= self.refused_ns + self.retry_ns:
                self.misses = self.refused_ns = 0
            return
        never = told.sent_ns == 0
        from_before = told.t_ns < told.sent_ns
        ended = told.t_ns >= told.valid_until_ns
        if never or from_before or ended or told.rating_kw <= 0:
            return
        since_s = (told.t_ns - told.sent_ns) / S_NS
        settled = since_s >= max(3.0, 3.0 * self.dead_s)
        answers = [told.command_kw] if settled else [told.command_kw, told.past_lo_kw, told.past_hi_kw]
        explained = self.explained(told, answers)
        if not explained and not self.held_back(told, answers):
            self.misses = min(self.misses + 1, 255)
            away = [min(answers) - told.measured_kw, told.measured_kw - max(answers)]
            if self.misses >= self.most_misses and max(away) > 0.2 * told.rating_kw:
                self.refused_ns = told.t_ns
            return
        self.misses = 0
        crossed_s = self.half_way_s(told)
        if explained and crossed_s is not None and abs(told.command_kw - told.from_kw) > 0.2 * told.rating_kw:
            learned = crossed_s if self.dead_s == 0 else 0.8 * self.dead_s + 0.2 * crossed_s
            self.dead_s = min(learned, 30.0)
        stands_still = abs(told.measured_kw - told.before_kw) <= 0.02 * told.rating_kw
        if settled and stands_still and abs(told.told_kw) >= 0.2 * told.rating_kw:
            if told.told_kw > 0:
                self.gain_up = self.learned(self.gain_up, told)
            else:
                self.gain_dn = self.learned(self.gain_dn, told)

    @staticmethod
    def learned(gain: float, told: Told) -> float:
        """A tenth of what is seen; where a set-point made up for a half only, of what it would have been in full."""
        believed = 1.0 if 0.98 <= gain <= 1.02 else min(max(gain, 0.1), 1.1)
        asked = told.told_kw * (0.5 / believed if believed < 0.5 else 1.0)
        return min(max(0.9 * gain + 0.1 * told.measured_kw / asked, 0.1), 1.1)

    def acted_on(self, power: float) -> float:
        """The gain that a set-point makes up for, of the direction of a power."""
        gain = self.gain_up if power > 0 else self.gain_dn
        return 1.0 if 0.98 <= gain <= 1.02 else min(max(gain, 0.5), 1.1)

    def tolerance(self, told: Told) -> float:
        return max(self.tolerance_kw, self.tolerance_frac * told.rating_kw)

    def explained(self, told: Told, answers: list[float]) -> bool:
        """Whether some gain from a half to 1.1 of some set-point between the answers gives what was measured."""
        ends = min(answers), max(answers)
        corners = [power / self.acted_on(power) * gain for power in ends for gain in (0.5, 1.1)]
        # Between answers of one sign nothing nearer to zero than half of the smaller is explained.
        return min(corners) - self.tolerance(told) <= told.measured_kw <= max(corners) + self.tolerance(told)

    def held_back(self, told: Told, answers: list[float]) -> bool:
        """Whether it goes the way of all answers, clearly, and less far than any."""
        if min(answers) > 0:
            nearest, done = min(answers), told.measured_kw
        elif max(answers) < 0:
            nearest, done = -max(answers), -told.measured_kw
        else:
            return False
        return max(self.tolerance(told), 0.1 * nearest) < done < nearest

    @staticmethod
    def half_way_s(told: Told) -> float | None:
        """When after the command the power passed the middle of its step, on a straight line between two reports."""
        step = told.command_kw - told.from_kw
        if step == 0:
            return None
        begun_ns, begun = told.sent_ns, 0.0
        if told.before_ns > told.sent_ns:
            begun_ns, begun = told.before_ns, min(max((told.before_kw - told.from_kw) / step, 0.0), 1.0)
        ended = min((told.measured_kw - told.from_kw) / step, 1.0)
        if told.t_ns <= begun_ns or begun >= 0.5 or ended < 0.5:
            return None
        part = (0.5 - begun) / (ended - begun)
        return (begun_ns - told.sent_ns) / S_NS + part * (told.t_ns - begun_ns) / S_NS
