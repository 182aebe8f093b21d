"""A fleet case: a whole backtest, by the code of `flyball backtest`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from aggregator import backtesting, whatif
from aggregator.config import load
from aggregator.fleetside import behaviour
from aggregator.running import core_settings
from aggregator.studies.plan import Case
from telemetry.traces import open_trace

CHANGES: Final = ("deadband_hz", "full_hz", "dead_s", "ramp_kw_s")


def run(case: Case) -> dict[str, Any]:
    """The keys of `flyball backtest --json`. Raises ConfigError, ProductError, TraceError, BacktestError."""
    values = dict(case.values)
    for name in CHANGES:
        values.pop(name, None)
    contract = {"product": values.pop("product")}
    if "sold_kw" in values:
        contract["sold_kw"] = values.pop("sold_kw")
    options = {key if "." in key else f"fleet.{key}": value for key, value in values.items()}
    loaded = load(
        None if case.config is None else Path(case.config), contract=[contract],
        **{key.replace(".", "__"): value for key, value in options.items()},
    )  # fmt: skip
    settings = whatif.sold(core_settings(loaded), case.number_of("deadband_hz"), case.number_of("full_hz"))
    chargers = whatif.chargers(behaviour(loaded.fleet), case.number_of("dead_s"), case.number_of("ramp_kw_s"))
    traces = [open_trace(path, **dict(case.reader)) for path in case.traces]  # type: ignore[arg-type]
    result = backtesting.run(
        traces, settings, backtesting.recorded_gate(settings.nominal_hz, loaded.quality), seed=loaded.fleet.seed,
        behaviour=chargers, any_date=case.any_date,
    )  # fmt: skip
    assert result is not None  # noqa: S101 - nobody stops it
    return result
