"""Slow twin of a run's results: written from a record of every second, vehicle by vehicle, nothing of ours imported.

For chargers without dead time, ramp or loss: what they do in a second is what they have at its end. Energies in kWh,
powers in kW, positive into the grid; times in whole seconds.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Second:
    """What was so at the end of a second. Of each charger: session, 0 where no car is; power; energy aboard."""

    t_s: int
    session: Sequence[int]
    power_kw: Sequence[float]
    energy_kwh: Sequence[float]
    usable_kwh: Sequence[float]
    told: Sequence[tuple[int, int, float]] = ()  # (charger, session, kW) set-points of the decision made then


@dataclass
class Stay:
    """One car's."""

    first_s: int
    last_s: int
    up_kwh: float = 0.0
    down_kwh: float = 0.0
    reversals: int = 0
    commands: int = 0
    signs: list[int] = field(default_factory=list)
    soc: list[float] = field(default_factory=list)  # at whole minutes
    energy_kwh: float = 0.0


def stays(record: Sequence[Second]) -> dict[tuple[int, int], Stay]:
    """By (charger, session)."""
    found: dict[tuple[int, int], Stay] = {}
    for second in record:
        for slot, session in enumerate(second.session):
            if session == 0:
                continue
            stay = found.setdefault((slot, session), Stay(second.t_s, second.t_s))
            stay.last_s = second.t_s
            power = second.power_kw[slot]
            stay.up_kwh += max(power, 0.0) / 3600.0
            stay.down_kwh += max(-power, 0.0) / 3600.0
            if power != 0.0:
                stay.signs.append(1 if power > 0.0 else -1)
            stay.energy_kwh = second.energy_kwh[slot]
            if second.t_s % 60 == 0:
                stay.soc.append(second.energy_kwh[slot] / second.usable_kwh[slot])
        for slot, session, _ in second.told:
            found.setdefault((slot, session), Stay(second.t_s, second.t_s)).commands += 1
    for stay in found.values():
        stay.reversals = sum(1 for a, b in zip(stay.signs, stay.signs[1:], strict=False) if a != b)
    return found


def moved_kwh(record: Sequence[Second], from_s: int, to_s: int) -> float:
    """By all chargers, either way, in the seconds that end in (from, to]."""
    inside = (second for second in record if from_s < second.t_s <= to_s)
    return sum(abs(power) for second in inside for power in second.power_kw) / 3600.0


def asked_kwh(
    hz: Sequence[float], nominal_hz: float, deadband_hz: float, full_hz: float, sold_kw: float
) -> tuple[float, float]:  # fmt: skip
    """Up and down, of one row a second: all at `full_hz`, proportional below, nothing within the dead band."""
    up = down = 0.0
    for value in hz:
        dev = value - nominal_hz
        if abs(dev) < deadband_hz:
            continue
        kw = -sold_kw * max(-1.0, min(1.0, dev / full_hz))
        up += max(kw, 0.0) / 3600.0
        down += max(-kw, 0.0) / 3600.0
    return up, down


def gaps(t_ns: Sequence[int], period_ns: int) -> list[tuple[int, int]]:
    """(last row before it, missing beyond one period) where more than half a period is missing."""
    return [
        (a, b - a - period_ns) for a, b in itertools.pairwise(t_ns) if b - a > 1.5 * period_ns
    ]  # fmt: skip


def rejected(quality: Sequence[int], bits: dict[str, int]) -> dict[str, int]:
    """Rows by mark; a row with two counts under both."""
    counts = {name: sum(1 for mark in quality if mark & bit) for name, bit in bits.items()}
    return {name: count for name, count in counts.items() if count}
