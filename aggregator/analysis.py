"""What an analyst calls from Python: a backtest in one call, with the options of `flyball backtest`.

    from aggregator.analysis import backtest

    result = backtest("day.csv", product="ce_fcr", vehicles=200, sold_kw=400.0, out="run")

The result is the document of `flyball backtest --json`; the tables behind it lie in `out` as Parquet.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from aggregator import backtesting, whatif
from aggregator.compiling import ensure
from aggregator.config import load
from aggregator.configured import behaviour, core_settings
from aggregator.fleets.composing import guests_of
from telemetry.traces import open_trace


def backtest(
    *traces: str | PathLike[str],
    product: str = "ce_fcr",
    sold_kw: float | None = None,
    config: str | PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
    reader: Mapping[str, Any] | None = None,
    deadband_hz: float | None = None,
    full_hz: float | None = None,
    dead_s: float | None = None,
    ramp_kw_s: float | None = None,
    any_date: bool = False,
    out: str | PathLike[str] | None = None,
    **fleet: Any,
) -> dict[str, Any]:
    """Drive a simulated fleet over recorded frequency and score what it delivered.

    traces      : files in any format that `flyball inspect` knows, played one after the other
    product     : what is sold, by id or path of a .toml file
    sold_kw     : how much of it [kW]; 2 kW a vehicle
    config      : a configuration file, as of `flyball run`
    options     : keys of the configuration on top of it, dotted: {"engine.wear_price": 0.1}
    reader      : options of `telemetry.traces.open_trace`
    deadband_hz, full_hz : another dead band and droop for the product [Hz]; it is then none of its market's
    dead_s, ramp_kw_s    : one dead time [s] and one ramp [kW/s] for all chargers
    any_date    : sell a product although its market did not have it on the traces' days
    out         : folder for tables, series and a page
    fleet       : keys of the configuration's [fleet]: vehicles, seed, perfect ...

    Raises ConfigError, FleetError, ProductError, TraceError, BacktestError, WhatIfError; each names the field and the
    remedy.
    """
    contract = {"product": product} | ({} if sold_kw is None else {"sold_kw": sold_kw})
    keys = {f"fleet.{name}": value for name, value in fleet.items()} | dict(options or {})
    loaded = load(
        None if config is None else Path(config), contract=[contract],
        **{name.replace(".", "__"): value for name, value in keys.items()},
    )  # fmt: skip
    settings = whatif.sold(core_settings(loaded), deadband_hz, full_hz)
    opened = [open_trace(path, **(reader or {})) for path in traces]
    if not opened:
        raise backtesting.BacktestError("traces: give at least one")
    chargers = whatif.chargers(behaviour(loaded.fleet), dead_s, ramp_kw_s)
    coming = guests_of(loaded.fleet, settings.tariff, chargers, opened)
    ensure()
    result = backtesting.run(
        opened, settings, backtesting.recorded_gate(settings.nominal_hz, loaded.quality), seed=loaded.fleet.seed,
        behaviour=chargers, any_date=any_date, out=None if out is None else Path(out), fleet=coming,
    )  # fmt: skip
    assert result is not None  # noqa: S101 - nobody stops it
    return result
