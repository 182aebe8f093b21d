"""A recorded signal of a balancing authority, for a backtest: times and shares of what is sold, -1..1.

A published file that `telemetry.traces.open_signal` knows, its missing values left out, or a CSV file with the columns
`time` (ISO 8601, UTC unless it names its offset, ascending) and `signal` (positive: into the grid). A file that is
neither is refused by name; nothing of it is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from telemetry.traces import EmptyTrace, SignalTrace, UnknownFormat, open_signal

UTC: Final = pa.timestamp("ns", tz="UTC")
COMPUTE: Final[Any] = pc


class SignalError(ValueError):
    """A signal that cannot be followed; the message names the file, the row and the remedy."""


class Recorded(NamedTuple):
    """A signal, ascending in time.

    t_ns  : int64[n]
    share : float64[n]  of what is sold in its direction, -1..1
    """

    t_ns: npt.NDArray[np.int64]
    share: npt.NDArray[np.float64]


def read(path: Path, *, tz: str | None = None, skip_bad: bool = False) -> Recorded:
    """The signal in a file.

    tz, skip_bad : of a published file: its zone where it is not the publisher's; drop what cannot be read

    Raises SignalError, of a published file TraceError.
    """
    if not path.is_file():
        raise SignalError(f"{path}: no such signal file; give a recorded one")
    try:
        trace = open_signal(path, tz=tz, skip_bad=skip_bad)
    except (UnknownFormat, EmptyTrace):
        return _plain(path)
    return _published(trace)


def _published(trace: SignalTrace) -> Recorded:
    """What stands in a published file; beyond -1..1 its values are rounded by a millionth at most."""
    blocks = [block[np.isfinite(block["frac"])] for block in trace]
    if not any(block.size for block in blocks):
        raise SignalError(f"{trace.path}: no value; give a recorded signal")
    rows = np.concatenate(blocks)
    found = Recorded(rows["t_ns"].astype(np.int64), np.clip(rows["frac"].astype(np.float64), -1.0, 1.0))
    check(found, str(trace.path))
    return found


def _plain(path: Path) -> Recorded:
    options = csv.ConvertOptions(column_types={"time": pa.string(), "signal": pa.float64()})
    try:
        table = csv.read_csv(path, convert_options=options)
    except OSError as error:
        raise SignalError(f"{path}: cannot be read: {error.strerror or error}") from error
    except pa.ArrowInvalid as error:
        raise SignalError(f"{path}: not a CSV file of times and signals: {' '.join(str(error).split())}") from error
    for name in ("time", "signal"):
        if name not in table.column_names:
            raise SignalError(f"{path}: no column `{name}`; its first line names the columns `time,signal`")
    if not table.num_rows:
        raise SignalError(f"{path}: no row; give a recorded signal")
    found = Recorded(_times(path, table["time"]), np.array(table["signal"].to_numpy(), np.float64))
    check(found, str(path))
    return found


def check(signal: Recorded, where: str) -> None:
    """Raises SignalError, which names `where` and the row (the first is 1), for a signal that cannot be followed."""
    bad = np.flatnonzero(~(np.abs(signal.share) <= 1.0))
    if bad.size:
        raise SignalError(f"{where}: row {bad[0] + 1}: `signal` takes -1..1, not {signal.share[bad[0]]:g}")
    back = np.flatnonzero(np.diff(signal.t_ns) <= 0)
    if back.size:
        raise SignalError(
            f"{where}: row {back[0] + 2}: `time` does not lie after the row before; order the rows by time"
        )


def _times(path: Path, column: Any) -> npt.NDArray[np.int64]:
    """Nanoseconds since 1970 UTC."""
    # A time without an offset is read as UTC: with one, arrow wants it in every row.
    for kind in (UTC, pa.timestamp("ns")):
        try:
            return np.array(COMPUTE.cast(column, kind).cast(pa.int64()).to_numpy(), np.int64)
        except pa.ArrowInvalid as error:
            last = error
    raise SignalError(f"{path}: `time` takes ISO 8601, all rows with an offset or none: {' '.join(str(last).split())}")
