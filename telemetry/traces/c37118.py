"""Captures of IEEE C37.118.2 traffic (pcap, pcapng), TCP and UDP: the rows of one PMU.

Which one, `--site` says where there are several: its IDCODE, or the name of its station. The configuration frame must
be in the capture; data before it are counted `unconfigured`. Frames and octets that came to nothing are counted by
reason (`telemetry.c37118.errors.REASONS`), none of them stops the reading. What the PMU says of itself (STAT, time
quality) is in the rows' quality. Phase voltages are found by name; nominal is what `volt_nominal` says, or their median
in the first rows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from telemetry.c37118.captures import CapturedRows, Choice, pmus
from telemetry.c37118.packets import CaptureError, is_capture, opened
from telemetry.samples import Block, Quality
from telemetry.traces.common import Head, Layout, Options, Trace
from telemetry.traces.errors import BadOption, EmptyTrace, MissingOption, TraceError

NAME: Final = "c37118"
NOMINALS_HZ: Final = (50.0, 60.0)
VOLT_ROWS: Final = 60  # rows that tell the nominal voltage
NAN: Final = int(Quality.NAN)


class CaptureTrace(Trace):
    """The rows of one PMU of a capture; see `Trace`."""

    def __init__(self, path: str, chosen: Choice, nominal_hz: float, nominal_volt: float, *, skip_bad: bool) -> None:
        super().__init__(path, replace(_NO_TEXT, nominal_hz=nominal_hz), skip_bad=skip_bad)
        self._chosen, self._nominal_volt = chosen, nominal_volt

    def __iter__(self) -> Iterator[Block]:
        self.rows, self.rejected, self.read_frac = 0, Counter(), 0.0
        captured = CapturedRows(self.path, self._chosen, self._nominal_volt)
        try:
            for block in captured:
                block["rx_ns"] = block["t_ns"]  # as in every recording; the capture's clock is not the control's
                self.rows += block.size
                self.rejected["missing"] += int(np.count_nonzero(block["quality"] & NAN))
                yield block
        except (CaptureError, OSError) as error:
            raise TraceError(self.path, None, str(error)) from None
        self.read_frac = 1.0
        self.rejected += captured.rejected  # drops zero counts
        if not self.rows:
            raise EmptyTrace(self.path, None, "no data frame that its configuration explains")


def _no_stamps() -> object:
    raise AssertionError("a capture has no lines")


_NO_TEXT: Final = Layout(NAME, ",", 0, 0, 0, _no_stamps)  # type: ignore[arg-type]


def recognises(head: Head, options: Options) -> bool:
    """The magic number of a capture file."""
    del options
    try:
        with opened(head.path) as file:
            return is_capture(file.read(4))
    except (OSError, EOFError):
        return False


def trace(head: Head, options: Options, *, skip_bad: bool) -> Trace:
    """The trace of the PMU that is meant. Raises TraceError, MissingOption where there are several, BadOption."""
    path = head.path
    try:
        chosen = _choose(path, pmus(path), options.site)
    except (CaptureError, OSError) as error:
        raise TraceError(path, None, str(error)) from None
    nominal_hz = options.nominal_hz or float(chosen.configuration.stations[chosen.place].nominal_hz)
    if nominal_hz not in NOMINALS_HZ:
        raise BadOption(path, "nominal_hz", f"{nominal_hz:g} is neither 50 nor 60")
    nominal_volt = options.volt_nominal
    if nominal_volt is None:
        nominal_volt = _usual(path, chosen)
    elif not nominal_volt > 0:
        raise BadOption(path, "volt_nominal", f"{nominal_volt:g} must be above 0")
    return CaptureTrace(path, chosen, nominal_hz, nominal_volt, skip_bad=skip_bad)


def _choose(path: str, found: list[Choice], site: str | None) -> Choice:
    if not found:
        raise EmptyTrace(Path(path), None, "no CFG-2 frame in it: begin the capture before the client connects")
    there = [choice.configuration.stations[choice.place] for choice in found]
    names = ", ".join(f"{station.idcode} ({station.name})" for station in there)
    if site is None:
        if len(found) > 1:
            raise MissingOption(path, "--site", f"it holds the PMUs {names}")
        return found[0]
    fits = [k for k, station in enumerate(there) if site.strip() in (str(station.idcode), station.name)]
    if len(fits) != 1:
        what = "no PMU" if not fits else f"{len(fits)} PMUs"
        raise BadOption(path, "--site", f"{what} {site!r}; there are {names}")
    return found[fits[0]]


def _usual(path: str, chosen: Choice) -> float:
    """Median of the smallest phase voltage in the first rows; 1 where there is none, which then does not matter."""
    volts: list[float] = []
    for block in islice(CapturedRows(path, chosen, 1.0), 1):
        volts = [v for v in block["volt_frac"][:VOLT_ROWS].tolist() if math.isfinite(v)]
    usual = float(np.median(volts)) if volts else 1.0
    if not usual > 0:
        raise MissingOption(path, "volt_nominal", "the capture begins without voltage")
    return usual
