"""`flyball settle`: the settlement process, and with a folder a recorded run settled, priced and exported again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aggregator.cli.output import Json, app, emit, figures, writable
from aggregator.cli.processes import Config, run_role

if TYPE_CHECKING:
    from aggregator.billing import Settled
    from aggregator.journal import Problem

Prices = Annotated[
    Path | None, typer.Option("--prices", help="File of prices (CSV, JSON, Parquet): what it earned, too.")
]


@app.command(epilog="Example: flyball settle var/run-20261121T080000.000 --prices prices.csv --out bill")
def settle(
    folder: Annotated[Path | None, typer.Argument(help="A run's folder to settle again from its files.")] = None,
    config: Config = None,
    prices: Prices = None,
    contracts: Annotated[
        Path | None, typer.Option(help="File of contracts: what was sold when; otherwise what the run sold.")
    ] = None,
    product: Annotated[list[str] | None, typer.Option(help="Only this product; may be repeated.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="Only intervals from this time on, ISO 8601.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Only intervals that end by this time, ISO 8601.")] = None,
    late_messages: Annotated[int, typer.Option(min=0, help="Allocation messages that came late: a fee each.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for the files; corrects an earlier bill in it.")] = None,
    format: Annotated[str, typer.Option(help="Of the files: csv, parquet or json.")] = "csv",
    nordic: Annotated[
        str | None, typer.Option(metavar="RESOURCE:AREA", help="Nordic data files as well, e.g. FCPG1:SE3.")
    ] = None,
    json: Json = None,
) -> None:
    """Follow the journal and settle it; with FOLDER, settle a recorded run again from its files alone."""
    if folder is None:
        if any((prices, contracts, product, start, end, late_messages, out, nordic)):
            raise ValueError("FOLDER is missing; give the folder of a run, e.g. var/run-...")
        run_role("settle", config)
        return
    import time

    from aggregator import billing, exporting, sealing_bill, sharing
    from aggregator import nordic as nordic_files
    from aggregator.cli.journalling import warn
    from aggregator.compiling import ensure
    from aggregator.process import logger

    if not (folder / "journal").is_dir():
        raise ValueError(f"FOLDER: {folder} has no journal; give the folder of a run, e.g. var/run-...")
    writable(json)
    asked = billing.Asked(
        prices, contracts, tuple(product or ()), instant(start, "--from"), instant(end, "--to"), late_messages
    )
    resource = _resource(nordic, out)
    if out is not None:
        exporting.check(out, format)
    prepared = billing.prepare(folder / "journal", asked)
    if resource is not None:
        nordic_files.check(prepared.wanted, *resource)
    ensure(logger("settle"))  # what is wrong is named before anybody waits for a compiler
    problems: list[Problem] = []
    settled = billing.settle(folder / "journal", asked, problems, prepared)
    warn(problems)
    told: dict[str, Any] = {}
    if out is not None:
        attributions, sites = sharing.shared(folder / "journal", settled, problems)
        beside = _nordic(folder, settled, resource)
        if attributions:
            rows = list(sharing.vehicle_rows(attributions, sites))
            beside[f"vehicles.{format}"] = exporting.table(rows, format)
        told = exporting.export(out, format, settled, beside)
        told |= sealing_bill.seal_bill(folder, settled, time.time_ns())
    _tell(settled, told, json)


def _tell(settled: Settled, told: dict[str, Any], json: str | None) -> None:
    """The result: statements alone as a list, as ever; with prices or files, a document of both."""
    from aggregator.billing import line_rows, summary

    rows = [statement.to_dict() for statement in settled.statements]
    document: Any = rows
    if settled.bill is not None:
        lines = [{name: _plain(value) for name, value in row.items()} for row in line_rows(settled.bill)]
        document = {"statements": rows, "lines": lines, "income": summary(settled.bill), **told}
    elif told:
        document = {"statements": rows, **told}
    if isinstance(document, dict):
        document["corrected"] = settled.corrected
    emit(document, json)
    if json is not None:
        return
    for row in rows:
        again = f", revision {row['revision']}" if row["revision"] else ""
        emit(row, None, figures(row["key"] + again, row))
    if settled.corrected:
        emit(None, None, figures("corrected", {"intervals settled more than once": settled.corrected}))
    if settled.bill is not None:
        found = summary(settled.bill)
        totals = {f"{row['product']} [{row['currency']}]": row["amount"] for row in found["totals"]}
        notes = {f"note {number}": note for number, note in enumerate(found["notes"], 1)}
        marks = {"rules by confidence": ", ".join(found["marks"])}
        emit(None, None, figures("income", totals | marks | notes))


def _plain(value: Any) -> Any:
    """Decimals as texts that keep their digits."""
    from decimal import Decimal

    return format(value, "f") if isinstance(value, Decimal) else value


def instant(text: str | None, option: str) -> int | None:
    """A time given on the command line [ns]; ValueError names the option."""
    from settlement import calendar

    if text is None:
        return None
    try:
        return calendar.instant(text).t_ns
    except calendar.CalendarError as error:
        raise ValueError(f"{option}: {error}") from error


def _resource(nordic: str | None, out: Path | None) -> tuple[str, str] | None:
    if nordic is None:
        return None
    resource, colon, area = nordic.partition(":")
    if out is None or not (resource and colon and area):
        raise ValueError(f"--nordic {nordic}: takes RESOURCE:AREA, e.g. FCPG1:SE3, and goes with --out")
    return resource, area


def _nordic(folder: Path, settled: Settled, resource: tuple[str, str] | None) -> dict[str, bytes]:
    from aggregator import nordic

    if resource is None:
        return {}
    return dict(nordic.files(folder / "journal", settled.statements, settled.products, *resource))
