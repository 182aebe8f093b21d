"""Options that say which fleet: one that is drawn, a fleet file, recorded sessions, or a fitted model."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Final

import typer

Vehicles = Annotated[int | None, typer.Option(min=1, max=2_000_000, help="Chargers in the simulated fleet; 1000.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of the fleet; 1.")]
Perfect = Annotated[bool, typer.Option("--perfect", help="Chargers without delay, loss or refusal.")]
FleetFile = Annotated[
    Path | None,
    typer.Option(help="Fleet file with a [fleet] table, model of `fleet fit`, or recorded sessions."),
]
SessionsSite = Annotated[str | None, typer.Option(help="One site of the recorded sessions.")]
SessionsShift = Annotated[
    str | None, typer.Option(help="Move sessions over the trace: auto, none, or the ISO date its first day shows.")
]
# Keys of the table that name files: in a fleet file they are meant from its own folder.
FILES: Final = ("sessions", "generator", "cars", "tariff")


def keys_of(fleet: Path | None, **options: Any) -> dict[str, Any]:
    """A fleet file, and options on top of it, as overrides of the configuration (`config.load`).

    options : by the names of the table's keys; None: not given

    Raises FleetError.
    """
    found: dict[str, Any] = {} if fleet is None else _of_file(fleet)
    given = {name: value for name, value in options.items() if value is not None}
    return {f"fleet__{name}": value for name, value in (found | given).items()}


def _of_file(path: Path) -> dict[str, Any]:
    from aggregator.fleets.composing import BUILTIN
    from aggregator.fleets.errors import FleetError

    if str(path) == BUILTIN:
        return {"generator": BUILTIN}
    if path.suffix.lower() != ".toml":
        return {"sessions": path}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FleetError(f"--fleet {path}: cannot be read ({error}); give a TOML file or recorded sessions") from None
    if "model" in table:
        return {"generator": path}
    keys = table.get("fleet")
    if not isinstance(keys, dict) or set(table) != {"fleet"}:
        raise FleetError(f"--fleet {path}: takes a [fleet] table and nothing else; the rest belongs to --config")
    for name in FILES:
        if isinstance(keys.get(name), str) and keys[name] != BUILTIN:
            keys[name] = path.parent / keys[name]
    return keys
