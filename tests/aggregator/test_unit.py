"""The simulated unit's pace, in virtual time: its next life and its neighbour show the same grid at the same time."""

from __future__ import annotations

from typing import Any

import pytest

from aggregator import unit
from aggregator.config import UnitTable
from aggregator.unit import Playing
from telemetry.generator import Generator

S = 1_000_000_000
BEGIN_NS = 1_764_000_000 * S
RATE_HZ = 20.0


class World:
    """A clock that goes on only while somebody waits, a server that remembers, and an end."""

    host, port = "127.0.0.1", 1

    def __init__(self, now_s: float, lasts_s: float) -> None:
        self.now_s, self.end_s = now_s, now_s + lasts_s
        self.shown: list[tuple[int, float]] = []
        self.stalls: dict[int, float] = {}  # after so many samples the process stands still so long

    def time_ns(self) -> int:
        return BEGIN_NS + round(self.now_s * S)

    def monotonic(self) -> float:
        return 77.0 + self.now_s

    def wait(self, seconds: float) -> bool:
        self.now_s += seconds
        return bool(self)

    def __bool__(self) -> bool:
        return self.now_s >= self.end_s

    def publish(self, t_ns: int, hz: float, *_: object) -> None:
        self.shown.append((t_ns, hz))
        self.now_s += self.stalls.get(len(self.shown), 0.0)

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def info(self, *_: Any, **__: Any) -> None:
        pass


def played(monkeypatch: pytest.MonkeyPatch, world: World, **playing: Any) -> list[tuple[int, float]]:
    monkeypatch.setattr(unit, "time", world)
    monkeypatch.setattr(unit, "make_unit", lambda *_, **__: world)
    table = UnitTable(rate_hz=RATE_HZ, trip_every_s=1e9)
    unit.serve(table, Playing(50.0, **playing), world, world)  # type: ignore[arg-type]
    return world.shown


def true_hz(t_ns: int) -> float:
    return Generator(50.0, RATE_HZ, 1, 1e9).sample(round((t_ns - BEGIN_NS) / S * RATE_HZ)).hz


def test_a_life_begins_with_what_is_true_now(monkeypatch: pytest.MonkeyPatch) -> None:
    for begin_s in (0.0, 3.0, 61.02):
        shown = played(monkeypatch, World(begin_s, 2.0), begun_ns=BEGIN_NS)
        assert 39 <= len(shown) <= 41
        assert all(hz == true_hz(t_ns) for t_ns, hz in shown)
        assert 0 <= shown[0][0] - BEGIN_NS - begin_s * S <= S / RATE_HZ


def test_by_itself_it_begins_with_its_first_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = played(monkeypatch, World(500.0, 1.0))
    assert shown[0] == (BEGIN_NS + 500 * S, Generator(50.0, RATE_HZ, 1, 1e9).sample(0).hz)


def test_a_unit_that_stood_still_does_not_tell_the_past_as_now(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(0.0, 10.0)
    world.stalls = {20: 5.0}
    shown = played(monkeypatch, world, begun_ns=BEGIN_NS)
    assert all(hz == true_hz(t_ns) for t_ns, hz in shown)
    assert 95 <= len(shown) <= 102  # those of the five seconds are not made up for
    # A short delay is made up for: no sample is missing.
    world = World(0.0, 10.0)
    world.stalls = {20: 0.3}
    assert 200 <= len(played(monkeypatch, world, begun_ns=BEGIN_NS)) <= 201
