"""`flyball backtest`: files in, a result out; progress and checkpoints around `backtest`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from aggregator import checkpoint, reserved
from aggregator.backtest import Backtest
from aggregator.backtest_result import result
from aggregator.checkpoint import BacktestError as BacktestError
from aggregator.checkpoint import State
from aggregator.config import Config, QualityTable
from aggregator.contracts import CoreSettings
from aggregator.declared import SETTLE_NS
from aggregator.fleets.composing import guests_of
from aggregator.gateways.population import Behaviour
from aggregator.oversold import Oversold
from aggregator.results.collector import Collector
from aggregator.signal_file import Recorded
from aggregator.validity import check_valid
from aggregator.wanted import Wanted
from settlement.payment import PaymentError
from settlement.prices import PriceError
from telemetry.quality import GateSettings
from telemetry.samples import SIGNAL, Block
from telemetry.traces import Trace

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


def wanted_of(
    loaded: Config, settings: CoreSettings, chargers: Behaviour, traces: Sequence[Trace],
    signal: Recorded | None = None, **more: Any,
) -> Wanted:  # fmt: skip
    """What a configuration makes of these recordings: its gate, its seed, and who comes to its chargers.

    settings, chargers : of the configuration, with what is changed of them; more : further fields of `Wanted`

    Raises as `check`, FleetError, and what the readers of sessions and cars raise.
    """
    check(traces, settings, signal, any_date=more.get("any_date", False))
    return Wanted(
        traces, settings, recorded_gate(settings.nominal_hz, loaded.quality), loaded.fleet.seed, behaviour=chargers,
        signal=signal, fleet=guests_of(loaded.fleet, settings.tariff, chargers, traces, signal), **more,
    )  # fmt: skip


def run(
    wanted: Wanted, out: Path | None = None, *, resume: bool = False, progress: Progress = lambda *_: True,
    warn: Callable[[str], object] = lambda _: None, clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any] | None:  # fmt: skip
    """The result of driving the fleet by what is recorded; None if stopped.

    out   : folder for checkpoints and results; resume goes on from its checkpoint
    warn  : told once, after the first rows, that more is sold than the fleet can sustain
    clock : our time [s], by which checkpoints are not too many

    Raises BacktestError, ProductDateError, TraceError, and where a price is missing MissingPriceError, the checkpoint
    kept.
    """
    check(wanted.traces, wanted.settings, wanted.signal, any_date=wanted.any_date)
    keeping = _Keeping(wanted, out, clock, resume)
    state, oversold = keeping.state, Oversold()
    for block, last_ns in _rows(wanted, state):
        if not wanted.any_date:
            check_valid(wanted.products, int(block["t_ns"][-1]))
        test = _test(wanted, state, out, block)
        if wanted.traces:
            test.feed(block)
        else:
            test.follow(int(block.size))
        state.row += int(block.size)
        now_ns = int(block["t_ns"][-1])
        if said := oversold.text(test.core, partial(reserved.figures, test.core, now_ns), now_ns):
            warn(said)
        test.settle_along()
        keeping.along(int(block["t_ns"][0]), now_ns)
        if not progress(now_ns, max(last_ns, wanted.end_ns)):
            keeping.save()
            return None
    if state.backtest is None:
        raise BacktestError(f"{wanted.traces[0].path}: no usable row; `flyball inspect` says what is in the file")
    if out is not None:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return result(wanted, state.backtest, state.rejected, out)
    except (PriceError, PaymentError):
        keeping.save()  # with the prices mended, --resume has nothing left to do but to settle
        raise


class _Keeping:
    """Checkpoints of a run in its folder, not too many of them; none where it has no folder."""

    def __init__(self, wanted: Wanted, out: Path | None, clock: Callable[[], float], resume: bool) -> None:
        self._out, self._clock = out, clock
        self._saved_ns: int | None = None
        self._saved_s = -math.inf
        self.state = State(wanted.digest)
        if resume and out is not None:
            self.state = checkpoint.load(out, self.state.what)
        if self.state.backtest is not None and out is not None:
            self.state.backtest.gathered.move(out)
            self.state.backtest.keep_in(out)

    def along(self, first_ns: int, now_ns: int) -> None:
        """Keep the state if it is worth it, now that the rows from `first_ns` to `now_ns` are done."""
        self._saved_ns = first_ns if self._saved_ns is None else self._saved_ns
        if now_ns - self._saved_ns >= CHECKPOINT_NS and self._clock() - self._saved_s >= CHECKPOINT_S:
            self._saved_ns, self._saved_s = now_ns, self._clock()
            self.save()

    def save(self) -> None:
        """Keep the state as it is."""
        if self._out is not None:
            checkpoint.save(self._out, self.state)


def _test(wanted: Wanted, state: State, out: Path | None, block: Block) -> Backtest:
    """The backtest that the state holds; it begins with the first row."""
    if state.backtest is None:
        settings, first_ns = wanted.settings, int(block["t_ns"][0])
        state.backtest = Backtest(
            settings, wanted.gate, first_ns - SETTLE_NS, wanted.seed, wanted.perfect, wanted.behaviour, wanted.signal,
            folder=out,
            gathered=Collector(settings, first_ns, out, wanted.battery_price),
            guests=None if wanted.fleet is None else wanted.fleet.guests, seller=wanted.seller,
        )  # fmt: skip
    return state.backtest


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


def _rows(wanted: Wanted, state: State) -> Iterator[tuple[Block, int]]:
    """What drives the run, from where the state stands: traces, or a signal alone."""
    if wanted.traces or wanted.signal is None:
        return _blocks(wanted.traces, state)
    return _turns(wanted.signal, state)


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
