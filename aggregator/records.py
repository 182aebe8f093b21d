"""What the core leaves behind, as rows: one TICK per decision, one DECLARATION per baseline step, one GAP per loss.

This file knows layouts only: no I/O, no clock, no arithmetic. The rows lie packed in the journal and are read
by settlement and by analysts; positive power is into the grid, times are int64 ns since 1970 UTC.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Any

import numpy as np
import numpy.typing as npt

from droop.reasons import COUNT

Block = npt.NDArray[Any]

TICK = np.dtype(
    [
        ("t_ns", "<i8"),  # source time of the sample acted on; the time of the call where there was none
        ("rx_ns", "<i8"),
        ("now_ns", "<i8"),  # when the core was called
        ("hz", "<f8"),  # NaN where no usable frequency stood behind the decision
        ("request_kw", "<f8"),  # asked of the fleet, baseline included
        ("baseline_kw", "<f8"),  # as declared
        ("response_kw", "<f8"),  # request minus baseline
        ("dealt_kw", "<f8"),  # sum of the split
        ("commanded_kw", "<f8"),  # sum of what the vehicles were last told
        ("unserved_kw", "<f8"),  # request minus dealt
        ("lo_kw", "<f8"),  # the fleet's band
        ("hi_kw", "<f8"),
        ("lambda", "<f8"),  # the split's multiplier
        ("quality", "<u2"),  # telemetry.samples.Quality of the sample
        ("mode", "u1"),
        ("passes", "u1"),  # Newton passes over the columns
        ("commands", "<u4"),  # set-points sent
        ("sum_error_kw", "<f8"),
        ("unserved_by_reason", "<f4", (COUNT,)),  # kW by droop.reasons.Reason
        ("seq", "<u8"),  # number of the tick
    ]
)

DECLARATION = np.dtype(
    [
        ("declared_ns", "<i8"),
        ("start_ns", "<i8"),
        ("end_ns", "<i8"),  # exclusive
        ("power_kw", "<f8"),
        ("vehicles", "<u4"),  # plans summed up
        ("flags", "<u4"),  # DeclarationFlag
    ]
)


# What the energy rules of one product have turned on; a row a second while anything is on, and one when nothing is.
# Of product FLEET a row a minute that has the energies alone, where a market asks for a state of energy.
FLEET = 255
MODE = np.dtype(
    [
        ("from_ns", "<i8"),  # holds from here to the next row of the product
        ("product", "u1"),  # place among the contracts; FLEET: of the whole fleet
        ("alert", "u1"),
        ("reserve", "u1"),
        ("nem", "i1"),  # -1 the lower threshold holds, 1 the upper, 0 off
        ("aem", "i1"),
        ("weight", "<f8"),  # of the short-term deviation, reserve mode
        ("mean_hz", "<f8"),  # its mean deviation; of AEM how far the reference has moved
        ("nem_pu", "<f8"),  # NEM's power, of that sold
        ("up_kwh", "<f8"),  # energy that could be managed, each way
        ("down_kwh", "<f8"),
    ]
)


class DeclarationFlag(IntFlag):
    """What is particular about a declaration."""

    NONE = 0
    LATE = 1  # the first of a run, declared after its own start; it counts from its declaration on


# What never came, from a number to a number. Numbers are the journal's `seq` or a stream's counters, both within an
# epoch; times are those of the neighbours, 0 where there is none.
GAP = np.dtype(
    [
        ("of", "S12"),  # what is numbered: `journal`, `frequency` (`frequency-i2`), `backfill`, `sources-i1`
        ("reason", "S12"),  # docs/operations.md lists them
        ("epoch", "<u8"),
        ("first", "<u8"),  # first missing
        ("last", "<u8"),  # last missing
        ("after_ns", "<i8"),  # time of the last one known before
        ("before_ns", "<i8"),  # time of the first one known after
    ]
)


class Fate(IntEnum):
    """What became of a frequency sample that reached the worker; those that did not are GAP rows of `frequency`."""

    UNKNOWN = 0  # its decision is not in the journal
    TICKED = 1  # a decision rested on it
    REFUSED = 2  # marked, by the gate or by the core: the marks say why
    OVERTAKEN = 3  # older than, or as old as, one already seen


def gap(of: str, reason: str, epoch: int, first: int, last: int, after_ns: int = 0, before_ns: int = 0) -> Block:
    """One GAP row."""
    return np.array([(of, reason, epoch, first, last, after_ns, before_ns)], GAP)
