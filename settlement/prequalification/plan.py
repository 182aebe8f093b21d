"""What a test injects: named parts, each a profile of pieces in its own time, put one after the other.

This file knows profiles only: no product, no rule. A profile is of frequency [Hz] or of a signal's own values, linear
within a piece, with a sine on top where the test asks for one. Every part begins and ends at rest, so that it can be
played alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np

from settlement.align import Floats

# Sample times are multiples of a period, borders sums of lengths: both are rounded.
ROUNDING_S: Final = 1e-7
MARKS: Final = ("D", "V", "V2", "M")  # from the surest to the weakest


class PrequalificationError(ValueError):
    """A test that cannot be planned or judged; the message names what is wrong and the remedy."""


@dataclass(frozen=True)
class Piece:
    """One stretch of a profile: from `first` to `last` in `length_s`, with a sine of `amplitude` about it."""

    length_s: float
    first: float
    last: float
    amplitude: float = 0.0
    period_s: float = 0.0


@dataclass(frozen=True)
class Part:
    """One part of a test.

    at       : times within the part that its verdict needs, by name [s]
    level    : values that its verdict needs, by name
    measured : requirements that it serves
    test     : which test it is a part of; set where tests are joined into one plan
    """

    name: str
    title: str
    pieces: tuple[Piece, ...]
    at: Mapping[str, float] = field(default_factory=dict)
    level: Mapping[str, float] = field(default_factory=dict)
    measured: str = ""
    test: str = ""

    @property
    def length_s(self) -> float:
        """How long the part takes."""
        return sum(piece.length_s for piece in self.pieces)

    def values(self, t_s: Floats) -> Floats:
        """The profile at times within the part; at a step the new value, outside it the nearest end.

        t_s : float64[n]
        """
        length = np.array([piece.length_s for piece in self.pieces])
        start = np.concatenate([[0.0], np.cumsum(length)[:-1]])
        k = np.clip(np.searchsorted(start, t_s + ROUNDING_S, side="right") - 1, 0, start.size - 1)
        first = np.array([piece.first for piece in self.pieces])
        rise = np.array([piece.last - piece.first for piece in self.pieces])
        amplitude = np.array([piece.amplitude for piece in self.pieces])
        period = np.array([piece.period_s or 1.0 for piece in self.pieces])
        into_s = np.clip(t_s - start[k], 0.0, length[k])
        share = np.divide(into_s, length[k], out=np.zeros_like(into_s), where=length[k] > 0)
        return np.asarray(first[k] + rise[k] * share + amplitude[k] * np.sin(2.0 * np.pi * into_s / period[k]))


@dataclass(frozen=True)
class Plan:
    """A whole test: what is injected, how often it must be sampled, and where it comes from.

    tests   : names of the tests it plays
    rate_hz : injection and recording; the market's least where it names one
    mark    : confidence in the profile, as of a product's figures
    """

    tests: tuple[str, ...]
    title: str
    rate_hz: float
    parts: tuple[Part, ...]
    mark: str
    source: str
    input: Literal["frequency", "signal"] = "frequency"

    def __post_init__(self) -> None:
        if not self.parts:
            raise PrequalificationError(f"{self.title}: a plan takes at least one part")

    @property
    def duration_s(self) -> float:
        """How long the whole takes."""
        return sum(part.length_s for part in self.parts)

    def spans(self) -> list[tuple[Part, float, float]]:
        """Each part with its start and end on the plan's time [s]."""
        found, at_s = [], 0.0
        for part in self.parts:
            found.append((part, at_s, at_s + part.length_s))
            at_s += part.length_s
        return found

    def only(self, names: Iterable[str]) -> Plan:
        """The plan of some of its parts. Raises PrequalificationError for a name it does not have."""
        wanted, known = list(names), [part.name for part in self.parts]
        for name in wanted:
            if name not in known:
                raise PrequalificationError(f"part `{name}`: the test has {', '.join(known)}")
        return replace(self, parts=tuple(part for part in self.parts if part.name in wanted))

    def series(self, rate_hz: float | None = None) -> tuple[Floats, Floats]:
        """(t_s, value) of the injection at its rate, or another one: float64[n] each."""
        rate = rate_hz or self.rate_hz
        t_s = np.arange(round(self.duration_s * rate), dtype=np.float64) / rate
        value = np.empty(t_s.size)
        for part, start_s, end_s in self.spans():
            inside = (t_s >= start_s - ROUNDING_S) & (t_s < end_s - ROUNDING_S)
            value[inside] = part.values(t_s[inside] - start_s)
        return t_s, value


def joined(title: str, plans: Sequence[Plan]) -> Plan:
    """Several tests one after the other, at the fastest rate of them, with the weakest mark."""
    parts = [replace(part, test=plan.tests[0]) for plan in plans for part in plan.parts]
    names = [part.name for part in parts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None or len({plan.input for plan in plans}) != 1:
        raise PrequalificationError(f"{title}: its tests cannot be played as one; part `{twice}` or input differs")
    return Plan(
        tuple(plan.tests[0] for plan in plans), title, max(plan.rate_hz for plan in plans), tuple(parts),
        max((plan.mark for plan in plans), key=MARKS.index), "; ".join(dict.fromkeys(plan.source for plan in plans)),
        plans[0].input,
    )  # fmt: skip


def hold(value: float, length_s: float) -> Piece:
    """A value that stands still."""
    return Piece(length_s, value, value)


def ramp(first: float, last: float, length_s: float) -> Piece:
    """From one value to another in a time."""
    return Piece(length_s, first, last)


def moved(first: float, last: float, rate: float) -> Piece:
    """From one value to another at a rate [1/s]."""
    return Piece(abs(last - first) / rate, first, last)


def sine(center: float, amplitude: float, period_s: float, periods: float) -> Piece:
    """A whole number of periods about a value."""
    return Piece(period_s * periods, center, center, amplitude, period_s)


def until(pieces: Sequence[Piece], value: float, t_s: float) -> Piece:
    """A value that stands still until a time within the part."""
    return hold(value, t_s - sum(piece.length_s for piece in pieces))
