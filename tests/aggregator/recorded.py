"""A run of the golden product as its journal's files: half an hour, with the meter silent for 90 s."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aggregator.contracts import Contract, CoreSettings
from aggregator.journal import Kind
from aggregator.records import TICK
from aggregator.settle import Settler
from droop.products import load
from tests.aggregator.test_settle import BASELINE_KW, QUARTER, Worker

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "settlement"
SILENT_S = range(300, 390)


class Line(Worker):
    """A worker whose ticks say what they knew: baseline and band."""

    def _rows(self, s, now_ns, hz, dev, quality, meter):
        for kind, data in super()._rows(s, now_ns, hz, dev, quality, meter):
            if kind is not Kind.TICKS:
                yield kind, data
                continue
            row = np.frombuffer(data, TICK).copy()
            row["baseline_kw"], row["lo_kw"], row["hi_kw"] = BASELINE_KW, BASELINE_KW - 600.0, BASELINE_KW + 2000.0
            yield kind, row.tobytes()


def record(folder, products=None, seconds=2 * QUARTER + 30):
    """Write FOLDER/journal; products : (id or file, kW), the golden one where unset"""
    sold = products or ((str(GOLDEN / "product.toml"), 1000.0),)
    settings = CoreSettings("CE", 4, tuple(Contract(load(name), kw) for name, kw in sold))
    worker, settler = Line(own=settings), Settler(folder / "journal", lambda _: None)
    for s in range(seconds):
        settler.feed(*worker.second(s, meter=s not in SILENT_S))
    settler.close()
    return folder
