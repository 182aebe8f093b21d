"""What was recorded about an interval, as columns: all that a statement is computed from.

This file knows shapes and digests only. The columns are plain arrays, so that settlement needs to know neither the
wire nor the journal; who fills them has already sorted out what was never meant to count (duplicates).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np

from settlement.align import Bools, Floats, Ints


class Samples(NamedTuple):
    """Frequency as it entered the engine.

    t_ns   : int64[n]    source time
    hz     : float64[n]
    usable : bool[n]     False: rejected at the door; covers nothing
    """

    t_ns: Ints
    hz: Floats
    usable: Bools


class History(NamedTuple):
    """Frequency that was told late: what a device kept while nobody listened.

    t_ns       : int64[n]    source time
    hz         : float64[n]
    usable     : bool[n]
    epoch, seq : int64[n]    number of the entry that brought the row
    """

    t_ns: Ints
    hz: Floats
    usable: Bools
    epoch: Ints
    seq: Ints


_NONE: Final[Ints] = np.zeros(0, np.int64)
NO_HISTORY: Final = History(_NONE, np.zeros(0), np.zeros(0, np.bool_), _NONE, _NONE)


class Meters(NamedTuple):
    """Power at the grid connections.

    t_ns     : int64[n]    source time
    power_kw : float64[n]
    meter    : int64[n]    which meter; the fleet is the sum of all
    usable   : bool[n]
    """

    t_ns: Ints
    power_kw: Floats
    meter: Ints
    usable: Bools


class Declarations(NamedTuple):
    """The baseline as it was declared, one row a step, in the order of declaration.

    declared_ns, start_ns, end_ns : int64[n]
    power_kw                      : float64[n]
    run                           : int64[n]  which run of the worker declared it
    late                          : bool[n]   flagged by the declarer: the first of a run, after the interval began
    """

    declared_ns: Ints
    start_ns: Ints
    end_ns: Ints
    power_kw: Floats
    run: Ints
    late: Bools


class Signal(NamedTuple):
    """Set-points asked of the fleet on top of the products, in the order they came.

    start_ns, end_ns : int64[n]    from the stamp to the end of validity
    power_kw         : float64[n]
    """

    start_ns: Ints
    end_ns: Ints
    power_kw: Floats


class Shortfall(NamedTuple):
    """What the split could not serve, tick by tick.

    t_ns  : int64[n]
    kw    : float64[n, k]       by reason, signed as the request
    names : tuple of k strings
    """

    t_ns: Ints
    kw: Floats
    names: tuple[str, ...]


class Modes(NamedTuple):
    """What a product's energy rules had turned on, row by row, each until the next.

    from_ns                  : int64[n]
    weight, mean_hz, nem_pu  : float64[n]  see `droop.modes.Modes`
    aem                      : int64[n]    not 0: capacity counts as unavailable
    """

    from_ns: Ints
    weight: Floats
    mean_hz: Floats
    nem_pu: Floats
    aem: Ints


class Energy(NamedTuple):
    """What the fleet could give and take at the grid connections, as the engine saw it, row by row.

    t_ns             : int64[n]
    up_kwh, down_kwh : float64[n]  both 0: no vehicle that goes both ways
    """

    t_ns: Ints
    up_kwh: Floats
    down_kwh: Floats


NO_ENERGY: Final = Energy(_NONE, np.zeros(0), np.zeros(0))


class Classes(NamedTuple):
    """How exact the meters are that have a class on record, each of its reading.

    meter                    : int64[n]
    random_frac, common_frac : float64[n]  independent of the others, and shared by all of its model
    """

    meter: Ints
    random_frac: Floats
    common_frac: Floats


NO_CLASSES: Final = Classes(_NONE, np.zeros(0), np.zeros(0))


class FleetEnergy(NamedTuple):
    """What the vehicles' own reports say about the interval (see `settlement.balance`)."""

    reported_kwh: float  # integral of the reported power, positive into the grid
    stored_kwh: float  # change of the stored energy, positive when it grew
    losses_kwh: float  # conversion losses, never negative


class Facts(NamedTuple):
    """All of it. Empty columns mean that nothing was recorded."""

    samples: Samples
    meters: Meters
    declarations: Declarations
    signal: Signal
    shortfall: Shortfall
    fleet: FleetEnergy | None = None
    notes: tuple[str, ...] = ()
    history: History = NO_HISTORY
    modes: Mapping[str, Modes] = MappingProxyType({})  # by product
    energy: Energy = NO_ENERGY
    classes: Classes = NO_CLASSES


def ints(*values: int) -> Ints:
    """A column of whole numbers."""
    return np.array(values, np.int64)


def floats(*values: float) -> Floats:
    """A column of numbers."""
    return np.array(values, np.float64)


def no_signal() -> Signal:
    """No set-point was ever asked."""
    return Signal(ints(), ints(), floats())


def no_shortfall() -> Shortfall:
    """Nothing is known to have been unserved."""
    return Shortfall(ints(), np.zeros((0, 0)), ())


def digest(*columns: Ints | Floats | Bools) -> str:
    """SHA-256 over columns, little endian, in the order given; every value counts, NaN included."""
    seal = hashlib.sha256()
    for column in columns:
        plain = np.ascontiguousarray(column)
        seal.update(f"{plain.dtype.kind}{plain.dtype.itemsize}:{plain.size};".encode())
        seal.update(plain.astype(plain.dtype.newbyteorder("<"), copy=False).tobytes())
    return seal.hexdigest()
