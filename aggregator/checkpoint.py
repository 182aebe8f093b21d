"""Where a stopped backtest goes on from, for the same question alone.

The whole state of a run, pickled into the run's own folder (private to its owner, because loading a pickle runs code):
a run that was stopped goes on to the same result, bit for bit.
"""

from __future__ import annotations

import os
import pickle
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aggregator.backtest import Backtest

CHECKPOINT: Final = "checkpoint.pkl"


class BacktestError(ValueError):
    """A backtest that cannot be run; one line that names the field and the remedy."""


@dataclass
class State:
    """Where a run stands."""

    what: str  # digest of what is wanted, so that only the same run is gone on with
    backtest: Backtest | None = None
    file: int = 0
    row: int = 0
    rejected: Counter[str] = field(default_factory=Counter)


def save(out: Path, state: State) -> None:
    """Put the state in the folder; only we can read it."""
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = out / f"{CHECKPOINT}.tmp"
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        pickle.dump(state, file)
    temporary.replace(out / CHECKPOINT)


def load(out: Path, what: str) -> State:
    """The state that lies in a folder, of the run whose digest is `what`. Raises BacktestError."""
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
