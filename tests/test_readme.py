"""The README's example is run as it stands, and its commands are ones there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from aggregator.cli import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_there_is_one_example():
    assert len(EXAMPLES) == 1


@pytest.mark.parametrize("source", EXAMPLES)
def test_the_example_runs_and_means_something(source):
    names: dict[str, object] = {}
    exec(compile(source, "README.md", "exec"), names)  # noqa: S102 - our own text
    # The example asserts its own promise; turned round, the same assertion must fail.
    assert "assert" in source
    with pytest.raises(AssertionError):
        exec(compile(source.replace(".sum() - 20.0", ".sum() - 21.0"), "README.md", "exec"), {})  # noqa: S102


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    assert {"run", "test"} <= named
    assert named <= targets
    assert {"run", "test", "check", "bench", "bench-quick", "clean", "lock"} <= targets


@pytest.mark.parametrize("page", ["README.md", "docs/operations.md", "docs/adding-a-product.md", "docs/stability.md"])
def test_commands_and_their_options_exist(page):
    command = get_command(app)
    lines = re.findall(r"^(?:\S+/)?flyball (.+?)\s*(?:#.*)?$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    lines += [
        f"run {options}" for options in re.findall(r'make run ARGS="(.*?)"', (ROOT / page).read_text(encoding="utf-8"))
    ]
    for line in lines:
        found = command
        for word in line.split():
            if hasattr(found, "commands") and word in found.commands:
                found = found.commands[word]
        assert found is not command, line
        known = {option for parameter in found.params for option in parameter.opts}
        assert set(re.findall(r"(?<!\S)--[a-z-]+", line)) <= known, line
