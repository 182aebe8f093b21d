"""`flyball report`: a recorded run as a page to look at and to print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aggregator.cli.output import Json, app, emit, figures, writable
from aggregator.cli.settling import Prices, instant


@app.command(epilog="Example: flyball report var/run-20261121T080000.000 --prices prices.csv --out report.html")
def report(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")],
    out: Annotated[Path, typer.Option(help="The page; of several products, one beside it for each.")] = Path(
        "report.html"
    ),
    prices: Prices = None,
    product: Annotated[list[str] | None, typer.Option(help="Only this product; may be repeated.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="Only intervals from this time on, ISO 8601.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Only intervals that end by this time, ISO 8601.")] = None,
    json: Json = None,
) -> None:
    """Write a self-contained page: asked and given, corridor, errors, scores, income, reasons, worst minutes."""
    from aggregator.billing import Asked, prepare
    from aggregator.cli.journalling import warn
    from aggregator.compiling import ensure
    from aggregator.journal import Problem
    from aggregator.process import logger
    from aggregator.reporting import reports

    if not (folder / "journal").is_dir():
        raise ValueError(f"FOLDER: {folder} has no journal; give the folder of a run, e.g. var/run-...")
    if not out.parent.is_dir():
        raise ValueError(f"--out {out}: there is no folder {out.parent}; make it first")
    writable(json)
    asked = Asked(prices, None, tuple(product or ()), instant(start, "--from"), instant(end, "--to"))
    prepared = prepare(folder / "journal", asked)
    ensure(logger("report"))  # what is wrong is named before anybody waits for a compiler
    problems: list[Problem] = []
    pages = reports(folder / "journal", asked, problems, prepared)
    warn(problems)
    written: dict[str, str] = {}
    for name, html in pages.items():
        path = out if len(pages) == 1 else out.with_name(f"{out.stem}-{name}{out.suffix}")
        path.write_text(html, encoding="utf-8")
        written[name] = str(path)
    emit(written, json, figures("written", written))
