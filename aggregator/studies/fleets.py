"""A fleet case: a whole backtest, by the code of `flyball backtest`."""

from __future__ import annotations

from typing import Any

from aggregator.analysis import backtest
from aggregator.studies.plan import Case


def run(case: Case) -> dict[str, Any]:
    """The keys of `flyball backtest --json`. Raises ConfigError, ProductError, TraceError, BacktestError."""
    values: dict[str, Any] = dict(case.values)
    options = {name: values.pop(name) for name in list(values) if "." in name}
    return backtest(
        *case.traces, options=options, reader=dict(case.reader), config=case.config, any_date=case.any_date, **values
    )
