"""What is learned from history: what to expect of a block by its hour and weekday, and how far off that has been.

A class is a block's local begin on a weekday. Four Mondays are little to know a Monday from, so the mean of a class is
drawn to the mean of that hour on all days, by as much as days of one class differ among themselves against classes
from each other (one-way random effects; empirical Bayes). Holidays are not known: they are days like their weekday.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.bidding.available import PARTS, Slices
from aggregator.bidding.products import BidError, Bundle, TooLittle
from droop.offers import Basis
from droop.presence import Correlation, correlation, widened

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Fewer days say nothing about days.
LEAST_DAYS: Final = 7
WEEK: Final = 7
# However alike the days of a class were, one that was never seen is not known.
KAPPA_LEAST: Final = 0.01

BLOCK: Final = np.dtype(
    [
        ("start_ns", "<i8"),
        ("end_ns", "<i8"),
        ("minute", "<i8"),  # local, of the begin
        ("weekday", "<i8"),  # of the market's day; 0 is Monday
        ("day", "<i8"),  # the market's day as a number
        ("chargers", "<i8"),
        ("present", "<i8"),
        ("kw", "<f8"),  # of the slice in which least could be sold
        ("power_kw", "<f8"),
        ("up_kwh", "<f8"),  # at the block's begin
        ("down_kwh", "<f8"),
        ("profile_kw", "<f8", (PARTS,)),
    ]
)
Blocks = npt.NDArray[Any]


def by_block(slices: Slices, bundle: Bundle) -> tuple[Blocks, int]:
    """BLOCK[b] of the whole blocks, and the number of those that lack a slice.

    What a block has is what its worst slice has: a car that leaves within the block may be replaced by one that comes.
    """
    starts, ends = _cut(slices, bundle)
    of = np.searchsorted(starts, slices["start_ns"], side="right") - 1
    need = (ends - starts) // (bundle.slice_s * 1_000_000_000)
    have = np.bincount(of, minlength=starts.size) if slices.size else np.zeros(0, np.int64)
    order = np.lexsort((slices["start_ns"], slices["kw"], of))
    worst = order[np.append(True, np.diff(of[order]) > 0)] if order.size else order
    first = np.flatnonzero(np.append(True, np.diff(of) > 0)) if slices.size else order
    whole = have[of[worst]] >= need[of[worst]] if worst.size else np.zeros(0, bool)
    blocks = np.zeros(int(whole.sum()), BLOCK)
    kept, begun = slices[worst[whole]], slices[first[whole]]
    blocks["start_ns"], blocks["end_ns"] = starts[of[worst[whole]]], ends[of[worst[whole]]]
    for name in ("chargers", "present", "kw", "power_kw", "profile_kw"):
        blocks[name] = kept[name]
    for name in ("up_kwh", "down_kwh"):
        blocks[name] = begun[name]
    for k, start_ns in enumerate(blocks["start_ns"].tolist()):
        blocks["minute"][k], blocks["weekday"][k] = bundle.place(start_ns)
        blocks["day"][k] = bundle.day_number(start_ns)
    return blocks, int(whole.size - whole.sum())


def _cut(slices: Slices, bundle: Bundle) -> tuple[Ints, Ints]:
    """Begins and ends of the market's blocks that the slices lie in."""
    found: list[tuple[int, int]] = []
    for start_ns in slices["start_ns"].tolist():
        if not found or start_ns >= found[-1][1]:
            block = bundle.block_at(start_ns)
            found.append((block.start_ns, block.end_ns))
    pairs = np.array(found, np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


class Shrunk(NamedTuple):
    """Means by class, drawn to those of their hour.

    hour, own  : float64[hours, q], float64[hours * WEEK, q]
    many, days : number of blocks of each hour, of each class
    kappa      : blocks of a class that weigh as much as its hour; inf: classes do not differ
    used       : degrees of freedom that the means take
    """

    hour: Floats
    own: Floats
    many: Floats
    days: Floats
    kappa: float
    used: float

    def at(self, hour: Ints, weekday: Ints) -> Floats:
        """float64[n, q] of classes."""
        of = hour * WEEK + weekday
        weight = self._weight(of)[:, None]
        return np.asarray(weight * self.own[of] + (1.0 - weight) * self.hour[hour])

    def noise(self, hour: Ints, weekday: Ints) -> Floats:
        """float64[n]: variance of these means, in that of one block."""
        of = hour * WEEK + weekday
        rest = (1.0 - self._weight(of)) ** 2 / np.maximum(self.many[hour], 1.0)
        return np.asarray(rest + (1.0 / (self.days[of] + self.kappa) if np.isfinite(self.kappa) else 0.0))

    def _weight(self, of: Ints) -> Floats:
        days = self.days[of]
        return np.asarray(days / (days + self.kappa)) if np.isfinite(self.kappa) else np.zeros(of.size)


def shrunk(values: Floats, hour: Ints, weekday: Ints, hours: int = 0, lead: int = 0) -> Shrunk:
    """Learn means of values, float64[n, q], by hour and weekday.

    hours : how many there are, where not all are in `hour`: the mean of such a one is 0
    lead  : column that kappa is taken from
    """
    hours = max(hours, int(hour.max()) + 1)
    of = hour * WEEK + weekday
    many = np.bincount(hour, minlength=hours).astype(np.float64)
    days = np.bincount(of, minlength=hours * WEEK).astype(np.float64)
    by_hour = _means(values, hour, many)
    own = _means(values, of, days)
    lead_own, lead_hour, value = own[:, lead], by_hour[:, lead], values[:, lead]
    within_free, between_free = values.shape[0] - (days > 0).sum(), (days > 0).sum() - (many > 0).sum()
    kappa = np.inf
    if within_free > 0 and between_free > 0:
        within = float(((value - lead_own[of]) ** 2).sum()) / within_free
        between = float((days * (lead_own - np.repeat(lead_hour, WEEK)) ** 2).sum()) / between_free
        squares = (days.reshape(-1, WEEK) ** 2).sum(axis=1)[many > 0] / many[many > 0]
        typical = (values.shape[0] - float(squares.sum())) / between_free
        apart = (between - within) / typical if typical > 0.0 else 0.0
        kappa = max(within / apart, KAPPA_LEAST) if apart > 0.0 else np.inf
    weights = days[days > 0] / (days[days > 0] + kappa) if np.isfinite(kappa) else np.zeros(1)
    extra = float(weights.sum()) * max(between_free, 0) / max(float((days > 0).sum()), 1.0)
    return Shrunk(by_hour, own, many, days, float(kappa), float((many > 0).sum()) + extra)


def _means(values: Floats, of: Ints, count: Floats) -> Floats:
    sums = np.stack([np.bincount(of, values[:, k], minlength=count.size) for k in range(values.shape[1])], axis=1)
    return np.asarray(sums / np.maximum(count, 1.0)[:, None])


class Model:
    """What was learned from blocks. Raises TooLittle where they are too few.

    share     : present of chargers
    size      : of one that counts: its mean, and of each part of them
    whole     : by charger, whoever is there: power without end of energy, and energies each way
    presence  : correlation and its error; None where nobody ever comes or goes
    worst     : ascending, how far above its expectation each block was, in its standard deviations
    """

    def __init__(self, blocks: Blocks, bundle: Bundle) -> None:
        days = np.unique(blocks["day"]).size
        if days < LEAST_DAYS:
            raise TooLittle(
                f"--history: whole blocks on {days} days; bids of {bundle.name} want at least {LEAST_DAYS} days: "
                "give more history"
            )
        self.blocks, self.chargers = blocks, int(blocks["chargers"][-1])
        self.minutes, hour = np.unique(blocks["minute"], return_inverse=True)
        weekday = blocks["weekday"]
        chargers, present = np.maximum(blocks["chargers"], 1), np.maximum(blocks["present"], 1)
        self.share = shrunk((blocks["present"] / chargers)[:, None], hour, weekday)
        each = blocks["kw"] / present
        there = blocks["present"] > 0
        if not there.any():
            raise TooLittle(f"--history: not one vehicle could ever sell {bundle.name}; look at powers and energies")
        whole = [blocks[name] / chargers for name in ("power_kw", "up_kwh", "down_kwh")]
        self.whole = shrunk(np.column_stack(whole), hour, weekday)
        sizes = np.column_stack([each, blocks["profile_kw"]])
        self.size = shrunk(sizes[there], hour[there], weekday[there], self.minutes.size)
        expected = np.clip(self.share.at(hour, weekday)[:, 0], 0.0, 1.0)
        self.presence: Correlation | None = None
        if 0.0 < expected.mean() < 1.0:
            self.presence = _presence(blocks, expected, self.share.used)
        found = self.size.at(hour, weekday)[:, 0]
        self.size_sd = _size_sd(blocks[there], each[there], found[there], self.size.used)
        self.worst = np.sort(self._deviations(blocks, expected, self.size.at(hour, weekday)))

    def _deviations(self, blocks: Blocks, expected: Floats, size: Floats) -> Floats:
        """How far above the expected sum each block was, in the standard deviations that the model gives it."""
        mean_kw = np.maximum(expected * blocks["chargers"] * size[:, 0], 1e-9)
        free = max(blocks.size - self.share.used, 1.0)
        apart = (blocks["kw"] / mean_kw - 1.0) * np.sqrt(blocks.size / free)
        rho = 0.0 if self.presence is None else self.presence.rho
        return np.asarray(apart / _relative_sd(blocks["chargers"], expected, size[:, 1 : PARTS + 1], rho, self.size_sd))

    def at(self, minute: int, weekday: int, confidence: float, caution: float, empirical: bool) -> Basis:
        """What to expect of a class of blocks. Raises TooLittle for an hour that was never seen.

        caution   : standard errors that the correlation is taken higher
        empirical : how far below its expectation history has seen a block is looked at too
        """
        k = int(np.searchsorted(self.minutes, minute))
        if k == self.minutes.size or self.minutes[k] != minute:
            raise TooLittle(f"--history: no block at {minute // 60:02d}:{minute % 60:02d} in it; give more history")
        hour, day = np.array([k]), np.array([weekday])
        share = min(max(float(self.share.at(hour, day)[0, 0]), 0.0), 1.0)
        size = np.maximum(self.size.at(hour, day)[0], 0.0)
        noise, size_noise = float(self.share.noise(hour, day)[0]), float(self.size.noise(hour, day)[0])
        rho = 0.0 if self.presence is None else min(self.presence.rho + caution * self.presence.error, 1.0)
        parts = np.sort(size[1 : PARTS + 1])
        power_kw, up_kwh, down_kwh = (float(of) * self.chargers for of in np.maximum(self.whole.at(hour, day)[0], 0.0))
        basis = Basis(
            self.chargers, share, parts, power_kw, up_kwh, down_kwh,
            widened(rho, self.chargers, noise), float(self.size_sd * np.sqrt(1.0 + size_noise)),
        )  # fmt: skip
        if empirical and share > 0.0:
            apart = self._worst(confidence)
            here = _relative_sd(np.array([self.chargers]), np.array([share]), parts[None, :], rho, self.size_sd)
            basis = basis._replace(worst_frac=max(1.0 + apart * float(here[0] * np.sqrt(1.0 + noise)), 0.0))
        return basis

    def _worst(self, confidence: float) -> float:
        """The order statistic that the next block stays above with the confidence; where the blocks are too few for
        it the worst of all.
        """
        place = int((self.worst.size + 1) * (1.0 - confidence) + 1e-9)
        return float(self.worst[min(max(place, 1), self.worst.size) - 1])


def _relative_sd(chargers: Ints, present_frac: Floats, parts: Floats, rho: float, size_sd: float) -> Floats:
    """Standard deviation of the sum over its mean, float64[n]; never so little that a deviation means nothing."""
    squares = (parts**2).mean(axis=1) / np.maximum(parts.mean(axis=1), 1e-9) ** 2
    away = (1.0 - present_frac) / np.maximum(present_frac, 1e-9)
    presence = away * (squares * (1.0 - rho) / np.maximum(chargers, 1) + rho)
    return np.asarray(np.maximum(np.sqrt(presence + size_sd**2), 1e-3))


def _presence(blocks: Blocks, expected: Floats, used: float) -> Correlation | None:
    try:
        return correlation(blocks["present"], blocks["chargers"], expected, blocks["day"], used)
    except ValueError as error:
        if "nobody ever comes" in str(error) or (blocks["chargers"] < 2).all():
            return None
        raise TooLittle(f"--history: {error}") from error


def _size_sd(blocks: Blocks, each: Floats, expected: Floats, used: float) -> float:
    """Relative standard deviation of what a vehicle is good for between blocks, beyond who happens to be there."""
    free = max(each.size - used, 1.0)
    # A block of few vehicles says less of what one is good for.
    weight = blocks["present"] / blocks["present"].sum() * each.size
    between = float((weight * (each / np.maximum(expected, 1e-9) - 1.0) ** 2).sum()) / free
    spread = blocks["profile_kw"].var(axis=1) / np.maximum(each, 1e-9) ** 2
    absent = 1.0 - blocks["present"] / np.maximum(blocks["chargers"], 1)
    drawn = float((weight * spread * absent / np.maximum(blocks["present"], 1)).mean())
    return float(np.sqrt(max(between - drawn, 0.0)))


def known(blocks: Blocks, before_ns: int, since_ns: int) -> Blocks:
    """Blocks that were over by a time, from another time on."""
    return blocks[(blocks["end_ns"] <= before_ns) & (blocks["start_ns"] >= since_ns)]


def check_span(blocks: Blocks, day_start_ns: int, day: str) -> None:
    """Raises BidError where history goes on into the day that is asked for, TooLittle where there is none."""
    if not blocks.size:
        raise TooLittle("--history: not one whole block in it; give more history")
    if int(blocks["end_ns"].max()) > day_start_ns:
        last = np.datetime64(int(blocks["end_ns"].max()), "ns").astype("datetime64[s]")
        raise BidError(
            f"--date {day}: the history goes on until {last}Z, after that day begins; a bid rests on what is known "
            "before it: give a later date, or a shorter history"
        )
