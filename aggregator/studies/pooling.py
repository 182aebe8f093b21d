"""Pool cases of one trace together: the file is read once, and all of them advance side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aggregator.backtesting import recorded_gate
from aggregator.studies.plan import Case, StudyError
from aggregator.validity import check_valid
from aggregator.whatif import changed
from droop import pooled
from droop.products import Product, load
from telemetry.quality import Gate
from telemetry.samples import Block
from telemetry.traces import Trace, inspect, open_trace

Floats = npt.NDArray[np.float64]

NS: Final = 1_000_000_000
# Longest stretch that is handed on at once, gaps included.
PIECE: Final = 86_400


def run(cases: Sequence[Case], workers: int = 1) -> list[dict[str, Any]]:
    """One result for each case; all of the same traces. Raises StudyError, TraceError, ProductError."""
    first = cases[0]
    products = [_product(case) for case in cases]
    traces = [open_trace(path, **dict(first.reader)) for path in first.traces]  # type: ignore[arg-type]
    for trace in traces:
        for product in products:
            if trace.nominal_hz != product.nominal_hz:
                raise StudyError(
                    f"{trace.path}: a {trace.nominal_hz:g} Hz grid, and {product.id} is for {product.nominal_hz:g} Hz"
                )
    pools: list[pooled.Case] = [_case(case, product) for case, product in zip(cases, products, strict=True)]
    step_s = _step_s(traces)
    pool = pooled.Pool(pools, products[0].nominal_hz, step_s, first.block_s)
    gate = Gate(recorded_gate(products[0].nominal_hz))
    rows = known = steps = 0
    for trace in traces:
        for hz in on_grid(_judged(trace, gate, products, first.any_date), step_s):
            pool.feed(hz, workers)
            steps += int(hz.size)
            known += int(np.isfinite(hz).sum())
        rows += trace.rows
    facts = {
        "samples": rows, "rejected": dict(gate.rejected()), "hours": steps * step_s / 3600.0,
        "gap_s": (steps - known) * step_s, "step_s": step_s,
    }  # fmt: skip
    return [_result(outcome, facts) for outcome in pool.outcomes()]


def _result(outcome: pooled.Outcome, facts: dict[str, Any]) -> dict[str, Any]:
    asked = outcome.asked_up_kwh + outcome.asked_down_kwh
    # Below that a shortfall is the rounding of a sum over millions of steps.
    short_frac = outcome.short_kwh / asked if outcome.short_kwh > pooled.NEGLIGIBLE * asked else 0.0
    return {**facts, **outcome._asdict(), "short_frac": short_frac}


def _product(case: Case) -> Product:
    product = load(str(dict(case.values)["product"]))
    if product.input != "frequency" or product.trigger is not None:
        raise StudyError(f'product {product.id}: a pool follows a curve over frequency; take `kind = "fleet"` for it')
    deadband_hz, full_hz = case.number_of("deadband_hz"), case.number_of("full_hz")
    return product if deadband_hz is full_hz is None else changed(product, deadband_hz, full_hz)


def _case(case: Case, product: Product) -> pooled.Case:
    """The battery of a case. What is not said: an hour of the sold power each way, and power enough for both."""
    values = {key: value for key, value in case.values if key not in ("product", "deadband_hz", "full_hz")}
    numbers = {key: float(value) for key, value in values.items()}
    sold_kw = numbers.setdefault("sold_kw", 1000.0)
    numbers.setdefault("energy_kwh", 2.0 * sold_kw)
    for side in ("up_kw", "down_kw"):
        numbers.setdefault(side, 1.25 * sold_kw)  # rulebook 2.2: power ratio of limited reservoirs
    try:
        found = pooled.Case(product.response, **numbers)
        pooled.check(found)
    except ValueError as error:
        raise StudyError(f"field {error}") from error
    return found


def _step_s(traces: Sequence[Trace]) -> float:
    """Time from row to row, the same in all files [s]."""
    found = {round(inspect(trace).period_s or 0.0, 6) for trace in traces}
    if len(found) > 1 or 0.0 in found:
        raise StudyError(f"traces: rows {sorted(found)} s apart; take files of one period in a case")
    return found.pop()


def _judged(trace: Trace, gate: Gate, products: Sequence[Product], any_date: bool) -> Iterator[Block]:
    for block in trace:
        if not any_date and block.size:
            check_valid(products, int(block["t_ns"][0]))
            check_valid(products, int(block["t_ns"][-1]))
        yield gate.check(block)


def on_grid(blocks: Iterator[Block], step_s: float) -> Iterator[Floats]:
    """Frequencies `step_s` apart from the first row on; NaN where there is none that may be used.

    Of two rows in one step the first counts. A row that goes back in time was refused by the gate.
    """
    step_ns = step_s * NS
    first_ns, done = None, 0  # steps handed on
    for block in blocks:
        usable = block[(block["quality"] == 0) & np.isfinite(block["hz"])]
        if not usable.size:
            continue
        first_ns = int(usable["t_ns"][0]) if first_ns is None else first_ns
        at = np.rint((usable["t_ns"] - first_ns) / step_ns).astype(np.int64) - done
        at, kept = np.unique(at, return_index=True)
        at, kept = at[at >= 0], kept[at >= 0]
        if not at.size:
            continue
        gap = int(at[0])
        while gap:  # piece by piece: a gap may be years
            piece = min(gap, PIECE)
            yield np.full(piece, math.nan)
            gap, done, at = gap - piece, done + piece, at - piece
        hz = np.full(int(at[-1]) + 1, math.nan)
        hz[at] = usable["hz"][kept]
        done += int(hz.size)
        yield hz
