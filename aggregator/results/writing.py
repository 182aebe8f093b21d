"""The files of a run: `days`, `blocks`, `vehicles` and `sessions` in Parquet, and what was asked of the run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import orjson

from aggregator.contracts import CoreSettings
from aggregator.exporting import flat, table
from aggregator.gateways.population import Behaviour
from aggregator.results.collector import Collector
from aggregator.results.periods import Row
from aggregator.results.spool import discard
from settlement.statement import iso
from telemetry.traces import Trace

SETTINGS: Final = "settings.json"
PRETTY: Final = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY


def write(out: Path, gathered: Collector, days: Sequence[Row], blocks: Sequence[Row]) -> None:
    """The tables into the run's folder."""
    for name, rows in (("days", days), ("blocks", blocks)):
        (out / f"{name}.parquet").write_bytes(table([flat(row) for row in rows], "parquet"))
    gathered.vehicles.write(out)
    gathered.sessions.write(out)
    discard(out)


def asked(
    traces: Sequence[Trace], settings: CoreSettings, behaviour: Behaviour, seed: int, signal_digest: str,
    span_ns: tuple[int, int], **more: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """What a run was asked: with this two runs are told apart. JSON-ready.

    settings : as the run began; more : who came, and by which rule was sold, where it was asked
    """
    start_ns, end_ns = span_ns
    return {
        "traces": [
            {"name": Path(trace.path).name, "format": trace.format, "sha256": _digest(trace)} for trace in traces
        ],
        "signal_sha256": signal_digest,
        "start": iso(start_ns),
        "end": iso(end_ns),
        "seed": seed,
        "settings": orjson.loads(settings.to_json()),
        "fleet": {name: plain(value) for name, value in asdict(behaviour).items()},
        **{name: {key: plain(value) for key, value in told.items()} for name, told in more.items()},
    }


def plain(value: Any) -> Any:
    """A figure as JSON can hold it: no infinity."""
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, float) and value in (float("inf"), float("-inf")) else value


def write_asked(out: Path, told: Mapping[str, Any]) -> None:
    """Beside the results."""
    (out / SETTINGS).write_bytes(orjson.dumps(told, option=PRETTY) + b"\n")


def _digest(trace: Trace) -> str:
    """Of the whole file: the same rows, whatever the file is called."""
    with Path(trace.path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
