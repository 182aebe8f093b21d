"""Whether a rule that promises a share of success kept it: exact binomial, Kupiec's and Christoffersen's tests.

A block in which less was available than offered is exceeded. The binomial test is the verdict: a rule passes unless so
many blocks are exceeded that a right one would have had as many with less probability than `level`. The other two look
at what it does not: Kupiec (1995) also at too few (a rule that gives money away), Christoffersen (1998) whether
exceeded blocks follow one another, which a right count hides. Numbers only.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import bdtrc, chdtrc, xlog1py, xlogy

LEVEL: Final = 0.05


class Verdict(NamedTuple):
    """What the tests say. p values: probability of what was seen, or worse, if the rule were right.

    passed        : `p_value`, of the one-sided binomial test, is not below `level`
    kupiec_p      : of as many, either way; None where there is no block
    independent_p : of exceeded blocks following one another as they do; None where none, or all, are exceeded
    joint_p       : of both at once
    """

    blocks: int
    exceeded: int
    expected: float
    p_value: float
    passed: bool
    kupiec_p: float | None
    independent_p: float | None
    joint_p: float | None
    level: float


def judged(exceeded: npt.NDArray[np.bool_], confidence: float, level: float = LEVEL) -> Verdict:
    """The verdict on blocks in order of time. exceeded : bool[n]; confidence : share of blocks promised to be kept

    Raises ValueError for shares outside (0, 1).
    """
    for name, value in (("confidence", confidence), ("level", level)):
        if not 0.0 < value < 1.0:
            raise ValueError(f"{name} takes a probability above 0 and below 1, got {value}")
    n, x, share = int(exceeded.size), int(np.count_nonzero(exceeded)), 1.0 - confidence
    if n == 0:
        return Verdict(0, 0, 0.0, 1.0, True, None, None, None, level)
    p_value = float(bdtrc(x - 1, n, share)) if x > 0 else 1.0
    kupiec = _ratio(x, n, share)
    follows = _follows(exceeded)
    return Verdict(
        n, x, n * share, p_value, p_value >= level, float(chdtrc(1.0, kupiec)),
        None if follows is None else float(chdtrc(1.0, follows)),
        None if follows is None else float(chdtrc(2.0, kupiec + follows)), level,
    )  # fmt: skip


def _likelihood(x: float, n: float, share: float) -> float:
    return float(xlogy(x, share) + xlog1py(n - x, -share))


def _ratio(x: int, n: int, share: float) -> float:
    """Kupiec's likelihood ratio of a share against the one seen."""
    return max(-2.0 * (_likelihood(x, n, share) - _likelihood(x, n, x / n)), 0.0)


def _follows(exceeded: npt.NDArray[np.bool_]) -> float | None:
    """Christoffersen's likelihood ratio of independence against a first-order Markov chain."""
    before, after = exceeded[:-1], exceeded[1:]
    quiet, late = int(np.count_nonzero(~before)), int(np.count_nonzero(before))
    first, again = int(np.count_nonzero(after & ~before)), int(np.count_nonzero(after & before))
    total, seen = quiet + late, first + again
    if late == 0 or quiet == 0 or seen in (0, total):
        return None
    alone = _likelihood(seen, total, seen / total)
    chain = _likelihood(first, quiet, first / quiet) + _likelihood(again, late, again / late)
    ratio = -2.0 * (alone - chain)
    return max(ratio, 0.0) if math.isfinite(ratio) else None
