"""`flyball backtest`: files in, a result out; progress and checkpoints around `backtest`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aggregator import checkpoint, reserved
from aggregator.backtest import Backtest
from aggregator.backtest_result import result
from aggregator.billing import Files
from aggregator.checkpoint import BacktestError as BacktestError
from aggregator.checkpoint import State
from aggregator.config import QualityTable
from aggregator.contracts import CoreSettings
from aggregator.declared import SETTLE_NS
from aggregator.fleets.composing import Composed
from aggregator.gateways.population import Behaviour
from aggregator.oversold import Oversold
from aggregator.results.collector import Collector
from aggregator.results.wear import BATTERY_PRICE
from aggregator.signal_file import Recorded
from aggregator.validity import check_valid
from settlement.payment import PaymentError
from settlement.prices import PriceError
from telemetry.quality import GateSettings
from telemetry.samples import SIGNAL, Block
from telemetry.traces import Trace

if TYPE_CHECKING:
    from aggregator.bidding.selling import Seller

# Between two checkpoints there lies an hour of the recording, and of our time what it takes to be worth one.
CHECKPOINT_NS: Final = 3_600_000_000_000
CHECKPOINT_S: Final = 30.0
# Rows between two looks at progress and at the wish to stop.
CHUNK: Final = 3_600

Progress = Callable[[int, int], bool]
"""Told the time reached and the time of the last row known [ns]; False stops the run."""


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
    told = checkpoint.sealed(signal) + checkpoint.guests(fleet) + checkpoint.bids(seller) + f"{battery_price:g}"
    what = checkpoint.digest(traces, settings, gate, seed, perfect, behaviour) + told
    state = checkpoint.load(out, what) if resume and out is not None else State(what)
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
                settings, gate, first_ns - SETTLE_NS, seed, perfect, behaviour, signal, folder=out,
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
            checkpoint.save(out, state)
        if not progress(now_ns, max(last_ns, end_ns)):
            if out is not None:
                checkpoint.save(out, state)
            return None
    if state.backtest is None:
        raise BacktestError(f"{traces[0].path}: no usable row; `flyball inspect` says what is in the file")
    if out is not None:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return result(
            traces, state.backtest, state.rejected, out, prices, seed, checkpoint.sealed(signal), source, fleet
        )
    except (PriceError, PaymentError):
        if out is not None:
            checkpoint.save(out, state)  # with the prices mended, --resume has nothing left to do but to settle
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
