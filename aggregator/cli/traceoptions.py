"""How a recorded trace is to be read, as options: the same words wherever a trace is given.

A command that reads traces takes one `reading`; `with_reading` spreads it over the options of the command line.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, NamedTuple, get_type_hints

import typer

Format = Annotated[
    str | None, typer.Option("--format", help="Of the file, e.g. neso, rte, table; recognised by content.")
]
TimeCol = Annotated[str | None, typer.Option("--time-col", help="Time column of a table, by name or number from 1.")]
HzCol = Annotated[str | None, typer.Option("--hz-col", help="Frequency column of a table.")]
VoltCol = Annotated[str | None, typer.Option("--volt-col", help="Voltage columns of a table, set apart by commas.")]
Zone = Annotated[str | None, typer.Option("--tz", help="Zone of times that name none; UTC.")]
Site = Annotated[str | None, typer.Option("--site", help="Place, where a file has several.")]
Start = Annotated[str | None, typer.Option("--start", help="ISO time of row 0 of index_hz; day of times of day.")]
NominalHz = Annotated[float | None, typer.Option("--nominal-hz", help="50 or 60, for deviations; 50.")]
Repair = Annotated[
    str | None, typer.Option("--repair", help="day-month exchanges day and month; none takes dates as written.")
]
StepS = Annotated[float | None, typer.Option("--step-s", help="Seconds from row to row of index_hz.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Count malformed rows instead of stopping.")]
AnyDate = Annotated[
    bool, typer.Option("--any-date", help="Sell a product although its market does not have it on that day.")
]


class Reading(NamedTuple):
    """What the command line says about a trace; None where the file is to tell. Fields as of `open_trace`."""

    start: Start = None
    step_s: StepS = None
    format: Format = None
    time_col: TimeCol = None
    hz_col: HzCol = None
    volt_col: VoltCol = None
    tz: Zone = None
    site: Site = None
    nominal_hz: NominalHz = None
    repair: Repair = None
    skip_bad: SkipBad = False

    @property
    def given(self) -> dict[str, Any]:
        """What was said, and nothing else."""
        return {name: value for name, value in self._asdict().items() if value is not None and value is not False}


def with_reading(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each field of `Reading` in place of its parameter `reading`."""
    hints = get_type_hints(Reading, include_extras=True)
    signature = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        spread = [(name, Reading._field_defaults[name], hints[name]) for name in Reading._fields]
        own = [(parameter.name, parameter.default, parameter.annotation)]
        for name, default, hint in spread if parameter.name == "reading" else own:
            kind = inspect.Parameter.KEYWORD_ONLY
            parameters.append(inspect.Parameter(name, kind, default=default, annotation=hint))

    @wraps(command)
    def read(**options: Any) -> None:
        said = {name: options.pop(name) for name in Reading._fields}
        command(**options, reading=Reading(**said))

    # What a command line is made from: typer reads both.
    read.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    read.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": None}
    return read
