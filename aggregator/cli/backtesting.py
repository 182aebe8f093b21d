"""`flyball backtest`: recorded days through the same engine."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from aggregator.cli.bidding import seller_of
from aggregator.cli.fleetoptions import FleetFile, SessionsShift, SessionsSite, keys_of
from aggregator.cli.output import Json, app, console, emit, figures, writable
from aggregator.cli.running import contract_of
from aggregator.cli.settling import Prices, instant
from aggregator.cli.traceoptions import (
    AnyDate,
    Format,
    HzCol,
    NominalHz,
    Repair,
    Site,
    SkipBad,
    Start,
    StepS,
    TimeCol,
    VoltCol,
    Zone,
)  # fmt: skip
from aggregator.cli.whatifoptions import BatteryPrice, DeadbandHz, DeadS, FullHz, RampKwS

# Too long to read on a terminal.
LISTED = ("bids", "days", "blocks", "worst_blocks", "vehicles", "drivers", "wear", "trace")


@app.command(epilog="Example: flyball backtest f_2026-06-22.csv.gz --product ce_fcr --vehicles 1000 --json -")
def backtest(
    trace: Annotated[
        list[Path] | None, typer.Argument(help="Recorded traces, one after the other, or folders of them.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML configuration, as of `run`: contracts, fleet, sites, limits, engine, gate."),
    ] = None,
    product: Annotated[str | None, typer.Option(help="Product sold, by id or .toml file; ce_fcr.")] = None,
    vehicles: Annotated[
        int | None, typer.Option(min=1, max=2_000_000, help="Chargers in the simulated fleet; 1000.")
    ] = None,
    sold_kw: Annotated[float | None, typer.Option(min=0, help="Power sold [kW]; 2 kW a vehicle.")] = None,
    sold: Annotated[
        str, typer.Option(help="fixed: as --sold-kw says; bid: of each block what the bid-sizing rule would have sold.")
    ] = "fixed",
    history: Annotated[
        list[Path] | None, typer.Option(help="Of --sold bid: history from before the run, as of `flyball bid`.")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of --sold bid: that what is sold will be there.")] = 0.99,
    any_date: AnyDate = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the fleet; 1.")] = None,
    fleet: FleetFile = None,
    sessions_site: SessionsSite = None,
    sessions_shift: SessionsShift = None,
    perfect: Annotated[bool, typer.Option("--perfect", help="Chargers without delay, loss or refusal.")] = False,
    signal_file: Annotated[
        Path | None,
        typer.Option("--signal", help="Recorded signal of products on one: PJM's files, or CSV of time,signal -1..1."),
    ] = None,
    start: Start = None,
    step_s: StepS = None,
    format: Format = None,
    time_col: TimeCol = None,
    hz_col: HzCol = None,
    volt_col: VoltCol = None,
    tz: Zone = None,
    site: Site = None,
    nominal_hz: NominalHz = None,
    repair: Repair = None,
    skip_bad: SkipBad = False,
    begin: Annotated[str | None, typer.Option("--from", help="Only rows from this ISO time on; UTC.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Only rows before this ISO time; UTC.")] = None,
    prices: Prices = None,
    deadband_hz: DeadbandHz = None,
    full_hz: FullHz = None,
    dead_s: DeadS = None,
    ramp_kw_s: RampKwS = None,
    battery_price: BatteryPrice = 100.0,
    resume: Annotated[Path | None, typer.Option(help="Go on with the stopped run in this folder.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for result, statements, series and checkpoints.")] = None,
    json: Json = None,
) -> None:
    """Drive a simulated fleet over recorded frequency, or a recorded signal, and score what it delivered."""
    from aggregator import whatif
    from aggregator.backtesting import check, recorded_gate, run
    from aggregator.billing import Asked, Files
    from aggregator.compiling import ensure
    from aggregator.config import load
    from aggregator.configured import behaviour, core_settings
    from aggregator.fleets.composing import guests_of
    from aggregator.process import logger, settle_memory
    from aggregator.signal_file import read
    from aggregator.tracefolder import recordings
    from telemetry.traces import open_trace

    writable(json)
    loaded = load(
        config, contract=contract_of(config, product, sold_kw),
        **keys_of(
            fleet, vehicles=vehicles, seed=seed, perfect=perfect or None, sessions_site=sessions_site,
            sessions_shift=sessions_shift, skip_bad=skip_bad or None,
        ),
    )  # fmt: skip
    settings = whatif.sold(core_settings(loaded), deadband_hz, full_hz)
    settings, seller = seller_of(sold, settings, history or [], confidence)
    chargers = whatif.chargers(behaviour(loaded.fleet), dead_s, ramp_kw_s)
    opened = partial(
        open_trace, format=format, time_col=time_col, hz_col=hz_col, volt_col=volt_col, tz=tz, site=site, start=start,
        step_s=step_s, nominal_hz=nominal_hz, repair=repair, skip_bad=skip_bad,
    )  # fmt: skip
    traces, folders = recordings(
        trace or [], opened, from_ns=instant(begin, "--from"), to_ns=instant(end, "--to"), skip_bad=skip_bad
    )
    recorded = None if signal_file is None else read(signal_file, tz=tz, skip_bad=skip_bad)
    check(traces, settings, recorded, any_date=any_date)
    coming = guests_of(loaded.fleet, settings.tariff, chargers, traces, recorded)
    priced = Files(Asked(prices), {entry.product.id: entry.product for entry in settings.contracts})
    log = logger("backtest")
    ensure(log)  # a wrong file is named before anybody waits for a compiler
    settle_memory()
    with progress_bar("backtest") as progress:
        result = run(
            traces, settings, recorded_gate(settings.nominal_hz, loaded.quality), seed=loaded.fleet.seed,
            behaviour=chargers, out=resume or out, resume=resume is not None, progress=progress,
            prices=priced, signal=recorded, battery_price=battery_price, fleet=coming, seller=seller,
            any_date=any_date, warn=log.warning, source=[found.to_dict() for found in folders],
            end_ns=max((found.files[-1].last_ns for found in folders), default=0),
        )  # fmt: skip
    if result is None:
        where = resume or out
        raise RuntimeError(
            "stopped before the end"
            + (f"; go on with --resume {where}" if where else "; use --out to be able to go on")
        )
    said = ", ".join(f"{entry['sold_kw']:g} kW of {entry['id']}" for entry in result["products"])
    emit(result, json, figures(f"{said}, {settings.rows} vehicles", _shown(result)))


def _shown(result: dict[str, Any]) -> dict[str, Any]:
    """The figures of the whole run; days, blocks and what they rest on are for files and pages."""
    drivers, wear = result["drivers"], result["wear"]
    plain = {name: value for name, value in result.items() if name not in LISTED}
    if "files" in result:
        plain["files"] = {part: len(found) for part, found in result["files"].items()}
    return plain | {
        "cars that left short": f"{drivers['left_short']} of {drivers['left']}, {drivers['left_short_kwh']:.4g} kWh",
        "wear by regulation [M]": ", ".join(
            f"{law.upper()} {wear[law]['marginal_cost']:.3g} {wear['currency']}" for law in ("lfp", "nmc")
        ),
    }


@contextmanager
def progress_bar(name: str) -> Iterator[Callable[[int, int], bool]]:
    """A bar on a terminal's standard error, and Ctrl-C as a wish to stop at the next chunk."""
    stopped: list[Any] = []
    before = signal.signal(signal.SIGINT, lambda *_: stopped.append(True))
    columns = (TextColumn(name), BarColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("rows", total=None)
        first: list[int] = []

        def told(now_ns: int, last_ns: int) -> bool:
            if not first:
                first.append(now_ns)
            bar.update(task, completed=(now_ns - first[0]) / 1e9, total=max((last_ns - first[0]) / 1e9, 1.0))
            return not stopped

        try:
            yield told
        finally:
            signal.signal(signal.SIGINT, before)
