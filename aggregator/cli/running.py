"""`flyball run`: the whole line on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from aggregator.cli.output import Json, app, emit, figures, text, writable
from aggregator.cli.traceoptions import AnyDate, Reading, with_reading

SHOWN = (
    "samples_in", "samples_lost", "ticks", "commands", "rejected", "requested_kwh", "delivered_kwh", "unserved_kwh",
    "score", "score_note", "alarms", "rss_mb", "warm_start_s", "scheduling", "folder",
)  # fmt: skip


@app.command(epilog="Example: flyball run --vehicles 10000 --rate 50 --seconds 60 --json run.json")
@with_reading
def run(
    config: Annotated[Path | None, typer.Option(help="TOML configuration.")] = None,
    trace: Annotated[Path | None, typer.Option(help="Play a recorded trace in real time, stamped now.")] = None,
    rate: Annotated[float | None, typer.Option(help="Samples a second [Hz].")] = None,
    vehicles: Annotated[int | None, typer.Option(help="Chargers in the simulated fleet.")] = None,
    product: Annotated[str | None, typer.Option(help="Product sold, by id or .toml file.")] = None,
    sold_kw: Annotated[float | None, typer.Option(help="Power sold [kW]; 2 kW a vehicle.")] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Stop after so many seconds of ticking; a trace ends by itself.")
    ] = None,
    units: Annotated[int | None, typer.Option(help="Simulated measuring units side by side.")] = None,
    ingests: Annotated[
        int | None, typer.Option(min=1, max=4, help="Ingest processes side by side; a unit each, or all the same.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port of the dashboard; 0 for any.")] = None,
    fault: Annotated[
        list[str] | None, typer.Option(help="Fault of a unit, e.g. dead-bus@20+5; 2:lie@20 of the second.")
    ] = None,
    any_date: AnyDate = False,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the dashboard.")] = False,
    *,
    reading: Reading,
    json: Json = None,
) -> None:
    """Regulate with a simulated fleet on the frequency of the configured sources. Ctrl-C stops."""
    from aggregator.config import load
    from aggregator.process import logger
    from aggregator.running import run as run_line

    writable(json)
    loaded = load(
        config, unit__rate_hz=rate, unit__count=units, fleet__vehicles=vehicles, api__port=port,
        unit__faults=tuple(fault) if fault else None,
        contract=contract_of(config, product, sold_kw),
        worker__ingests=[f"i{number}" for number in range(1, ingests + 1)] if ingests else None,
    )  # fmt: skip
    summary = run_line(
        loaded, logger("run", loaded.log), trace=trace, seconds=seconds, browser=not no_browser,
        trace_overrides=reading.given, any_date=any_date,
    )  # fmt: skip
    shown = {name: summary[name] for name in SHOWN}
    shown["latency_ms total"] = text(summary["latency_ms"].get("total", {}))
    emit(summary, json, figures("flyball run", shown))


def contract_of(config: Path | None, product: str | None, sold_kw: float | None) -> list[dict[str, Any]] | None:
    """The contract the options describe; None leaves the file's, or the default."""
    if product is None and sold_kw is None:
        return None
    first: dict[str, Any] = {}
    if config is not None:
        from aggregator.config import load

        first = load(config).contract[0].model_dump()
    given = {"product": product, "sold_kw": sold_kw}
    return [first | {name: value for name, value in given.items() if value is not None}]
