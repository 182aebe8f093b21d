"""What the commands share: the application, where results go, how a failure reads."""

from __future__ import annotations

import math
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import orjson
import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

# What one asks first stands first in the help; the roles of processes and what few need follow.
FIRST: Final = (
    "run", "doctor", "products", "sample", "inspect", "backtest", "compare", "report", "settle", "account", "explain",
    "verify", "bid", "stability", "prequalify", "study", "fleet", "replay", "journal",
)  # fmt: skip


class Ordered(TyperGroup):
    """The commands as a stranger looks for them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, in the order of the help."""
        known = super().list_commands(ctx)
        return [name for name in FIRST if name in known] + [name for name in known if name not in FIRST]


app = typer.Typer(
    name="flyball",
    cls=Ordered,
    help="Frequency regulation with electric-vehicle fleets: hertz in, vehicles moved, delivery scored.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"flyball {metadata.version('flyball')}")
        raise typer.Exit


@app.callback()
def flyball(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,
) -> None:
    """Frequency regulation with electric-vehicle fleets: hertz in, vehicles moved, delivery scored."""
    del version  # told by its callback


Json = Annotated[
    str | None, typer.Option("--json", metavar="PATH|-", help="Write the result as one JSON document; - for stdout.")
]

console = Console(stderr=True)
PRETTY = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def emit(result: Any, path: str | None, shown: Table | str | None = None) -> None:
    """The result where it was asked for: as JSON, or as text for people."""
    if path == "-":
        sys.stdout.buffer.write(orjson.dumps(result, option=PRETTY) + b"\n")
        return
    if path is not None:
        Path(path).write_bytes(orjson.dumps(result, option=PRETTY) + b"\n")
    if shown is not None:
        terminal = Console()
        # A pipe has no width to keep to; cut columns could not be read by anyone.
        (terminal if terminal.is_terminal else Console(width=200)).print(shown, soft_wrap=True)


def writable(path: str | None, option: str = "--json") -> None:
    """Refuse a result's path that could not be written, before the work is done. Raises ValueError."""
    if path in (None, "-"):
        return
    place = Path(str(path))
    if place.is_dir() or not place.absolute().parent.is_dir():
        raise ValueError(f"{option} {path}: no such folder to write a file in; make it, or give another path")


def figures(title: str, rows: dict[str, Any]) -> Table:
    """A table of names and values."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in rows.items():
        table.add_row(name, text(value))
    return table


def text(value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {text(item)}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(text(item) for item in value) or "none"
    return str(value)


def fail(message: str, code: int = 2) -> NoReturn:
    """One line on standard error, and out."""
    print(f"flyball: {message}", file=sys.stderr)
    raise SystemExit(code)
