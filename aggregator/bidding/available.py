"""How much of a product a fleet had to sell, slice by slice: the rows that bids are learned from.

A slice is a settlement interval. A vehicle counts in it if it could be relied on at its begin and was still there at
its end, whatever its driver had told. A slice nobody looked at is missing, not empty. Rows lie as Parquet in a run's
folder; they are of one product, or of one bundle, because what a vehicle can sell depends on it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from aggregator.bidding.products import BidError, Bundle
from droop.capability import Needs
from droop.fleet import PLUGGED, Fleet
from droop.offers import Able, able, each_kw, power_kw
from settlement.align import NS

FILE: Final = "availability.parquet"
# Equal parts of the vehicles that count, in ascending order: how differently they are able.
PARTS: Final = 10
# A look so long after a slice's edge is none [s].
LATE_S: Final = 120
KEY: Final = b"flyball.bundle"

SLICE: Final = np.dtype(
    [
        ("start_ns", "<i8"),
        ("end_ns", "<i8"),
        ("chargers", "<i8"),  # vehicles that could have been there
        ("present", "<i8"),  # that counted: there for all of the slice, and able to sell something
        ("kw", "<f8"),  # sum of what they could sell
        ("power_kw", "<f8"),  # the same with energy without end
        ("up_kwh", "<f8"),  # their energy each way, at the grid
        ("down_kwh", "<f8"),
        ("profile_kw", "<f8", (PARTS,)),  # mean of each part of them, in ascending order
    ]
)

Slices = npt.NDArray[Any]


def row(
    start_ns: int, end_ns: int, chargers: int, can: Able, stayed: npt.NDArray[np.bool_], needs: Needs,
    one_way: Needs | None = None,
) -> Slices:  # fmt: skip
    """SLICE[1]: what the vehicles that stayed could sell. stayed : bool[n] of the rows of `can`"""
    each = np.where(stayed, each_kw(can, needs, one_way), 0.0)
    counts = each > 0.0
    found = np.zeros(1, SLICE)
    found["start_ns"], found["end_ns"] = start_ns, end_ns
    found["chargers"], found["present"] = chargers, int(np.count_nonzero(counts))
    found["kw"], found["power_kw"] = each.sum(), power_kw(can, needs, one_way)[stayed].sum()
    found["up_kwh"], found["down_kwh"] = can.up_kwh[counts].sum(), can.down_kwh[counts].sum()
    found["profile_kw"] = profile(each[counts])
    return found


def profile(each: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """float64[PARTS]: mean of each of as many equal parts of the vehicles, smallest first; 0 of none."""
    if not each.size:
        return np.zeros(PARTS)
    # The integral of the sorted sizes between equal shares of the fleet, whatever its number.
    total = np.concatenate([[0.0], np.cumsum(np.sort(each))])
    edges = np.interp(np.linspace(0.0, each.size, PARTS + 1), np.arange(each.size + 1), total)
    return np.asarray(np.diff(edges) * PARTS / each.size)


class Watcher:
    """Looks at a fleet at every edge of a slice and keeps what it saw.

    chargers : rows of the fleet; None: all of them
    silent_s : a vehicle that has not reported for longer counts nothing [s]
    """

    def __init__(self, bundle: Bundle, chargers: int | None = None, silent_s: float = 300.0) -> None:
        self.bundle = bundle
        self.needs, self.one_way, self.slice_ns = bundle.needs, bundle.one_way_needs, bundle.slice_s * NS
        self.within_s, self.silent_s, self._chargers = bundle.within_s, silent_s, chargers
        self.next_ns = 0
        self._before: tuple[int, Able, Any, int] | None = None
        self._rows: list[Slices] = []

    def look(self, fleet: Fleet, now_ns: int) -> None:
        """Close the slice that has ended and begin the next; to be called at, or soon after, `next_ns`.

        The first call only says where slices begin: nobody has reported yet.
        """
        start_ns = now_ns - now_ns % self.slice_ns
        if self.next_ns == 0:
            self.next_ns = start_ns + self.slice_ns
        if now_ns < self.next_ns:
            return
        late = now_ns - start_ns > LATE_S * NS
        if self._before is not None and not late:
            begun_ns, can, session, chargers = self._before
            if begun_ns + self.slice_ns == start_ns:
                stayed = (fleet.state == PLUGGED) & (fleet.session == session)
                self._rows.append(row(begun_ns, start_ns, chargers, can, stayed, self.needs, self.one_way))
        self.next_ns = start_ns + self.slice_ns
        if late:
            self._before = None
            return
        hours = max(self.needs.up_h, self.needs.down_h)
        can = able(fleet, now_ns, hours, self.within_s, self.silent_s)
        chargers = fleet.state.size if self._chargers is None else self._chargers
        self._before = (start_ns, can, fleet.session.copy(), chargers)

    @property
    def rows(self) -> Slices:
        """SLICE[n]: what was seen so far, oldest first."""
        if len(self._rows) > 1:
            self._rows = [np.concatenate(self._rows)]
        return self._rows[0] if self._rows else np.zeros(0, SLICE)


def write(path: Path, rows: Slices, bundle: Bundle) -> None:
    """Rows as Parquet, which says what they are of."""
    columns = {name: rows[name] for name in SLICE.names or () if name != "profile_kw"}
    columns |= {f"profile_{k}_kw": rows["profile_kw"][:, k] for k in range(PARTS)}
    table = pa.table({name: np.ascontiguousarray(column) for name, column in columns.items()})
    pq.write_table(table.replace_schema_metadata({KEY: bundle.key.encode()}), path)


def read(path: Path, bundle: Bundle) -> Slices:
    """The rows of a file that `write` made. Raises BidError for one of another product, or for none of ours."""
    try:
        table = pq.read_table(path)
        of = (table.schema.metadata or {}).get(KEY, b"").decode()
        rows = np.zeros(table.num_rows, SLICE)
        for name in SLICE.names or ():
            if name != "profile_kw":
                rows[name] = table.column(name).to_numpy()
        for k in range(PARTS):
            rows["profile_kw"][:, k] = table.column(f"profile_{k}_kw").to_numpy()
    except (pa.ArrowException, KeyError, UnicodeDecodeError) as error:
        raise BidError(f"--history {path}: not a file of availability ({error}); give the one of a backtest") from error
    if of != bundle.key:
        raise BidError(f"--history {path}: is of {of or 'no product'}, not of {bundle.key}; run the backtest with it")
    return checked(rows, str(path))


def checked(rows: Slices, where: str) -> Slices:
    """Rows in order of time, each once. Raises BidError for what no fleet can have had."""
    names = ("kw", "power_kw", "up_kwh", "down_kwh")
    for name in names:
        bad = ~(np.isfinite(rows[name]) & (rows[name] >= 0.0))
        if bad.any():
            raise BidError(
                f"--history {where}: row {int(np.flatnonzero(bad)[0])}: field `{name}` takes a number of 0 or more, "
                f"not {rows[name][bad][0]:g}"
            )
    if (rows["present"] > rows["chargers"]).any() or (rows["end_ns"] <= rows["start_ns"]).any():
        raise BidError(f"--history {where}: more vehicles than chargers, or a slice that ends before it begins")
    order = np.argsort(rows["start_ns"], kind="stable")
    rows = rows[order]
    return rows[np.append(True, np.diff(rows["start_ns"]) > 0)] if rows.size else rows
