"""`flyball account`: what a vehicle earned and why, from a run's journal."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aggregator.cli.journalling import warn
from aggregator.cli.output import Json, app, emit, writable
from aggregator.cli.settling import Prices

if TYPE_CHECKING:
    from aggregator.billing import Settled
    from aggregator.journal import Problem

Moment = Annotated[str | None, typer.Option(metavar="ISO", help="From (or up to) this time, e.g. 2026-11-21T08:00Z.")]


@app.command(epilog="Example: flyball account EV-000042 --journal var/run-20261121T080000.000 --json -")
def account(
    vehicle: Annotated[str, typer.Argument(help="A vehicle, by the name its charger gave.")],
    journal: Annotated[Path, typer.Option(help="A run's folder, or its journal.")],
    amounts: Annotated[
        Path | None, typer.Option(help="JSON of the pool's amounts by product and interval, to share out.")
    ] = None,
    prices: Prices = None,
    start: Moment = None,
    end: Moment = None,
    json: Json = None,
) -> None:
    """Say what a vehicle was asked, gave, held available and earned, and why it fell short where it did."""
    from aggregator import sharing, vehiclebook
    from settlement.driver import statement

    writable(json)
    place = journal / "journal" if (journal / "journal").is_dir() else journal
    if not place.is_dir():
        raise ValueError(f"--journal: {journal} is no folder; give that of a run, e.g. var/run-...")
    if amounts is not None and prices is not None:
        raise ValueError("--amounts and --prices: give one of them")
    first_ns, last_ns = _ns("--start", start), _ns("--end", end)
    problems: list[Problem] = []
    if prices is not None:
        settled = _settled(place, prices, first_ns, last_ns, problems)
        pots = sharing.pots(settled)
    else:
        pots = [] if amounts is None else vehiclebook.pots(_bytes(amounts), str(amounts))
    rows, sites = sharing.accounts(place, first_ns, last_ns, problems)
    warn(problems)
    found = statement(vehicle, rows, vehiclebook.attributed(pots, rows), sites)
    emit(found, json, "\n".join(found["sentences"]))


def _settled(place: Path, prices: Path, start_ns: int | None, end_ns: int | None, problems: list[Problem]) -> Settled:
    """The run settled and priced."""
    from aggregator import billing
    from aggregator.compiling import ensure
    from aggregator.process import logger

    asked = billing.Asked(prices, start_ns=start_ns, end_ns=end_ns)
    prepared = billing.prepare(place, asked)
    ensure(logger("account"))
    return billing.settle(place, asked, problems, prepared)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"--amounts {path}: cannot be read: {error.strerror}") from None


def _ns(option: str, text: str | None) -> int | None:
    """An ISO 8601 time; without a zone it is UTC."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{option} {text}: takes a time such as 2026-11-21T08:00Z") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(moment.timestamp()) * 1_000_000_000
