"""`flyball inspect`: what is in a recorded trace, in figures and drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from aggregator.cli.output import Json, app, console, emit, figures, text, writable
from aggregator.cli.traceoptions import Reading, with_reading

PIPE_WIDTH = 100


@app.command(epilog="Example: flyball inspect f_2026-06-22.csv.gz --plot trace.html --json -")
@with_reading
def inspect(
    file: Annotated[Path, typer.Argument(help="A recorded trace, plain or gzipped.")],
    reading: Reading,
    plot: Annotated[Path | None, typer.Option(help="HTML file to draw the trace into; needs no network.")] = None,
    json: Json = None,
) -> None:
    """Say what is in a trace: rows, gaps, duplicates, and what the quality gate would not let move a vehicle.

    Of charging sessions: sites, span, what was refused, and the quantiles of stays and energies. Of a regulation
    signal: mean, mileage and autocorrelation in place of the frequency's figures. The trace is drawn
    under the figures; with `--json -` only on a terminal's standard error.
    """
    from aggregator.backtesting import recorded_gate
    from aggregator.tracetext import drawing
    from telemetry import sessions
    from telemetry.quality import Gate
    from telemetry.traces import SIGNALS, open_trace, recognise
    from telemetry.traces import inspect as look
    from telemetry.traces.picture import Picture

    writable(json)
    format, tz, skip_bad = reading.format, reading.tz, reading.skip_bad
    if plot is not None:
        writable(str(plot), "--plot")
    if format in sessions.FORMATS or (format is None and sessions.recognise(file) is not None):
        if plot is not None:
            raise ValueError(f"--plot: {file} holds charging sessions, and only frequency is drawn; leave it out")
        # It decides nothing: rows that cannot be true are counted, not refused.
        result = sessions.inspect(sessions.open_sessions(file, format=format, tz=tz, skip_bad=True))
        emit(result, json, figures(str(file), result))
        return
    if (recognise(file) if format is None else format) in SIGNALS:
        if plot is not None:
            raise ValueError(f"--plot: {file} is a regulation signal, and only frequency is drawn; leave it out")
        _inspect_signal(file, format, tz, skip_bad, json)
        return
    trace = open_trace(file, **reading._asdict())
    gate, picture = Gate(recorded_gate(trace.nominal_hz)), Picture(trace.nominal_hz)
    with _progress(trace) as progress:
        report = look(trace, lambda block: picture.add(gate.check(block)), progress)
    result = report.as_dict() | {"marked": gate.rejected()}
    if plot is not None:
        from aggregator import tracepage  # a second of import for those who want the page

        tracepage.write(plot, f"{file.name}: {trace.format}", report, picture, {k: text(v) for k, v in result.items()})
    emit(result, json, figures(str(file), result))
    if json != "-":
        shown = Console()
        shown = shown if shown.is_terminal else Console(width=PIPE_WIDTH)
        shown.print(drawing(report, picture, shown.width), soft_wrap=True)
    elif console.is_terminal:
        console.print(drawing(report, picture, console.width), soft_wrap=True)


def _inspect_signal(file: Path, format: str | None, tz: str | None, skip_bad: bool, json: str | None) -> None:
    from telemetry.traces import inspect_signal, open_signal

    trace = open_signal(file, format=format, tz=tz, skip_bad=skip_bad)
    with _progress(trace) as progress:
        result = inspect_signal(trace, progress).as_dict()
    emit(result, json, figures(str(file), result))


@contextmanager
def _progress(trace: Any) -> Iterator[Callable[[object], None]]:
    """A bar on a terminal's standard error: how much of the file has been read."""
    columns = (TextColumn("inspect"), BarColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("file", total=1.0)
        yield lambda _: bar.update(task, completed=trace.read_frac)
