"""A trace's options, spread over a command line and gathered again."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
import typer

from aggregator.cli.traceoptions import Reading, with_reading
from telemetry.traces import open_trace

SAID = {
    "--start": "2026-06-22", "--step-s": "0", "--format": "index_hz", "--time-col": "1", "--hz-col": "f",
    "--volt-col": "u,v", "--tz": "UTC", "--site": "north", "--nominal-hz": "60", "--repair": "none",
}  # fmt: skip
FOUND = Reading("2026-06-22", 0.0, "index_hz", "1", "f", "u,v", "UTC", "north", 60.0, "none", True)


def called(*words: str) -> dict[str, Any]:
    """What a command with a trace is called with."""
    app, found = typer.Typer(add_completion=False), {}

    @app.command()
    @with_reading
    def command(
        file: Annotated[str, typer.Argument()], *, reading: Reading, seed: Annotated[int, typer.Option()] = 1
    ) -> None:
        """Of a trace."""
        found.update(file=file, reading=reading, seed=seed)

    app(list(words), standalone_mode=False)
    return found


def test_every_option_arrives_in_its_field():
    words = [word for pair in SAID.items() for word in pair]
    assert called("a.csv", *words, "--skip-bad", "--seed", "3") == {"file": "a.csv", "reading": FOUND, "seed": 3}
    assert called("a.csv") == {"file": "a.csv", "reading": Reading(), "seed": 1}


def test_what_was_said_is_what_is_given():
    assert Reading().given == {}
    assert FOUND.given == FOUND._asdict()  # 0 is something to say
    assert Reading(tz="UTC").given == {"tz": "UTC"}


@pytest.mark.parametrize("name", Reading._fields)
def test_every_field_is_an_option_of_the_reader(name):
    assert name in (open_trace.__kwdefaults__ or {})
