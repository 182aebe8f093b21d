"""`flyball backtest`: files in, a result out; progress, checkpoints and reports around `backtest`.

A checkpoint is the whole state of a run, pickled into the run's own folder (private to its owner, because
loading a pickle runs code), so that a run that was stopped goes on to the same result, bit for bit.
"""

from __future__ import annotations

import hashlib
import math
import os
import pickle
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from aggregator import billing, exporting, managing, reserved
from aggregator.backtest import Backtest
from aggregator.bidding import available
from aggregator.billing import Files
from aggregator.config import QualityTable
from aggregator.contracts import CoreSettings
from aggregator.gateways.population import Behaviour
from aggregator.oversold import Oversold
from aggregator.signal_file import Recorded
from aggregator.validity import check_valid
from droop.curve import fractions
from droop.split import LAM_MAX
from settlement import expected
from settlement.align import NS, Grid
from settlement.payment import PaymentError
from settlement.prices import PriceError
from settlement.scores import weighted_score
from settlement.statement import Statement
from telemetry.quality import GateSettings
from telemetry.samples import SIGNAL, Block
from telemetry.traces import Trace

if TYPE_CHECKING:
    from aggregator.bidding.selling import Seller

CHECKPOINT: Final = "checkpoint.pkl"
CHECKPOINT_NS: Final = 3_600_000_000_000
# Rows between two looks at progress and at the wish to stop.
CHUNK: Final = 3_600

Progress = Callable[[int, int], bool]
"""Told the time reached and the time of the last row known [ns]; False stops the run."""


class BacktestError(ValueError):
    """A backtest that cannot be run; one line that names the field and the remedy."""


@dataclass
class State:
    """Where a run stands."""

    what: str  # digest of what was asked, so that only the same run is gone on with
    backtest: Backtest | None = None
    file: int = 0
    row: int = 0
    rejected: Counter[str] = field(default_factory=Counter)


def recorded_gate(nominal_hz: float, quality: QualityTable | None = None) -> GateSettings:
    """The gate for recordings: as live, but a value that stands still is believed unless `quality` says otherwise.

    Test signals (a market's 15 minutes at 49.8 Hz) and coarse recordings stand still for good reasons; a live
    instrument never does. Spikes are told by their rate, whatever `quality.spike_test`: waiting for the next row would
    take no time here, and the day would look better than it was.
    """
    chosen = {} if quality is None else quality.model_dump(exclude_none=True, exclude={"spike_test"})
    return GateSettings(nominal_hz=nominal_hz, **{"stuck_s": math.inf, **chosen})


def run(
    traces: Sequence[Trace], settings: CoreSettings, gate: GateSettings, *, seed: int, perfect: bool = False,
    behaviour: Behaviour | None = None, out: Path | None = None, resume: bool = False,
    progress: Progress = lambda *_: True, any_date: bool = False,
    warn: Callable[[str], object] = lambda _: None, prices: Files | None = None, signal: Recorded | None = None,
    seller: Seller | None = None,
) -> dict[str, Any] | None:  # fmt: skip
    """The result of driving the fleet over the traces, one after the other; None if stopped.

    behaviour : how imperfect the fleet is; takes precedence over `perfect`
    out       : folder for checkpoints and results; resume goes on from its checkpoint
    any_date  : sell a product although its market did not have it on the trace's days
    warn      : told once, after the first rows, that more is sold than the fleet can sustain
    prices    : what was paid: the result then has an `income`
    signal    : a balancing authority's, for the products on one; without traces its times alone drive the run
    seller    : who says what is sold of each block; None: what the contracts say

    Raises BacktestError, ProductDateError, TraceError, and where a price is missing MissingPriceError, the checkpoint
    kept.
    """
    check(traces, settings, signal, any_date=any_date)
    what = _digest(traces, settings, gate, seed, perfect, behaviour) + _sealed(signal) + _asked_of(seller)
    state = _load(out, what) if resume and out is not None else State(what)
    products = [contract.product for contract in settings.contracts]
    saved_ns: int | None = None
    oversold = Oversold()
    for block, last_ns in _blocks(traces, state) if traces or signal is None else _turns(signal, state):
        first_ns = int(block["t_ns"][0])
        if not any_date:
            check_valid(products, int(block["t_ns"][-1]))
        if state.backtest is None:
            state.backtest = Backtest(settings, gate, first_ns, seed, perfect, behaviour, signal, seller)
        saved_ns = first_ns if saved_ns is None else saved_ns
        if traces:
            state.backtest.feed(block)
        else:
            state.backtest.follow(int(block.size))
        state.row += int(block.size)
        now_ns = int(block["t_ns"][-1])
        if said := oversold.text(state.backtest.core, partial(reserved.figures, state.backtest.core, now_ns), now_ns):
            warn(said)
        if out is not None and now_ns - saved_ns >= CHECKPOINT_NS:
            saved_ns = now_ns
            _save(out, state)
        if not progress(now_ns, last_ns):
            if out is not None:
                _save(out, state)
            return None
    if state.backtest is None:
        raise BacktestError(f"{traces[0].path}: no usable row; `flyball inspect` says what is in the file")
    try:
        return result(traces, state.backtest, state.rejected, out, prices)
    except (PriceError, PaymentError):
        if out is not None:
            _save(out, state)  # with the prices mended, --resume has nothing left to do but to settle
        raise


