"""The harnesses of `make fuzz` hold for their seeds and for some thousand mutations of them."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.__main__ import NAMES, mutated
from tests.fuzz.harnesses import HARNESSES

COUNT = {"traces": 60}


def test_every_harness_has_its_name() -> None:
    assert set(NAMES) == set(HARNESSES)


@pytest.mark.parametrize("name", NAMES)
def test_a_harness_takes_its_seeds_and_what_is_made_of_them(name: str) -> None:
    harness, rng = HARNESSES[name], random.Random(7)  # noqa: S311 - no secret
    assert harness.seeds
    for seed in harness.seeds:
        harness.take(seed)
    for _ in range(COUNT.get(name, 1500)):
        harness.take(mutated(rng, rng.choice(harness.seeds)))
