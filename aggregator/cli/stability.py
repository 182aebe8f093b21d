"""`flyball stability`: what a fleet does to the frequency of its grid."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from aggregator.cli.backtesting import progress_bar
from aggregator.cli.output import Json, app, emit, figures, writable

if TYPE_CHECKING:
    from aggregator.stability import Delays
    from droop.stability.study import Study

NS = 1_000_000_000  # what the bar counts by


@app.command(
    epilog="Example: flyball stability --grid nordic --product nordic_fcr_n --fleet-mw 200 --sweep --out study"
)
def stability(
    grid: Annotated[str, typer.Option(help="A grid by id (--list), or a .toml file of your own.")] = "ce",
    product: Annotated[str, typer.Option(help="Product that the fleet follows, by id or .toml file.")] = "ce_fcr",
    fleet_mw: Annotated[float, typer.Option(help="Power sold [MW].")] = 100.0,
    loss_mw: Annotated[
        float | None, typer.Option(help="Power lost [MW]; below 0 load; the grid's own largest loss.")
    ] = None,
    ramp_s: Annotated[float, typer.Option(help="Time over which it is lost [s]; 0: at once.")] = 0.0,
    noise_mw: Annotated[float, typer.Option(help="Wandering of the load besides, standard deviation [MW].")] = 0.0,
    delay_ms: Annotated[
        float | None, typer.Option(help="One delay from sample to power for all [ms]; else dead times 0.1 to 0.8 s.")
    ] = None,
    from_run: Annotated[
        Path | None, typer.Option(help="Take latency and dead times of a recorded run: folder, or `run --json` file.")
    ] = None,
    lag_ms: Annotated[float, typer.Option(help="First-order lag of the chargers [ms].")] = 0.0,
    ramp_pu_s: Annotated[float, typer.Option(help="Fastest change of the fleet, of its power a second.")] = math.inf,
    sample_ms: Annotated[float, typer.Option(help="Time between two decisions [ms].")] = 20.0,
    measure_ms: Annotated[float, typer.Option(help="First-order lag of the frequency measurement [ms].")] = 0.0,
    energy_min: Annotated[float, typer.Option(help="How long full power lasts each way [min].")] = math.inf,
    seconds: Annotated[float, typer.Option(help="Length of each course [s].")] = 120.0,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Map size and delay as well: where more starts to hurt.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for report, document and courses.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the grids.")] = False,
    json: Json = None,
) -> None:
    """Close the loop of a fleet and a grid: nadir, swings, margins, and how large and how late the fleet may be."""
    from aggregator.stability import assumed, document, fixed, of_run
    from droop.products import load
    from droop.stability import grid as grids
    from droop.stability.fleet import Fleet
    from droop.stability.simulation import Contingency
    from droop.stability.study import check_all, study

    writable(json)
    if listed:
        emit([_row(grids.load(name)) for name in grids.names()], json, _grids())
        return
    if from_run is not None and delay_ms is not None:
        raise ValueError("--delay-ms and --from-run: give one of them")
    where = grids.load(grid)
    delays = of_run(from_run) if from_run is not None else assumed() if delay_ms is None else fixed(delay_ms / 1e3)
    fleet = Fleet(
        load(product), fleet_mw, delays.delays_s, delays.shares, lag_ms / 1e3, ramp_pu_s, sample_ms / 1e3,
        measure_ms / 1e3, energy_min / 60.0,
    )  # fmt: skip
    what = Contingency(where.loss_mw if loss_mw is None else loss_mw, ramp_s, noise_mw)
    check_all(where, fleet, what)
    with progress_bar("stability") as told:
        found = study(
            where, fleet, what, seconds=seconds, sweep=sweep,
            progress=lambda done, cells: told(done * NS, cells * NS),
        )  # fmt: skip
    result = document(found, delays)
    if out is not None:
        result["files"] = _written(found, delays, result, out)
    emit(result, json, None if json == "-" else _shown(result))


def _written(study: Study, delays: Delays, result: dict[str, Any], out: Path) -> list[str]:
    import pyarrow.parquet as pq

    from aggregator import stability_page  # a second of import for those who want the page
    from aggregator.prequalification_files import write_json
    from aggregator.stability import table

    out.mkdir(parents=True, exist_ok=True)
    stability_page.write(out / "report.html", study, delays, result)
    pq.write_table(table(study), out / "courses.parquet")
    write_json(out / "study.json", result)
    return [str(out / name) for name in ("report.html", "study.json", "courses.parquet")]


def _shown(result: dict[str, Any]) -> Table:
    """What a terminal shows: the sentence as the title, the figures below."""
    from aggregator.stability import limit

    rows: dict[str, Any] = {}
    for name, label in (
        ("nadir_hz", "nadir, without / with [Hz]"), ("nadir_s", "at [s]"), ("rocof_hz_s", "steepest over 0.5 s [Hz/s]"),
        ("steady_hz", "rests at [Hz]"), ("settling_s", "settled after [s]"), ("shed_hz", "shedding stages passed [Hz]"),
    ):  # fmt: skip
        rows[label] = [result["alone"][name], result["with_fleet"][name]]
    left = result["margins"]
    if left is not None:
        rows |= {
            "gain margin": limit(left["gain"]), "phase margin [deg]": limit(left["phase_deg"]),
            "delay margin [s]": limit(left["delay_s"]),
            "sensitivity peak M_s": left["peak"], "damping": left["damping_frac"], "period [s]": left["period_s"],
        }  # fmt: skip
    rows |= {
        "largest mean delay [s]": limit(result["largest_delay_s"]),
        "largest size at this delay [MW]": limit(result["largest_mw"]), "delays": result["delays"]["how"],
        "confidence": ", ".join(f"{name} {mark}" for name, mark in result["confidence"].items()),
    }  # fmt: skip
    if left is None:
        rows["margins"] = result["margins_note"]
    if not result["linear"]:
        rows["note"] = "beyond 6 % of nominal: real machines would have tripped; no linear model holds there"
    # Units in brackets are no markup.
    return figures(escape(result["sentence"]), {escape(name): value for name, value in rows.items()})


def _row(grid: Any) -> dict[str, Any]:
    return {
        "id": grid.id, "title": grid.title, "nominal_hz": grid.nominal_hz, "size_mw": grid.size_mw,
        "inertia_s": grid.inertia_s, "loss_mw": grid.loss_mw, "confidence": grid.confidence,
        "marks": dict(grid.marks or {}), "sources": list(grid.sources),
    }  # fmt: skip


def _grids() -> Table:
    from aggregator.stability import confidence
    from droop.stability import grid as grids

    table = Table(
        title="Grids; confidence: V primary document, V2 secondary, D derived, M from memory", show_edge=False
    )
    for heading in ("id", "title", "Hz", "MW", "H s", "loss MW", "confidence"):
        table.add_column(heading)
    for name in grids.names():
        grid = grids.load(name)
        table.add_row(
            grid.id, grid.title, f"{grid.nominal_hz:g}", f"{grid.size_mw:g}", f"{grid.inertia_s:.3g}",
            f"{grid.loss_mw:g}", confidence(grid),
        )  # fmt: skip
    return table
