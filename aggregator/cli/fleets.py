"""`flyball fleet ...`: models of drivers from recorded sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aggregator.cli.output import Json, app, emit, figures, writable

fleet = typer.Typer(help="Fleets from recorded sessions.", no_args_is_help=True)
app.add_typer(fleet, name="fleet")


@fleet.command(epilog="Example: flyball fleet fit acndata_sessions.json --out drivers.toml")
def fit(
    sessions: Annotated[Path, typer.Argument(help="Recorded charging sessions, plain or gzipped.")],
    out: Annotated[Path, typer.Option(help="TOML file to write the model into.")],
    cars: Annotated[Path | None, typer.Option(help="Car models to join the sessions with; built-in classes.")] = None,
    format: Annotated[str | None, typer.Option(help="Format of the sessions; by content.")] = None,
    tz: Annotated[str | None, typer.Option(help="Zone of times that name none; the publisher's.")] = None,
    site: Annotated[str | None, typer.Option(help="One site of the sessions; all of them.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the join with cars.")] = 1,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Count rows that cannot be true; go on.")] = False,
    json: Json = None,
) -> None:
    """Fit a generator of drivers to recorded sessions: when they come, how long they stay, what they charge and say.

    `flyball backtest --fleet FILE.toml` then draws any number of such drivers, by seed.
    """
    from aggregator.config import FleetTable
    from aggregator.fleets import fitting, model
    from aggregator.fleets.composing import selected
    from telemetry import vehicles
    from telemetry.sessions import open_sessions

    writable(json)
    writable(str(out), "--out")
    stays = open_sessions(sessions, format=format, tz=tz, skip_bad=skip_bad)
    stays = selected(stays, FleetTable(sessions=sessions, sessions_site=site))
    models = vehicles.open_cars(cars) if cars is not None else vehicles.builtin()
    fitted = fitting.fit(stays, models.rows, seed)
    model.write(out, fitted)
    result = {
        "out": str(out),
        "sessions": fitted.sessions,
        "rejected": dict(stays.rejected),
        "zone": fitted.zone,
        "per_charger_week": fitted.per_charger_week,
        "told_frac": fitted.told_frac,
        "asked_frac": fitted.asked_frac,
        "leave_missing_frac": fitted.leave_missing_frac,
        "soc_frac_median": fitted.soc_frac[len(fitted.soc_frac) // 2],
    }
    emit(result, json, figures(f"Drivers of {sessions.name}", result))
