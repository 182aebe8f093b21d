"""`flyball backtest`: files in, a result out; progress, checkpoints and reports around `backtest`.

A checkpoint is the whole state of a run, pickled into the run's own folder (private to its owner, because
loading a pickle runs code), so that a run that was stopped goes on to the same result, bit for bit.
"""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson

from aggregator import backtest_series as series
from aggregator import billing, exporting, managing, reserved, whatif
from aggregator.backtest import Backtest
from aggregator.bidding import available
from aggregator.billing import Files
from aggregator.config import QualityTable
from aggregator.contracts import CoreSettings
from aggregator.fleets.composing import Composed
from aggregator.gateways.population import Behaviour
from aggregator.oversold import Oversold
from aggregator.results import periods, writing
from aggregator.results.collector import Collector
from aggregator.results.wear import BATTERY_PRICE
from aggregator.signal_file import Recorded
from aggregator.validity import check_valid
from droop.split import LAM_MAX
from settlement.align import NS
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
# Between two checkpoints there lies an hour of the recording, and of our time what it takes to be worth one.
CHECKPOINT_NS: Final = 3_600_000_000_000
CHECKPOINT_S: Final = 30.0
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
    clock: Callable[[], float] = time.monotonic, source: Sequence[Mapping[str, Any]] = (),
    battery_price: float = BATTERY_PRICE, fleet: Composed | None = None, seller: Seller | None = None,
    end_ns: int = 0,
) -> dict[str, Any] | None:  # fmt: skip
    """The result of driving the fleet over the traces, one after the other; None if stopped.

    behaviour : how imperfect the fleet is; takes precedence over `perfect`
    out       : folder for checkpoints and results; resume goes on from its checkpoint
    any_date  : sell a product although its market did not have it on the trace's days
    warn      : told once, after the first rows, that more is sold than the fleet can sustain
    prices    : what was paid: the result then has an `income`
    signal    : a balancing authority's, for the products on one; without traces its times alone drive the run
    clock     : our time [s], by which checkpoints are not too many
    source    : what was found in folders of traces, for the result to say
    battery_price : of a kilowatt-hour of battery, for what a stay wore of it
    fleet     : who comes to the chargers, instead of cars drawn for each; the result then has a `fleet`
    seller    : who says what is sold of each block; None: what the contracts say
    end_ns    : time of the last row, where that is known; 0: only as far as the traces have been read

    Raises BacktestError, ProductDateError, TraceError, and where a price is missing MissingPriceError, the checkpoint
    kept.
    """
    check(traces, settings, signal, any_date=any_date)
    told = _sealed(signal) + _guests(fleet) + _asked_of(seller) + f"{battery_price:g}"
    what = _digest(traces, settings, gate, seed, perfect, behaviour) + told
    state = _load(out, what) if resume and out is not None else State(what)
    if state.backtest is not None:
        state.backtest.gathered.move(out)
    if state.backtest is not None and out is not None:
        state.backtest.keep_in(out)
    products = [contract.product for contract in settings.contracts]
    saved_ns: int | None = None
    saved_s = -math.inf
    oversold = Oversold()
    for block, last_ns in _blocks(traces, state) if traces or signal is None else _turns(signal, state):
        first_ns = int(block["t_ns"][0])
        if not any_date:
            check_valid(products, int(block["t_ns"][-1]))
        if state.backtest is None:
            state.backtest = Backtest(
                settings, gate, first_ns, seed, perfect, behaviour, signal, folder=out,
                gathered=Collector(settings, first_ns, out, battery_price),
                guests=None if fleet is None else fleet.guests, seller=seller,
            )  # fmt: skip
        saved_ns = first_ns if saved_ns is None else saved_ns
        if traces:
            state.backtest.feed(block)
        else:
            state.backtest.follow(int(block.size))
        state.row += int(block.size)
        now_ns = int(block["t_ns"][-1])
        if said := oversold.text(state.backtest.core, partial(reserved.figures, state.backtest.core, now_ns), now_ns):
            warn(said)
        state.backtest.settle_along()
        if out is not None and now_ns - saved_ns >= CHECKPOINT_NS and clock() - saved_s >= CHECKPOINT_S:
            saved_ns, saved_s = now_ns, clock()
            _save(out, state)
        if not progress(now_ns, max(last_ns, end_ns)):
            if out is not None:
                _save(out, state)
            return None
    if state.backtest is None:
        raise BacktestError(f"{traces[0].path}: no usable row; `flyball inspect` says what is in the file")
    if out is not None:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return result(traces, state.backtest, state.rejected, out, prices, seed, _sealed(signal), source, fleet)
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


