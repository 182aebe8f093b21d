"""What is wanted of a backtest, in one record: all that its result depends on.

The command and the call from Python make it, the run reads it, and its digest tells one run from another: a run that
was stopped goes on only where the same is wanted. A field that is added here enters the digest by itself; only those of
`BESIDE` do not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import singledispatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aggregator.billing import Files
from aggregator.contracts import CoreSettings
from aggregator.fleets.composing import Composed
from aggregator.gateways.population import Behaviour
from aggregator.results.wear import BATTERY_PRICE
from aggregator.signal_file import Recorded
from droop.products import Product
from droop.split import LAM_MAX
from telemetry.quality import GateSettings
from telemetry.traces import Trace

if TYPE_CHECKING:
    from aggregator.bidding.selling import Seller

# They refuse a run, price it, say where it came from and how far it goes; what it decides, none of them changes.
BESIDE: Final = frozenset({"any_date", "prices", "source", "end_ns"})


@dataclass(frozen=True)
class Wanted:
    """What a fleet is to be driven by, and how.

    traces    : recorded frequency, played one after the other; none where a signal alone drives the run
    settings  : the core's: what is sold, the fleet's size, its sites
    gate      : by which rows are judged
    behaviour : how imperfect the fleet is; takes precedence over `perfect`
    signal    : a balancing authority's, for the products on one
    fleet     : who comes to the chargers, instead of cars drawn for each; the result then has a `fleet`
    seller    : who says what is sold of each block; None: what the contracts say
    battery_price : of a kilowatt-hour of battery, for what a stay wore of it
    any_date  : sell a product although its market did not have it on the traces' days
    prices    : what was paid: the result then has an `income`
    source    : what was found in folders of traces, for the result to say
    end_ns    : time of the last row, where that is known; 0: only as far as the traces have been read
    """

    traces: Sequence[Trace]
    settings: CoreSettings
    gate: GateSettings
    seed: int = 1
    perfect: bool = False
    behaviour: Behaviour | None = None
    signal: Recorded | None = None
    fleet: Composed | None = None
    seller: Seller | None = None
    battery_price: float = BATTERY_PRICE
    any_date: bool = False
    prices: Files | None = None
    source: Sequence[Mapping[str, Any]] = ()
    end_ns: int = 0

    @property
    def products(self) -> list[Product]:
        """What is sold, in the order of its contracts."""
        return [contract.product for contract in self.settings.contracts]

    @property
    def digest(self) -> str:
        """All of it but `BESIDE`, in a word."""
        told = [(one.name, _told(getattr(self, one.name))) for one in fields(self) if one.name not in BESIDE]
        return hashlib.sha256(repr((LAM_MAX, told)).encode()).hexdigest()


def signal_digest(signal: Recorded | None) -> str:
    """A signal in a word; empty for none."""
    return "" if signal is None else _sha(signal.t_ns.tobytes() + signal.share.tobytes())


def guests_digest(fleet: Composed) -> str:
    """Who comes, in a word."""
    return _sha(b"".join(column.tobytes() for column in fleet.guests))


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@singledispatch
def _told(value: object) -> str:
    """A field as the digest has it: plain values as they are written; a seller says what was asked of it."""
    return repr(value.asked() if hasattr(value, "asked") else value)


@_told.register(list)
@_told.register(tuple)
def _(values: Sequence[object]) -> str:
    return repr([_told(value) for value in values])


@_told.register
def _(trace: Trace) -> str:
    # The first rows tell how the file was read: columns, zone, start and step.
    head = next((block.tobytes() for block in trace), b"")
    span_ns = getattr(trace, "span_ns", None)
    size = Path(trace.path).stat().st_size
    return repr((trace.path, size, trace.format, trace.nominal_hz, trace.skip_bad, trace.repaired, _sha(head), span_ns))


@_told.register
def _(settings: CoreSettings) -> str:
    return settings.to_json().decode()


@_told.register
def _(signal: Recorded) -> str:
    return signal_digest(signal)


@_told.register
def _(fleet: Composed) -> str:
    return guests_digest(fleet)
