"""`flyball products`, `flyball respond`: questions that need no fleet."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from aggregator.cli.output import Json, app, emit, figures

products_app = typer.Typer(help="The market products.", invoke_without_command=True, rich_markup_mode=None)
app.add_typer(products_app, name="products")


def _plain(product: Any) -> dict[str, Any]:
    """Every figure, the unlimited ones as null: JSON has no infinity."""
    plain = asdict(product)
    plain["curve"] = [list(point) for point in zip(product.curve_hz, product.curve_frac, strict=True)]
    return _finite(plain)


def _finite(plain: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _finite(value) if isinstance(value, dict) else None if value == float("inf") else value
        for key, value in plain.items()
    }


@products_app.callback(epilog="Example: flyball products --json -")
def products(context: typer.Context, json: Json = None) -> None:
    """List the products in the catalogue."""
    if context.invoked_subcommand is not None:
        return
    from droop.products import catalogue

    rows = list(catalogue().values())
    table = Table()
    table.add_column("id", no_wrap=True)
    for heading in ("title", "area", "Hz", "direction", "confidence"):
        table.add_column(heading)
    for p in rows:
        table.add_row(p.id, p.title, p.area, f"{p.nominal_hz:g}", p.direction, p.confidence)
    emit([_plain(p) for p in rows], json, table)


@products_app.command("show", epilog="Example: flyball products show ce_fcr")
def show(
    product: Annotated[str, typer.Argument(help="An id, or a .toml file of your own.")], json: Json = None
) -> None:
    """Show one product: its curve, its times, its sources."""
    from droop.products import load

    plain = _plain(load(product))
    emit(plain, json, figures(plain["title"], {k: v for k, v in plain.items() if k not in ("curve_hz", "curve_frac")}))


@app.command(epilog="Example: flyball respond ce_fcr 49.95")
def respond(
    product: Annotated[str, typer.Argument(help="An id, or a .toml file of your own.")],
    hz: Annotated[float, typer.Argument(help="Grid frequency [Hz].")],
    json: Json = None,
) -> None:
    """Say which share of the power sold a product calls for at a frequency."""
    from droop.curve import fractions
    from droop.products import load

    found = load(product)
    low, high = 0.9 * found.nominal_hz, 1.1 * found.nominal_hz
    if not low <= hz <= high:
        raise ValueError(f"HZ: {hz:g} is no frequency of a {found.nominal_hz:g} Hz grid; give {low:g}..{high:g}")
    fraction = float(fractions(found.response, [hz - found.nominal_hz])[0])
    emit({"product": found.id, "hz": hz, "fraction": fraction}, json, f"{fraction!r}")