def check(
    traces: Sequence[Trace], settings: CoreSettings, signal: Recorded | None = None, *, any_date: bool = False
) -> None:
    """Raises BacktestError for a trace of another grid than the product's, and for what is sold without its input;
    ProductDateError for a trace of another day.
    """
    products = [contract.product for contract in settings.contracts]
    inputs = {product.input for product in products}
    if signal is not None and "signal" not in inputs:
        raise BacktestError("--signal: nothing that is sold follows a signal; choose a product that does")
    if signal is None and "signal" in inputs:
        raise BacktestError("--product: it follows a signal; give the recorded one with --signal")
    if not traces and inputs != {"signal"}:
        raise BacktestError("trace: what is sold responds to frequency; give a recorded one")
    if signal is not None and not any_date:
        check_valid(products, int(signal.t_ns[0]))
    for trace in traces:
        if trace.nominal_hz != settings.nominal_hz:
            raise BacktestError(
                f"{trace.path}: a {trace.nominal_hz:g} Hz grid, and the product is for {settings.nominal_hz:g} Hz; "
                "choose a product for it with --product"
            )
        first = None if any_date else next((int(block["t_ns"][0]) for block in trace if block.size), None)
        if first is not None:
            check_valid(products, first)


def _blocks(traces: Sequence[Trace], state: State) -> Iterator[tuple[Block, int]]:
    """Chunks of rows from where the state stands, each with the last time known to come."""
    for number, trace in enumerate(traces):
        if number < state.file:
            continue
        skip = state.row
        for block in trace:
            rows = block[min(skip, block.size) :]
            skip -= int(block.size - rows.size)
            for first in range(0, rows.size, CHUNK):
                yield rows[first : first + CHUNK], int(rows["t_ns"][-1])
        state.rejected.update(trace.dropped())  # what is missing in its row is the gate's to count
        state.file, state.row = number + 1, 0


def _turns(signal: Recorded, state: State) -> Iterator[tuple[Block, int]]:
    """Chunks of a signal that alone drives a run, from where the state stands."""
    rows = np.zeros(signal.t_ns.size - state.row, SIGNAL)
    rows["t_ns"] = signal.t_ns[state.row :]
    for first in range(0, rows.size, CHUNK):
        yield rows[first : first + CHUNK], int(signal.t_ns[-1])


def _sealed(signal: Recorded | None) -> str:
    return "" if signal is None else hashlib.sha256(signal.t_ns.tobytes() + signal.share.tobytes()).hexdigest()


def _asked_of(seller: Seller | None) -> str:
    if seller is None:
        return ""
    return repr((seller.rule, seller.bundle.key, hashlib.sha256(seller.known().tobytes()).hexdigest()))


