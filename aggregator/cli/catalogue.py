"""`flyball products`, `flyball respond`: questions that need no fleet."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from aggregator.cli.output import Json, app, emit, text, writable

products_app = typer.Typer(help="The market products.", invoke_without_command=True, rich_markup_mode=None)
app.add_typer(products_app, name="products")

PIPE_WIDTH = 100
DIRECTIONS = ("up", "down", "symmetric")


def _plain(product: Any) -> dict[str, Any]:
    """Every figure, the unlimited ones as null: JSON has no infinity."""
    plain = asdict(product)
    plain["curve"] = [list(point) for point in zip(product.curve_hz, product.curve_frac, strict=True)]
    found: dict[str, Any] = _finite(plain)
    return found


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and math.isinf(value) else value


@products_app.callback(epilog="Example: flyball products --area GB --date 2026-06-22 --json -")
def products(
    context: typer.Context,
    area: Annotated[str | None, typer.Option(help="Only of this area or market, e.g. CE, GB, PJM.")] = None,
    direction: Annotated[str | None, typer.Option(help="Only up, down or symmetric.")] = None,
    day: Annotated[
        str | None, typer.Option("--date", metavar="ISO", help="Only what is sold on this day, e.g. 2026-06-22.")
    ] = None,
    json: Json = None,
) -> None:
    """List the products in the catalogue.

    Confidence: V read in the primary document, V2 in a secondary one, D derived, M from memory.
    """
    if context.invoked_subcommand is not None:
        return
    from droop.products import catalogue, valid_on

    rows = list(catalogue().values())
    if area is not None:
        areas = sorted({p.area for p in rows})
        rows = [p for p in rows if p.area.lower() == area.lower()]
        if not rows:
            raise ValueError(f"--area {area}: no product of it; known: {', '.join(areas)}")
    if direction is not None:
        if direction not in DIRECTIONS:
            raise ValueError(f"--direction {direction}: give {', '.join(DIRECTIONS)}")
        rows = [p for p in rows if p.direction == direction]
    if day is not None:
        on = _day(day)
        rows = [p for p in rows if valid_on(p, on)]
    table = Table(caption="confidence: V primary document, V2 secondary, D derived, M from memory", show_edge=False)
    table.add_column("id", no_wrap=True)
    for heading in ("title", "area", "Hz", "direction", "answers to", "valid", "confidence"):
        table.add_column(heading)
    for p in rows:
        table.add_row(
            p.id, p.title, p.area, f"{p.nominal_hz:g}", p.direction,
            f"signal, {p.signal_s:g} s" if p.input == "signal" else "a threshold" if p.trigger else "frequency",
            _validity(p), _confidence(p),
        )  # fmt: skip
    emit([_plain(p) for p in rows], json, table)


def _day(value: str) -> date:
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError(f"--date {value}: give a day as 2026-01-31") from None


def _validity(product: Any) -> str:
    first, last = product.effective_from, product.effective_to
    return " ".join(part for part in (first and f"from {first}", last and f"until {last}") if part)


def _confidence(product: Any) -> str:
    """The whole's mark, and which others single figures have."""
    others = sorted(set(product.marks.values()) - {product.confidence})
    return str(product.confidence) + (f" ({', '.join(others)} in part)" if others else "")


@products_app.command("show", epilog="Example: flyball products show ce_fcr --plot ce_fcr.html")
def show(
    product: Annotated[str, typer.Argument(help="An id, another name of it, or a .toml file of your own.")],
    plot: Annotated[Path | None, typer.Option(help="HTML file to draw the curve into; needs no network.")] = None,
    json: Json = None,
) -> None:
    """Show one product: its curve, every figure with its confidence, its sources."""
    from droop.products import load

    writable(json)
    if plot is not None:
        writable(str(plot), "--plot")
    found = load(product)
    if plot is not None:
        from aggregator import productpage  # a second of import for those who want the page
        from aggregator.curvetext import figures

        productpage.write(plot, found, {one.name: _shown(one.value) for one in figures(found)})
    emit(_plain(found), json)
    if json != "-":
        _print(found)


def _shown(value: Any) -> str:
    """A figure as people read it, points set apart."""
    points = isinstance(value, list) and bool(value) and isinstance(value[0], list)
    return "  ".join(f"({text(point)})" for point in value) if points else text(value)


def _print(product: Any) -> None:
    from aggregator.curvetext import MEANING, drawing, figures

    terminal = Console()
    shown = terminal if terminal.is_terminal else Console(width=PIPE_WIDTH)
    table = Table(show_edge=False)
    table.add_column("figure", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("confidence")
    for name, value, mark in figures(product):
        table.add_row(name, _shown(value), mark)
    marks = {product.confidence, *product.marks.values()}
    words = ["Sources: " + "; ".join(product.sources), *product.notes]
    words.append("Confidence: " + "; ".join(f"{mark} {MEANING[mark]}" for mark in MEANING if mark in marks))
    if product.confidence == "M" or "M" in marks:
        words.append("Figures marked M are parameters to check, no claim of conformity.")
    if product.aliases:
        words.append(f"Also asked for as {', '.join(product.aliases)}.")
    head = Text(f"{product.title} ({product.id}), {product.area}, {_validity(product) or 'validity open'}\n")
    shown.print(Group(head, drawing(product, shown.width), table, Text("\n" + "\n".join(words))))


@app.command(epilog="Example: flyball respond ce_fcr 49.95")
def respond(
    product: Annotated[str, typer.Argument(help="An id, another name of it, or a .toml file of your own.")],
    hz: Annotated[float | None, typer.Argument(help="Grid frequency [Hz]; of a product on frequency.")] = None,
    signal: Annotated[
        float | None, typer.Option(help="The utility's signal, -1 to 1; of a product on a signal.")
    ] = None,
    json: Json = None,
) -> None:
    """Say which share of the power sold a product calls for, at a frequency or a signal."""
    from droop.curve import fractions
    from droop.products import load

    found = load(product)
    given: dict[str, float]
    if found.input == "signal":
        if hz is not None or signal is None:
            raise ValueError(f"HZ: {found.id} follows a signal, not the frequency in hz; give --signal -1..1 instead")
        if not -1.0 <= signal <= 1.0:
            raise ValueError(f"--signal {signal:g}: give a share of the power sold, -1..1")
        given, at = {"signal": signal}, signal
    else:
        if signal is not None or hz is None:
            raise ValueError(f"HZ: {found.id} answers to frequency; give it in hz, and no --signal")
        low, high = 0.9 * found.nominal_hz, 1.1 * found.nominal_hz
        if not low <= hz <= high:
            raise ValueError(f"HZ: {hz:g} is no frequency of a {found.nominal_hz:g} Hz grid; give {low:g}..{high:g}")
        given, at = {"hz": hz}, hz - found.nominal_hz
    fraction = float(fractions(found.response, [at])[0])
    emit({"product": found.id, **given, "fraction": fraction}, json, f"{fraction!r}")
