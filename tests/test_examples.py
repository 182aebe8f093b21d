"""The examples of the documents run as they stand, each block by itself, and hold what they assert."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("docs/python.md", "docs/studies.md")
BLOCKS = [
    pytest.param(source, id=f"{page}-{number}")
    for page in PAGES
    for number, source in enumerate(
        re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    )
]


def test_there_are_examples() -> None:
    assert len(BLOCKS) >= 5


@pytest.mark.parametrize("source", BLOCKS)
def test_an_example_runs(source: str) -> None:
    assert "assert" in source
    exec(compile(source, "example", "exec"), {})  # noqa: S102 - our own text