def result(
    traces: Sequence[Trace], test: Backtest, rejected: Counter[str], out: Path | None, prices: Files | None = None
) -> dict[str, Any]:
    """The result's keys, as scripts rely on them."""
    sums, energy = test.core.sums, test.fleet.energy()
    statements = list(test.statements())
    score, note = weighted_score((s.score, s.coverage_frac, s.score_note) for s in statements)
    delivered_up = sum(s.delivered_up_kwh for s in statements)
    row = {
        "format": "+".join(sorted({trace.format for trace in traces})) or "signal",
        "samples": test.rows,
        "signals": test.told,
        "signals_clipped": sums.clipped,
        "trips": sums.trips,
        "rejected": dict(Counter(test.gate.rejected()) + rejected),
        "gap_s": test.gap_s,
        "requested_up_kwh": sums.requested_up_kwh,
        "requested_down_kwh": sums.requested_down_kwh,
        "delivered_up_kwh": delivered_up,
        "delivered_down_kwh": sum(s.delivered_down_kwh for s in statements),
        "energy_up_kwh": delivered_up,
        "energy_balance_error_kwh": abs(energy.residual_kwh),
        "throughput_kwh": test.fleet.throughput_kwh,
        "max_sum_error_kw": sums.max_sum_error_kw,
        "bound_violations": sums.bound_violations,
        "unserved_kwh": sums.unserved_kwh,
        "unserved_by_reason": test.core.unserved_by_reason(),
        "switches": test.switches,
        "switches_per_vehicle_h": test.switches_per_vehicle_h,
        "score": score,
        "score_note": note,
        "soc_min_frac": test.soc_min_frac,
        "soc_max_frac": test.soc_max_frac,
        "ticks": sums.ticks,
        "commands": sums.commands,
        "alarms": test.core.alarms.raised,
        "modes": managing.seconds(test.core.modes()),
        "products": _products(test),
    }
    if test.seller is not None:
        row["bids"] = test.seller.result()
    bill = prices.bill(statements) if prices is not None else None
    if bill is not None:
        row["income"] = billing.summary(bill)
    if out is not None:
        _write(out, row, test, statements)
        if bill is not None:
            (out / "lines.csv").write_bytes(exporting.table(billing.line_rows(bill), "csv"))
    return row


def _products(test: Backtest) -> list[dict[str, Any]]:
    """What was sold [kW]; the mean over the settled intervals where it changed."""
    first_ns = test.sales[0][0] if test.sales else test.last_ns - 1
    starts_ns = np.arange(first_ns, test.last_ns, NS * test.settings.interval_s, dtype=np.int64)
    mean = test.sold_kw(starts_ns).mean(axis=0) if starts_ns.size else np.zeros(len(test.settings.contracts))
    return [
        {"id": contract.product.id, "sold_kw": float(kw)}
        for contract, kw in zip(test.settings.contracts, mean, strict=True)
    ]


def _write(out: Path, row: dict[str, Any], test: Backtest, statements: list[Statement]) -> None:
    """Result, statements, the series behind them and a page to look at."""
    from aggregator import report  # a second of import for those who want the page

    out.mkdir(parents=True, exist_ok=True)
    pretty = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY
    (out / "result.json").write_bytes(orjson.dumps(row, option=pretty))
    (out / "statements.json").write_bytes(orjson.dumps([s.to_dict() for s in statements], option=pretty))
    for name, block in (("frequency", test.samples), ("meter", test.meters)):
        columns = {column: np.ascontiguousarray(block[column]) for column in block.dtype.names or ()}
        pq.write_table(pa.table(columns), out / f"{name}.parquet")
    title = ", ".join(f"{sold['sold_kw']:g} kW of {sold['id']}" for sold in row["products"])
    if test.watcher is not None:
        available.write(out / available.FILE, test.watcher.rows, test.watcher.bundle)
    report.write(out / "report.html", title, *_series(test), statements, _facts(row))
    (out / CHECKPOINT).unlink(missing_ok=True)


def _facts(row: dict[str, Any]) -> dict[str, str]:
    """What the page says beside its charts."""
    switches = row["switches_per_vehicle_h"]
    unserved = {name: f"{kwh:.4g} kWh" for name, kwh in row["unserved_by_reason"].items()}
    return {
        "Score": "-" if row["score"] is None else f"{row['score']:.4f}",
        "Asked up / down": f"{row['requested_up_kwh']:.6g} / {row['requested_down_kwh']:.6g} kWh",
        "Given up / down": f"{row['delivered_up_kwh']:.6g} / {row['delivered_down_kwh']:.6g} kWh",
        **{f"Income: {item['product']}": f"{item['amount']} {item['currency']}" for item in _income(row)},
        "Unserved": f"{row['unserved_kwh']:.4g} kWh",
        **{f"Unserved: {name}": text for name, text in sorted(unserved.items())},
        "Commands outside a vehicle's bounds": str(row["bound_violations"]),
        "Largest error of the sum": f"{row['max_sum_error_kw']:.3g} kW",
        **({} if switches is None else {"Switches a vehicle and hour": f"{switches:.3g}"}),
        "Alarms": ", ".join(row["alarms"]) or "none",
    }


