"""The journal's writer killed at any byte, and disks that do not take what is written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aggregator import journal_reader
from aggregator.journal import Kind
from aggregator.journal_files import JournalWriter
from aggregator.journal_parts import survey
from tests.aggregator import journal_victim as victim

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wrecked(tmp_path_factory):
    """(folder of journals, what the rounds came to)"""
    folder = tmp_path_factory.mktemp("wrecks")
    done = subprocess.run(
        [sys.executable, "-m", "tests.aggregator.journal_victim", str(folder), "70", "4"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, json.loads(done.stdout)


def test_killed_at_any_byte_nothing_is_lost_and_nothing_doubled(wrecked):
    """Each writer checked what the kill before it had left; the journals that were finished are whole."""
    folder, told = wrecked
    assert told["killed"] >= 30
    assert told["journals"] >= 3
    wanted = victim.expected()
    assert [entry.kind for entry in wanted].count(Kind.GAP) == len(victim.HOLES)
    for number in range(told["journals"]):
        problems: list = []
        assert list(journal_reader.entries(folder / str(number), problems=problems)) == wanted
        assert problems == []


def test_what_kills_leave_is_removed_and_nothing_else(wrecked):
    folder, told = wrecked
    for number in range(told["journals"]):
        home = folder / str(number)
        JournalWriter(home)
        parts = survey(home).parts
        ours = {part.manifest for part in parts} | {part.table(name) for part in parts for name in part.tables}
        assert {path for path in home.rglob("*") if path.is_file()} == ours
        assert survey(home).leftover == []
