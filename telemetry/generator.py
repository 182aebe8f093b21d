"""A seeded grid frequency with its usual weather and, on request, a meter's usual faults; recorded traces resampled.

Pure: sample `k` is true `k / rate_hz` seconds after the start, whatever the clock says, and the same bits come out in
whatever order samples are asked for. Protocols, time stamps and pacing are the caller's.

The shape is that of Continental Europe: 20 mHz standard deviation with a memory of a minute, a slow drift, 1 mHz of
measurement noise, and every few minutes the loss of a generator: down within seconds, back within one or two minutes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from telemetry.iec61850.mapping import VALIDITY_GOOD, VALIDITY_INVALID

Floats = npt.NDArray[np.float64]

OU_STD_HZ: Final = 0.020
OU_TAU_S: Final = 60.0
DRIFT_HZ: Final = 0.010
DRIFT_PERIODS_S: Final = (900.0, 3600.0)  # market intervals leave their mark on the frequency
NOISE_HZ: Final = 0.001
VOLT_NOISE_FRAC: Final = 0.001
TRIP_HZ: Final = (0.060, 0.180)  # depth of the nadir
TRIP_FALL_S: Final = 2.0
TRIP_RECOVERY_S: Final = (60.0, 120.0)  # until a tenth of the depth is left
CHUNK_S: Final = 60.0  # computed at once, from a random stream of its own

SPIKE_HZ: Final = -1.2  # towards discharge: the harmful direction
GHOST_HZ_S: Final = -0.5  # of the reading on a dead bus: a rate a gate must not take for a grid in trouble
DEAD_VOLT_FRAC: Final = 0.01
CLOCK_JUMP_NS: Final = 7_000_000_000
LIE_HZ_S: Final = -0.02  # of a reading that slides away from the grid's: plausible in itself, no single gate sees it
SKEW_NS_S: Final = 500_000  # of a clock that gains 500 ppm

# kind: seconds it lasts where the text gives none; 0 is one sample
FAULTS: Final = {
    "spike": 0.0,
    "stuck": 10.0,
    "dead-bus": 5.0,
    "clock-jump": math.inf,
    "skew": math.inf,
    "lie": 10.0,
    "silence": 5.0,
    "nan": 1.0,
    "zero": 1.0,
    "invalid": 1.0,
}


class Fault(NamedTuple):
    """A fault of the measuring unit."""

    kind: str  # a key of FAULTS
    at_s: float  # after the start
    for_s: float


class Sample(NamedTuple):
    """What the unit shows at one instant."""

    hz: float
    volt_frac: float
    quality: int  # IEC 61850-7-3, bit 0 first
    clock_offset_ns: int  # to add to the true time
    silent: bool  # nothing is sent


class Samples(NamedTuple):
    """Columns of `Sample`, all of one length."""

    hz: Floats
    volt_frac: Floats
    quality: npt.NDArray[np.int64]
    clock_offset_ns: npt.NDArray[np.int64]
    silent: npt.NDArray[np.bool_]


def parse_faults(text: str, kinds: Mapping[str, float] = FAULTS) -> tuple[Fault, ...]:
    """Faults written as KIND@SECONDS or KIND@SECONDS+DURATION, separated by commas or spaces: "spike@5,stuck@10+3".

    kinds : those there are, with the seconds each lasts where the text gives none
    Raises ValueError naming the fault that cannot be read and the kinds there are.
    """
    return tuple(_parse(word, kinds) for word in re.split(r"[,\s]+", text) if word)


def _parse(word: str, kinds: Mapping[str, float]) -> Fault:
    match = re.fullmatch(r"([a-z-]+)@(\d+(?:\.\d+)?)(?:\+(\d+(?:\.\d+)?))?", word)
    if not match or match[1] not in kinds:
        raise ValueError(
            f"fault {word!r} is not KIND@SECONDS or KIND@SECONDS+DURATION: the kinds are {', '.join(kinds)}"
        )
    kind, at, lasting = match.groups()
    return Fault(kind, float(at), kinds[kind] if lasting is None else float(lasting))


class Generator:
    """An endless frequency.

    nominal_hz   : 50 or 60
    rate_hz      : samples a second
    seed         : of everything that is random
    trip_every_s : mean time between generator trips; math.inf for none
    faults       : of the measuring unit, see `parse_faults`
    unit         : which of several units on one grid: the frequency is the same, the measurement's noise is not

    Raises ValueError for a rate, a nominal frequency or a trip interval that is not positive.
    """

    def __init__(
        self,
        nominal_hz: float,
        rate_hz: float,
        seed: int,
        trip_every_s: float = 180.0,
        faults: tuple[Fault, ...] = (),
        unit: int = 0,
    ) -> None:
        for name, value in (("nominal_hz", nominal_hz), ("rate_hz", rate_hz), ("trip_every_s", trip_every_s)):
            if not value > 0:
                raise ValueError(f"{name} {value}: give a positive number")
        self.nominal_hz, self.rate_hz = nominal_hz, rate_hz
        self._seed, self._trip_every_s, self._faults = seed, trip_every_s, faults
        self._own = (unit,) if unit else ()  # what its noise is seeded with besides
        self._chunk = max(1, round(CHUNK_S * rate_hz))
        first = np.random.default_rng((seed, 0))
        self._ou_starts = [float(first.normal(0.0, OU_STD_HZ))]  # the process at the start of each chunk reached
        self._phases = first.uniform(0.0, 2 * math.pi, len(DRIFT_PERIODS_S))
        self._cached: tuple[int, Samples] | None = None

    def sample(self, k: int) -> Sample:
        """Sample `k` >= 0. Raises ValueError for an earlier one."""
        if k < 0:
            raise ValueError(f"sample {k}: give a number from 0")
        number, i = divmod(k, self._chunk)
        if self._cached is None or self._cached[0] != number:
            self._cached = number, self.block(number * self._chunk, self._chunk)
        columns = self._cached[1]
        return Sample(
            float(columns.hz[i]),
            float(columns.volt_frac[i]),
            int(columns.quality[i]),
            int(columns.clock_offset_ns[i]),
            bool(columns.silent[i]),
        )

    def block(self, k: int, count: int) -> Samples:
        """Samples `k` .. `k + count - 1`, each as `sample` gives it."""
        if k < 0:
            raise ValueError(f"sample {k}: give a number from 0")
        hz, volt_frac = self._grid(k, count)
        samples = Samples(
            hz,
            volt_frac,
            np.full(count, VALIDITY_GOOD, np.int64),
            np.zeros(count, np.int64),
            np.zeros(count, np.bool_),
        )
        for fault in self._faults:
            self._apply(fault, samples, k)
        return samples

    def _grid(self, k: int, count: int) -> tuple[Floats, Floats]:
        """Frequency and voltage without faults; whole chunks are computed, so that a sample has one value only."""
        hz, volt = np.empty(count), np.empty(count)
        for number in range(k // self._chunk, (k + count - 1) // self._chunk + 1):
            begin = number * self._chunk
            low, high = max(k, begin), min(k + count, begin + self._chunk)
            chunk_hz, chunk_volt = self._chunk_grid(number)
            hz[low - k : high - k] = chunk_hz[low - begin : high - begin]
            volt[low - k : high - k] = chunk_volt[low - begin : high - begin]
        return hz, volt

    def _chunk_grid(self, number: int) -> tuple[Floats, Floats]:
        while len(self._ou_starts) <= number:
            self._ou_starts.append(float(self._ou(len(self._ou_starts) - 1)[-1]))
        rng = np.random.default_rng((self._seed, 2, number, *self._own))
        noise = rng.normal(0.0, NOISE_HZ, self._chunk)
        volt = 1.0 + rng.normal(0.0, VOLT_NOISE_FRAC, self._chunk)
        t_s = (number * self._chunk + np.arange(self._chunk)) / self.rate_hz
        return self.nominal_hz + self._ou(number)[:-1] + noise + self._drift(t_s) + self._trips(t_s), volt

    def _ou(self, number: int) -> Floats:
        """The process over a chunk, and its value at the start of the next: [chunk + 1].

        x[i+1] = a x[i] + e[i] in closed form; a chunk is one time constant long, so a**-i stays below e.
        """
        a = math.exp(-1.0 / (self.rate_hz * OU_TAU_S))
        steps = np.random.default_rng((self._seed, 1, number)).normal(
            0.0, OU_STD_HZ * math.sqrt(1.0 - a * a), self._chunk
        )
        powers = a ** np.arange(self._chunk + 1)
        x: Floats = np.empty(self._chunk + 1)
        x[0] = self._ou_starts[number]
        x[1:] = powers[1:] * (x[0] + np.cumsum(steps / powers[1:]))
        return x

    def _drift(self, t_s: Floats) -> Floats:
        drift = np.zeros_like(t_s)
        for period_s, phase in zip(DRIFT_PERIODS_S, self._phases, strict=True):
            drift += DRIFT_HZ / len(DRIFT_PERIODS_S) * np.sin(2 * math.pi * t_s / period_s + phase)
        return drift

    def _trips(self, t_s: Floats) -> Floats:
        """Sum of the trips that are still felt: one in the middle of each interval, more or less."""
        total = np.zeros_like(t_s)
        if not math.isfinite(self._trip_every_s):
            return total
        felt_s = 4 * TRIP_RECOVERY_S[1]
        first = max(0, math.floor((t_s[0] - felt_s) / self._trip_every_s))
        for number in range(first, math.floor(t_s[-1] / self._trip_every_s) + 1):
            rng = np.random.default_rng((self._seed, 3, number))
            at_s = (number + rng.uniform(0.2, 0.8)) * self._trip_every_s
            total -= rng.uniform(*TRIP_HZ) * _trip_shape(t_s - at_s, rng.uniform(*TRIP_RECOVERY_S))
        return total

    def _apply(self, fault: Fault, samples: Samples, k: int) -> None:
        first = math.ceil(fault.at_s * self.rate_hz - 1e-9)
        last = math.inf if math.isinf(fault.for_s) else first + max(1, round(fault.for_s * self.rate_hz))
        numbers = k + np.arange(samples.hz.size)
        where = (numbers >= first) & (numbers < last)
        if not where.any():
            return
        since_s = (numbers[where] - first) / self.rate_hz
        match fault.kind:
            case "spike":  # once a second for as long as it lasts
                beat = where & ((numbers - first) % max(1, round(self.rate_hz)) == 0)
                samples.hz[beat] += SPIKE_HZ
            case "stuck":
                samples.hz[where] = self._grid(first, 1)[0][0]
            case "dead-bus":
                samples.hz[where] = self._grid(first, 1)[0][0] + GHOST_HZ_S * since_s
                samples.volt_frac[where] = DEAD_VOLT_FRAC
            case "clock-jump":
                samples.clock_offset_ns[where] += CLOCK_JUMP_NS
            case "skew":
                samples.clock_offset_ns[where] += np.rint(SKEW_NS_S * since_s).astype(np.int64)
            case "lie":
                samples.hz[where] += LIE_HZ_S * since_s
            case "silence":
                samples.silent[where] = True
            case "nan":
                samples.hz[where] = math.nan
            case "zero":
                samples.hz[where] = 0.0
            case "invalid":
                samples.quality[where] = VALIDITY_INVALID
            case _:
                raise ValueError(f"fault {fault.kind!r} is unknown: the kinds are {', '.join(FAULTS)}")


def _trip_shape(since_s: Floats, recovery_s: float) -> Floats:
    """0 before the trip, 1 at the nadir some seconds later, a tenth left after about `recovery_s`."""
    tau_s = recovery_s / math.log(10.0)
    nadir_s = TRIP_FALL_S * math.log(1.0 + tau_s / TRIP_FALL_S)
    t = np.maximum(since_s, 0.0)

    nadir = (1.0 - math.exp(-nadir_s / TRIP_FALL_S)) * math.exp(-nadir_s / tau_s)
    shape: Floats = (1.0 - np.exp(-t / TRIP_FALL_S)) * np.exp(-t / tau_s) / nadir
    return shape


def interpolate(t_ns: npt.NDArray[np.int64], values: Floats, rate_hz: float) -> Floats:
    """A recorded trace at a steady rate, from its first instant to its last: float64[m].

    t_ns   : int64[n]  strictly ascending
    values : float64[n]  hz or volt_frac; between a number and a NaN, and between two NaN, there is NaN

    Raises ValueError for an empty trace, times that do not ascend, unequal lengths or a rate that is not positive.
    """
    if t_ns.size == 0 or t_ns.shape != values.shape:
        raise ValueError(f"{t_ns.size} times and {values.size} values: give as many of one as of the other, at least 1")
    if (np.diff(t_ns) <= 0).any():
        raise ValueError("t_ns does not ascend: sort the trace and drop repeated times")
    if not rate_hz > 0:
        raise ValueError(f"rate_hz {rate_hz}: give a positive number")
    span_ns = int(t_ns[-1] - t_ns[0])
    steps = np.arange(math.floor(span_ns * rate_hz / 1e9 + 1e-9) + 1)
    at_ns = np.minimum(np.rint(steps * (1e9 / rate_hz)).astype(np.int64), span_ns)
    base_ns = t_ns - t_ns[0]
    left = np.searchsorted(base_ns, at_ns, side="right") - 1
    right = np.minimum(left + 1, t_ns.size - 1)
    width_ns = np.maximum(base_ns[right] - base_ns[left], 1)
    share = (at_ns - base_ns[left]) / width_ns
    between: Floats = values[left] + share * (values[right] - values[left])
    return np.where(share == 0.0, values[left], between)  # a recorded instant has its own value, even beside a NaN