def _income(row: dict[str, Any]) -> list[dict[str, str]]:
    return list(row["income"]["totals"]) if "income" in row else []


def _series(test: Backtest) -> tuple[tuple[Any, Any], tuple[Any, Any], tuple[Any, Any]]:
    """Frequency, power asked and power given, as (t_ns, value) each; the last two relative to the baseline."""
    samples, meters, declared = test.samples, test.meters, test.core.declared_rows()
    hz = np.where(samples["quality"] == 0, samples["hz"], np.nan)
    step = np.searchsorted(declared["start_ns"], meters["t_ns"], side="right") - 1
    baseline = np.where(step >= 0, declared["power_kw"][np.maximum(step, 0)], np.nan)
    return (samples["t_ns"], hz), _asked(test, hz), (meters["t_ns"], meters["power_kw"] - baseline)


def _asked(test: Backtest, hz: Any) -> tuple[Any, Any]:
    """What the products asked together, as settlement sees it: sample by sample if by their curves, else by seconds."""
    sold = [(contract.product, contract.sold_kw) for contract in test.settings.contracts]
    t_ns = test.samples["t_ns"]
    if all(product.input == "frequency" and product.trigger is None for product, _ in sold):
        powers = test.sold_kw(t_ns)
        parts = [
            powers[:, k] * fractions(product.response, hz - product.nominal_hz) for k, (product, _) in enumerate(sold)
        ]
        return t_ns, np.sum(parts, axis=0)
    facts = test.facts()
    times_ns = np.concatenate([t_ns, facts.signal.start_ns])
    grid = Grid(int(times_ns.min()), NS, int(np.ptp(times_ns)) // NS + 1)
    asked: Any = np.zeros(grid.cells)
    for kws in {tuple(row) for row in test.sold_kw(grid.edges_ns[:-1]).tolist()}:
        then = (test.sold_kw(grid.edges_ns[:-1]) == kws).all(axis=1)
        held = [(product, kw) for (product, _), kw in zip(sold, kws, strict=True) if kw > 0.0]
        cells = [expected.of(held, k, facts, grid).mean for k in range(len(held))]
        asked = np.where(then, np.sum(cells, axis=0), asked) if held else asked
    return grid.edges_ns[:-1], asked


def _digest(
    traces: Sequence[Trace], settings: CoreSettings, gate: GateSettings, seed: int, perfect: bool,
    behaviour: Behaviour | None,
) -> str:  # fmt: skip
    # The first rows tell how the file was read: columns, zone, start and step.
    files = [
        (str(trace.path), Path(trace.path).stat().st_size, trace.skip_bad, hashlib.sha256(_head(trace)).hexdigest())
        for trace in traces
    ]
    return repr((files, settings.to_json(), gate, seed, perfect, behaviour, LAM_MAX))


def _head(trace: Trace) -> bytes:
    return next((block.tobytes() for block in trace), b"")


def _save(out: Path, state: State) -> None:
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = out / f"{CHECKPOINT}.tmp"
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        pickle.dump(state, file)
    temporary.replace(out / CHECKPOINT)


def _load(out: Path, what: str) -> State:
    path = out / CHECKPOINT
    try:
        status = path.stat()
    except OSError:
        raise BacktestError(f"--resume {out}: no {CHECKPOINT} there; start the run with --out {out}") from None
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise BacktestError(f"--resume {out}: {CHECKPOINT} can be written by others; it is not loaded")
    try:
        state = pickle.loads(path.read_bytes())  # noqa: S301 - our own file, not writable by others
    except Exception as error:  # damaged bytes raise whatever they happen to spell
        raise BacktestError(f"--resume {out}: {CHECKPOINT} cannot be read ({error}); start again") from error
    if not isinstance(state, State) or state.what != what:
        raise BacktestError(f"--resume {out}: that run was asked something else; give the same files and options")
    return state
