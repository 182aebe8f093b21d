"""What the numbers in a frequency or voltage column mean, told from the first rows of a file.

Areas run at 50 or 60 Hz; deviations are published in millihertz. A file that could be either is refused, never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from telemetry.traces.cells import Floats
from telemetry.traces.common import Head, Layout, Options
from telemetry.traces.errors import BadOption, EmptyTrace, MissingOption, UnknownUnit
from telemetry.traces.rows import Parser

NOMINALS_HZ: Final = (50.0, 60.0)
HZ: Final = (40.0, 70.0)  # any frequency a public grid has printed, collapse included
DEVIATION_MHZ: Final = 5000.0
QUIET_MHZ: Final = 2.0  # a deviation column that never leaves this could as well be in Hz
VOLT_ROWS: Final = 60  # rows that tell a phase's nominal voltage
NAMED_MHZ: Final = ("mhz", "dev", "abw", "delta")


def calibrate(
    head: Head, layout: Layout, options: Options, *, names: Sequence[str] = (), skip_bad: bool = False
) -> Layout:
    """The layout with unit, nominal frequency and nominal voltages as the head of the file has them.

    names : header names by column; without them (fixed formats) the column is in Hz
    Raises EmptyTrace, MissingOption, UnknownUnit, BadOption, or MalformedRow as reading would.
    """
    nominal_hz = options.nominal_hz
    if nominal_hz is not None and nominal_hz not in NOMINALS_HZ:
        raise BadOption(head.path, "--nominal-hz", f"{nominal_hz:g} is neither 50 nor 60")
    raw = Parser(head.path, layout, skip_bad=skip_bad).parse(head.data)
    if not raw.hz.size and not raw.rejected.total():
        raise EmptyTrace(head.path, None, "no rows below the header")
    seen = raw.hz[np.isfinite(raw.hz) & (raw.hz != 0)]
    scale, deviation = _unit(head.path, names[layout.hz] if names else None, seen)
    if nominal_hz is None:
        if not seen.size:
            raise MissingOption(head.path, "--nominal-hz (50 or 60)", "the first rows hold no frequency")
        middle_hz = 0.0 if deviation else float(np.median(seen)) * scale
        nominal_hz = min(NOMINALS_HZ, key=lambda nominal: abs(nominal - middle_hz))
    return replace(
        layout,
        hz_scale=scale,
        hz_offset=nominal_hz if deviation else 0.0,
        nominal_hz=float(nominal_hz),
        volt_nominal=tuple(
            _volt_nominal(head.path, names[k] if names else str(k + 1), column, options)
            for k, column in zip(layout.volts, raw.volts, strict=True)
        ),
    )


def _unit(path: str, name: str | None, seen: Floats) -> tuple[float, bool]:
    """(Hz per unit of the column, whether it is a deviation)."""
    named = name is not None and any(word in name.lower() for word in NAMED_MHZ)
    if not seen.size:
        return (1e-3, True) if named else (1.0, False)
    in_hz, in_mhz = (float(np.mean((seen >= HZ[0] * k) & (seen <= HZ[1] * k))) for k in (1, 1000))
    said_hz = name is not None and "hz" in name.lower() and not named  # then bad values do not make it a deviation
    if (in_hz > 0 if said_hz else in_hz >= 0.5) and not (named and np.ptp(seen) > 10):
        return 1.0, False
    if name is not None and not said_hz:
        if in_mhz >= 0.5:
            return 1e-3, False
        widest = float(np.quantile(np.abs(seen), 0.99))
        if QUIET_MHZ < widest <= DEVIATION_MHZ or (named and widest <= QUIET_MHZ and "mhz" in name.lower()):
            return 1e-3, True
    column = f"column {name!r}" if name else "frequency column"
    middle = float(np.median(seen))
    raise UnknownUnit(
        path, None, f"{column} (median {middle:.6g}) is neither in Hz near 50 or 60 nor a deviation in mHz"
    )


def _volt_nominal(path: str, name: str, column: Floats, options: Options) -> float:
    if options.volt_nominal is not None:
        if not options.volt_nominal > 0:
            raise BadOption(path, "volt_nominal", f"{options.volt_nominal:g} must be above 0")
        return options.volt_nominal
    seen = column[np.isfinite(column)][:VOLT_ROWS]
    nominal = float(np.median(seen)) if seen.size else 0.0
    if not nominal > 0:
        raise MissingOption(
            path,
            "--volt-col with the columns in use (or volt_nominal)",
            f"voltage column {name!r} starts without voltage",
        )
    return nominal
