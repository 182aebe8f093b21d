"""Fleets small enough to check by hand, and the way from a twin's vehicles to the engine's columns."""

# ruff: noqa: S311 - seeded cases, not secrets
from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from droop.fleet import Fleet, allocate
from tests import naive

NOW = 1_700_000_000_000_000_000


def columns(cars: Sequence[naive.Car]) -> Fleet:
    """The engine's columns for the twin's vehicles; powers are rounded to what float32 holds on both sides."""
    fleet = allocate(len(cars))
    for row, car in enumerate(cars):
        for name in car.__dataclass_fields__:
            column = getattr(fleet, name)
            if column.dtype == np.float32:
                setattr(car, name, float(np.float32(getattr(car, name))))
            column[row] = getattr(car, name)
    return fleet


@pytest.fixture(scope="session")
def as_fleet() -> Callable[[Sequence[naive.Car]], Fleet]:
    return columns


@pytest.fixture
def cars(request: pytest.FixtureRequest) -> list[naive.Car]:
    """64 vehicles in every state, from the seed in the test's parameter."""
    rng = random.Random(getattr(request, "param", 1))
    return [naive.some_car(rng, NOW) for _ in range(64)]
