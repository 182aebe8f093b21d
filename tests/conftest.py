"""What every test leaves as it found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

# Enough to find what breaks, on two cores in minutes; a test that needs more says so itself, and
# `--hypothesis-profile=thorough` takes its time.
settings.register_profile("suite", max_examples=60)
settings.register_profile("thorough", max_examples=1000)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _log_as_ever() -> Iterator[None]:
    """A log set up within a test writes to that test's standard error, which is closed after it."""
    yield
    structlog.reset_defaults()
