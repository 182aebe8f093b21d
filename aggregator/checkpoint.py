"""Where a stopped backtest goes on from, for the same question alone.

The whole state of a run, pickled into the run's own folder (private to its owner, because loading a pickle runs code):
a run that was stopped goes on to the same result, bit for bit.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aggregator.backtest import Backtest
from aggregator.contracts import CoreSettings
from aggregator.fleets.composing import Composed
from aggregator.gateways.population import Behaviour
from aggregator.signal_file import Recorded
from droop.split import LAM_MAX
from telemetry.quality import GateSettings
from telemetry.traces import Trace

if TYPE_CHECKING:
    from aggregator.bidding.selling import Seller

CHECKPOINT: Final = "checkpoint.pkl"


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


def digest(
    traces: Sequence[Trace], settings: CoreSettings, gate: GateSettings, seed: int, perfect: bool,
    behaviour: Behaviour | None,
) -> str:  # fmt: skip
    """What a run was asked, but for its signal, its guests and its rule of bids."""
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


def sealed(signal: Recorded | None) -> str:
    """A signal in a word; empty for none."""
    return "" if signal is None else hashlib.sha256(signal.t_ns.tobytes() + signal.share.tobytes()).hexdigest()


def guests(fleet: Composed | None) -> str:
    """Who comes, in a word; empty where cars are drawn."""
    if fleet is None:
        return ""
    return hashlib.sha256(b"".join(column.tobytes() for column in fleet.guests)).hexdigest()


def bids(seller: Seller | None) -> str:
    """The rule of bids and its history; empty for none."""
    if seller is None:
        return ""
    return repr((seller.rule, seller.bundle.key, hashlib.sha256(seller.known().tobytes()).hexdigest()))


def save(out: Path, state: State) -> None:
    """Put the state in the folder; only we can read it."""
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = out / f"{CHECKPOINT}.tmp"
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        pickle.dump(state, file)
    temporary.replace(out / CHECKPOINT)


def load(out: Path, what: str) -> State:
    """The state that lies in a folder, of the run that was asked `what`. Raises BacktestError."""
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
