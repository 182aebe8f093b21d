"""A run of the golden product as its journal's files: half an hour, with the meter silent for 90 s."""

from __future__ import annotations

from pathlib import Path

from aggregator.contracts import Contract, CoreSettings
from aggregator.settle import Settler
from droop.products import load
from tests.aggregator.test_settle import QUARTER, Worker

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "settlement"
SILENT_S = range(300, 390)


def record(folder, products=None, seconds=2 * QUARTER + 30):
    """Write FOLDER/journal; products : (id or file, kW), the golden one where unset"""
    sold = products or ((str(GOLDEN / "product.toml"), 1000.0),)
    settings = CoreSettings("CE", 4, tuple(Contract(load(name), kw) for name, kw in sold))
    worker, settler = Worker(own=settings), Settler(folder / "journal", lambda _: None)
    for s in range(seconds):
        settler.feed(*worker.second(s, meter=s not in SILENT_S))
    settler.close()
    return folder
