"""What every test leaves as it found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _log_as_ever() -> Iterator[None]:
    """A log set up within a test writes to that test's standard error, which is closed after it."""
    yield
    structlog.reset_defaults()
