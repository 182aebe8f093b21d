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
