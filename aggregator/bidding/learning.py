"""Drift from recordings: a signal as it is, a frequency through the products' curves, block by block.

What a product would have asked of one kW is all that is looked at: no vehicle, no limits. Delays and ramps move energy
by seconds and are left out; triggers answer to rare events and have no drift.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aggregator.bidding.products import BidError, Bundle
from aggregator.signal_file import Recorded
from droop.curve import fractions
from droop.drift import Drift, learned
from settlement.align import NS
from telemetry.traces import Trace

# There and back through charger and battery: 0.95 each way.
ROUND_TRIP_FRAC = 0.9


def of_signal(bundle: Bundle, recorded: Recorded, efficiency_frac: float = ROUND_TRIP_FRAC) -> Drift:
    """The drift of a regulation signal. Raises BidError where none of the products is on a signal."""
    share = np.zeros(recorded.share.size)
    for product, ratio in zip(bundle.products, bundle.ratios, strict=True):
        if product.input == "signal":
            share += ratio * np.clip(recorded.share, min(*product.curve_frac, 0.0), max(*product.curve_frac, 0.0))
    if not any(product.input == "signal" for product in bundle.products):
        raise BidError(f"--signal: {bundle.name} follows no signal; give a recorded frequency with --trace")
    return _learned(bundle, recorded.t_ns, share, efficiency_frac)


def of_traces(bundle: Bundle, traces: Sequence[Trace], efficiency_frac: float = ROUND_TRIP_FRAC) -> Drift:
    """The drift of the answer to recorded frequencies. Raises BidError for another grid's, or a signal's product."""
    if any(product.input != "frequency" or product.trigger is not None for product in bundle.products):
        raise BidError(f"--trace: {bundle.name} is not answered by a curve all the time; leave --trace out")
    times, values = [], []
    for trace in traces:
        if trace.nominal_hz != bundle.products[0].nominal_hz:
            raise BidError(f"--trace {trace.path}: a {trace.nominal_hz:g} Hz grid; give one of the product's")
        for block in trace:
            good = block["quality"] == 0
            hz = np.where(good, block["hz"], np.nan)
            parts = [
                ratio * fractions(product.response, hz - product.nominal_hz)
                for product, ratio in zip(bundle.products, bundle.ratios, strict=True)
            ]
            times.append(block["t_ns"])
            values.append(np.where(good, np.sum(parts, axis=0), np.nan))
    if not times:
        raise BidError("--trace: no usable row; `flyball inspect` says what is in the file")
    t_ns, share = np.concatenate(times), np.concatenate(values)
    ahead = np.append(True, t_ns[1:] > np.maximum.accumulate(t_ns)[:-1])
    return _learned(bundle, t_ns[ahead], share[ahead], efficiency_frac)


def _learned(bundle: Bundle, t_ns: npt.NDArray[np.int64], share: npt.NDArray[np.float64], frac: float) -> Drift:
    edges = [int(t_ns[0])]
    block = bundle.block_at(edges[0])
    if block.start_ns != edges[0]:
        edges = [block.end_ns]
    # The last stamp stands for a moment after it.
    while (end_ns := bundle.block_at(edges[-1]).end_ns) <= int(t_ns[-1]) + 10 * NS:
        edges.append(end_ns)
    try:
        return learned(t_ns, share, np.array(edges, np.int64), frac)
    except ValueError as error:
        raise BidError(f"drift: {error}") from error
