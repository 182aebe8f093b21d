"""The long series of a backtest: as Parquet, and thinned for the eye."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aggregator.backtest import Backtest
from aggregator.kept import PIECE, Kept
from droop.curve import fractions
from settlement import expected
from settlement.align import NS, Grid
from settlement.facts import Facts
from settlement.interval import Sold, reach_ns
from telemetry.samples import FREQUENCY, POWER


def write(path: Path, kept: Kept) -> None:
    """Rows as Parquet, a row group a piece."""
    writer: Any = None
    for block in kept.pieces():
        table = pa.table({column: np.ascontiguousarray(block[column]) for column in block.dtype.names or ()})
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table, row_group_size=PIECE)
    if writer is not None:
        writer.close()


def of(test: Backtest) -> tuple[tuple[Any, Any], tuple[Any, Any], tuple[Any, Any]]:
    """Frequency, power asked and power given, as (t_ns, value) each; the last two relative to the baseline.

    A series of several pieces is thinned piece by piece: what nobody could see is not held all at once.
    """
    heard, asked, given = [], [], []
    for samples in test.samples_kept.pieces():
        hz = np.where(samples["quality"] == 0, samples["hz"], np.nan)
        heard.append((samples["t_ns"], hz))
        if _by_curve(test):
            asked.append((samples["t_ns"], _curves_kw(test, samples["t_ns"], hz)))
    declared = test.core.declared_rows()
    for meters in test.meters_kept.pieces():
        step = np.searchsorted(declared["start_ns"], meters["t_ns"], side="right") - 1
        baseline = np.where(step >= 0, declared["power_kw"][np.maximum(step, 0)], np.nan)
        given.append((meters["t_ns"], meters["power_kw"] - baseline))
    if not _by_curve(test):
        asked += _seconds_kw(test)
    return _joined(heard), _joined(asked), _joined(given)


def _joined(pieces: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Pieces of a series as one."""
    from aggregator import report  # as `_write`

    if len(pieces) > 1:
        pieces = [report.thinned(*piece) for piece in pieces]
    t_ns, value = zip(*pieces, strict=True) if pieces else ([np.zeros(0, np.int64)], [np.zeros(0)])
    return np.concatenate(t_ns), np.concatenate(value)


def _by_curve(test: Backtest) -> bool:
    """Whether what is asked is told by each frequency alone."""
    return all(c.product.input == "frequency" and c.product.trigger is None for c in test.settings.contracts)


def _curves_kw(test: Backtest, t_ns: Any, hz: Any) -> Any:
    """What the products' curves ask together at these frequencies [kW]."""
    sold_kw = test.sold_kw(t_ns)
    products = [contract.product for contract in test.settings.contracts]
    return np.sum(
        [sold_kw[:, k] * fractions(each.response, hz - each.nominal_hz) for k, each in enumerate(products)], axis=0
    )


def _seconds_kw(test: Backtest) -> Iterator[tuple[Any, Any]]:
    """What the products asked together, as settlement sees it: second by second."""
    needed_ns = reach_ns([Sold(contract.product, contract.sold_kw) for contract in test.settings.contracts])
    said_ns, pieces = test.points["t_ns"][: test.told], test.samples_kept.pieces()
    samples = next(pieces, np.zeros(0, FREQUENCY))
    start_ns = min([*samples["t_ns"][:1].tolist(), *said_ns[:1].tolist()])
    while True:
        more = next(pieces, None)
        ends_ns = [*samples["t_ns"][-1:].tolist(), *(said_ns[-1:].tolist() if more is None else [])]
        # The last second of a piece may go on in the next one.
        grid = Grid(start_ns, NS, (max(ends_ns) - start_ns) // NS + (1 if more is None else 0))
        facts = test.facts(samples, np.zeros(0, POWER), start_ns - needed_ns)
        yield grid.edges_ns[:-1], _expected_kw(test, facts, grid)
        if more is None:
            return
        start_ns = grid.end_ns
        since = np.searchsorted(samples["t_ns"], start_ns - needed_ns)
        samples = np.concatenate([samples[since:], more])


def _expected_kw(test: Backtest, facts: Facts, grid: Grid) -> Any:
    """The sum of what is expected in each cell, of what was sold then [kW]."""
    sold_kw = test.sold_kw(grid.edges_ns[:-1])
    asked: Any = np.zeros(grid.cells)
    for powers in {tuple(row) for row in sold_kw.tolist()}:
        pairs = zip(test.settings.contracts, powers, strict=True)
        held = [(contract.product, kw) for contract, kw in pairs if kw > 0.0 or not test.sales]
        if held:
            cells = [expected.of(held, k, facts, grid).mean for k in range(len(held))]
            asked = np.where((sold_kw == powers).all(axis=1), np.sum(cells, axis=0), asked)
    return asked
