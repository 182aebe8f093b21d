"""`flyball sample`: a made-up recording, for who has none at hand."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from aggregator.cli.output import Json, app, emit, figures, writable

# Always the same day: what is computed from it can be compared.
BEGINS: Final = datetime(2026, 1, 1, tzinfo=UTC)
HOURS_MOST: Final = 8784.0
ROWS_MOST: Final = 40_000_000


@app.command(epilog="Example: flyball sample day.csv.gz && flyball inspect day.csv.gz")
def sample(
    file: Annotated[Path, typer.Argument(help="The file to write: CSV, gzipped where its name ends in .gz.")],
    hours: Annotated[float, typer.Option(help="How long it is [h].")] = 24.0,
    step_s: Annotated[float, typer.Option(help="Seconds from row to row.")] = 1.0,
    nominal_hz: Annotated[float, typer.Option(help="50 or 60.")] = 50.0,
    seed: Annotated[int, typer.Option(help="Of all that is random; the same seed, the same file.", min=0)] = 1,
    json: Json = None,
) -> None:
    """Write a made-up recording of the frequency, to try the other commands with.

    It wanders as that of Continental Europe does, and every few minutes a generator is lost. No grid was measured.
    """
    if nominal_hz not in (50.0, 60.0):
        raise ValueError(f"--nominal-hz {nominal_hz:g}: give 50 or 60")
    if not 0.0 < hours <= HOURS_MOST:
        raise ValueError(f"--hours {hours:g}: give a time above 0, up to a year ({HOURS_MOST:g})")
    if not 0.001 <= step_s <= 3600.0 or not 1 <= (rows := round(hours * 3600.0 / step_s)) <= ROWS_MOST:
        raise ValueError(f"--step-s {step_s:g}: give 0.001 to 3600 s, for 1 to {ROWS_MOST:,} rows")
    writable(str(file), "FILE")
    writable(json)
    hz = _write(file, rows, step_s, nominal_hz, seed)
    result: dict[str, Any] = {
        "file": str(file), "rows": rows, "begins": BEGINS.isoformat(), "step_s": step_s,
        "mean_hz": float(hz.mean()), "lowest_hz": float(hz.min()), "highest_hz": float(hz.max()),
    }  # fmt: skip
    emit(result, json, figures("made up, not measured", result))


def _write(file: Path, rows: int, step_s: float, nominal_hz: float, seed: int) -> Any:
    """Its frequencies [Hz], as they stand in the file."""
    from telemetry.generator import Generator

    hz = Generator(nominal_hz, 1.0 / step_s, seed).block(0, rows).hz.round(4)
    begin_us, step_us = int(BEGINS.timestamp() * 1e6), step_s * 1e6
    t_us = begin_us + np.rint(np.arange(rows) * step_us).astype(np.int64)
    cells = np.datetime_as_string(t_us.astype("datetime64[us]"), unit="ms").tolist()
    text = "time,hz\n" + "".join(f"{at}Z,{value:.4f}\n" for at, value in zip(cells, hz.tolist(), strict=True))
    data = text.encode("ascii")
    # Without a time of writing, so that the same seed is the same file.
    file.write_bytes(gzip.compress(data, mtime=0) if file.name.endswith(".gz") else data)
    return hz