def _guests(fleet: Composed | None) -> str:
    if fleet is None:
        return ""
    return hashlib.sha256(b"".join(column.tobytes() for column in fleet.guests)).hexdigest()


def _asked_of(seller: Seller | None) -> str:
    if seller is None:
        return ""
    return repr((seller.rule, seller.bundle.key, hashlib.sha256(seller.known().tobytes()).hexdigest()))


def result(
    traces: Sequence[Trace], test: Backtest, rejected: Counter[str], out: Path | None, prices: Files | None = None,
    seed: int = 1, signal_digest: str = "", source: Sequence[Mapping[str, Any]] = (), fleet: Composed | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The result's keys, as scripts rely on them."""
    gathered = test.finish()
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
    if source:
        row["files"] = {part: [entry for found in source for entry in found[part]] for part in source[0]}
    if fleet is not None:
        row["fleet"] = fleet.about | (test.fleet.arrivals() or {})
    if test.seller is not None:
        row["bids"] = test.seller.result()
    bill = prices.bill(statements) if prices is not None else None
    if bill is not None:
        row["income"] = billing.summary(bill)
    products = {c.product.id: c.product for c in test.settings.contracts}
    days, blocks = (make(statements, products, bill, gathered) for make in (periods.days, periods.blocks))
    row |= {**gathered.told(), "days": [_plain(day) for day in days], "blocks": len(blocks)}
    row["worst_blocks"] = [_plain(block) for block in periods.worst(blocks)]
    if out is not None:
        writing.write(out, gathered, days, blocks)
        span_ns = (gathered.start_ns, test.core.last_sample[0])
        behaviour = test.fleet.behaviour
        more = {} if fleet is None else {"guests": fleet.about | {"sha256": _guests(fleet)}}
        more |= {} if test.seller is None else {"bids": test.seller.asked()}
        told = writing.asked(traces, gathered.settings, behaviour, seed, signal_digest, span_ns, **more)
        writing.write_asked(out, told)
        _write(out, row, test, statements)
        if bill is not None:
            (out / "lines.csv").write_bytes(exporting.table(billing.line_rows(bill), "csv"))
    return row


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Amounts as texts that keep their cents."""
    return {name: str(value) if isinstance(value, Decimal) else value for name, value in row.items()}


def _products(test: Backtest) -> list[dict[str, Any]]:
    """What was sold [kW]; the mean over the settled intervals where it changed."""
    first_ns = test.sales[0][0] if test.sales else test.last_ns - 1
    starts_ns = np.arange(first_ns, test.last_ns, NS * test.settings.interval_s, dtype=np.int64)
    mean = test.sold_kw(starts_ns).mean(axis=0) if starts_ns.size else np.zeros(len(test.settings.contracts))
    return [
        {"id": contract.product.id, "sold_kw": float(kw), **whatif.told(contract.product)}
        for contract, kw in zip(test.settings.contracts, mean, strict=True)
    ]


def _write(out: Path, row: dict[str, Any], test: Backtest, statements: list[Statement]) -> None:
    """Result, statements, the series behind them and a page to look at."""
    from aggregator.results import page  # a second of import for those who want it

    out.mkdir(parents=True, exist_ok=True)
    pretty = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY
    (out / "result.json").write_bytes(orjson.dumps(row, option=pretty))
    (out / "statements.json").write_bytes(orjson.dumps([s.to_dict() for s in statements], option=pretty))
    for name, kept in (("frequency", test.samples_kept), ("meter", test.meters_kept)):
        series.write(out / f"{name}.parquet", kept)
    if test.watcher is not None:
        available.write(out / available.FILE, test.watcher.rows, test.watcher.bundle)
    title = ", ".join(
        ", ".join((f"{sold['sold_kw']:g} kW of {sold['id']}", *sold.get("changed", ()))) for sold in row["products"]
    )
    shown = page.Shown(title, row, series.of(test), statements, test.gathered.spans.rows, _facts(row))
    page.write(out / "report.html", shown)
    (out / CHECKPOINT).unlink(missing_ok=True)
    test.samples_kept.discard()
    test.meters_kept.discard()


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


def _digest(
    traces: Sequence[Trace], settings: CoreSettings, gate: GateSettings, seed: int, perfect: bool,
    behaviour: Behaviour | None,
) -> str:  # fmt: skip
    # The first rows tell how the file was read: columns, zone, start and step.
    files = [
        (
            str(trace.path),
            Path(trace.path).stat().st_size,
            trace.skip_bad,
            hashlib.sha256(_head(trace)).hexdigest(),
            getattr(trace, "span_ns", None),
        )
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
