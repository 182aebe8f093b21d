"""`flyball backtest`: recorded days through the same engine."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from aggregator.cli import backtestoptions as options
from aggregator.cli.bidding import seller_of
from aggregator.cli.fleetoptions import FleetFile, Perfect, Seed, SessionsShift, SessionsSite, Vehicles, keys_of
from aggregator.cli.output import Json, app, console, emit, figures, writable
from aggregator.cli.running import contract_of
from aggregator.cli.settling import Prices, instant
from aggregator.cli.traceoptions import AnyDate, Reading, with_reading
from aggregator.cli.whatifoptions import BatteryPrice, DeadbandHz, DeadS, FullHz, RampKwS

if TYPE_CHECKING:
    from aggregator.wanted import Wanted

# Too long to read on a terminal.
LISTED = ("bids", "days", "blocks", "worst_blocks", "vehicles", "drivers", "wear", "trace")


@app.command(epilog="Example: flyball backtest f_2026-06-22.csv.gz --product ce_fcr --vehicles 1000 --json -")
@with_reading
def backtest(
    trace: options.Traces = None,
    config: options.ConfigFile = None,
    product: Annotated[str | None, typer.Option(help="Product sold, by id or .toml file; ce_fcr.")] = None,
    vehicles: Vehicles = None,
    sold_kw: Annotated[float | None, typer.Option(min=0, help="Power sold [kW]; 2 kW a vehicle.")] = None,
    sold: options.Sold = "fixed",
    history: options.History = None,
    confidence: options.Confidence = 0.99,
    any_date: AnyDate = False,
    seed: Seed = None,
    fleet: FleetFile = None,
    sessions_site: SessionsSite = None,
    sessions_shift: SessionsShift = None,
    perfect: Perfect = False,
    signal_file: options.SignalFile = None,
    *,
    reading: Reading,
    begin: options.Begin = None,
    end: options.End = None,
    prices: Prices = None,
    deadband_hz: DeadbandHz = None,
    full_hz: FullHz = None,
    dead_s: DeadS = None,
    ramp_kw_s: RampKwS = None,
    battery_price: BatteryPrice = 100.0,
    resume: options.Resume = None,
    out: options.Out = None,
    json: Json = None,
) -> None:
    """Drive a simulated fleet over recorded frequency, or a recorded signal, and score what it delivered."""
    from aggregator import signal_file as signals
    from aggregator import whatif
    from aggregator.backtesting import wanted_of
    from aggregator.billing import Asked, Files
    from aggregator.config import load
    from aggregator.configured import behaviour, core_settings
    from aggregator.tracefolder import recordings
    from telemetry.traces import open_trace

    writable(json)
    loaded = load(
        config, contract=contract_of(config, product, sold_kw),
        **keys_of(
            fleet, vehicles=vehicles, seed=seed, perfect=perfect or None, sessions_site=sessions_site,
            sessions_shift=sessions_shift, skip_bad=reading.skip_bad or None,
        ),
    )  # fmt: skip
    settings = whatif.sold(core_settings(loaded), deadband_hz, full_hz)
    settings, seller = seller_of(sold, settings, history or [], confidence)
    chargers = whatif.chargers(behaviour(loaded.fleet), dead_s, ramp_kw_s)
    span_ns = {"from_ns": instant(begin, "--from"), "to_ns": instant(end, "--to")}
    opened = partial(open_trace, **reading._asdict())
    traces, folders = recordings(trace or [], opened, **span_ns, skip_bad=reading.skip_bad)
    signal = None if signal_file is None else signals.read(signal_file, tz=reading.tz, skip_bad=reading.skip_bad)
    wanted = wanted_of(
        loaded, settings, chargers, traces, signal, seller=seller, battery_price=battery_price, any_date=any_date,
        prices=Files(Asked(prices), {entry.product.id: entry.product for entry in settings.contracts}),
        source=[found.to_dict() for found in folders],
        end_ns=max((found.files[-1].last_ns for found in folders), default=0),
    )  # fmt: skip
    result = _played(wanted, resume or out, resume=resume is not None)
    said = ", ".join(f"{entry['sold_kw']:g} kW of {entry['id']}" for entry in result["products"])
    emit(result, json, figures(f"{said}, {settings.rows} vehicles", _shown(result)))


def _played(wanted: Wanted, out: Path | None, *, resume: bool) -> dict[str, Any]:
    """The result, with a bar on the way. Raises RuntimeError where it was stopped."""
    from aggregator.backtesting import run
    from aggregator.compiling import ensure
    from aggregator.process import logger, settle_memory

    log = logger("backtest")
    ensure(log)  # a wrong file is named before anybody waits for a compiler
    settle_memory()
    with progress_bar("backtest") as progress:
        result = run(wanted, out, resume=resume, progress=progress, warn=log.warning)
    if result is None:
        go_on = f"go on with --resume {out}" if out else "use --out to be able to go on"
        raise RuntimeError(f"stopped before the end; {go_on}")
    return result


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
