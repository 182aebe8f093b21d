"""PJM regulation until 30 September 2025: correlation, delay and precision, a third each.

Manual 12, 4.5.6, as public code quotes it (rulebook 5.1, mark V2 where not said otherwise). The hour is cut into
windows of 5 minutes, on samples of 10 s. For each window the response is shifted back by 0 to 5 minutes; the shift
with the largest sum of correlation and delay score is the one that is reported, the smallest of equals. Correlation is
Pearson's r, the delay score falls from 1 to 0 over 5 minutes, precision is 1 minus the mean error over the mean
magnitude of the signal. All three are kept within 0..1.

What the text leaves open is a parameter: below which spread a signal counts as flat (`flat_pu`, mark M), where the
correlation is 1 - |difference of the slopes| (per sample, in units of the cleared power); whether 10 s of propagation
are allowed (`propagation_s`), which then cost no delay and may shift the comparison of precision; whether precision is
normed by 5 minutes or by the hour (`precision_norm`). A response that never moves while the signal does scores 0. A
window in which the signal is 0 throughout has no precision: it counts 0 if there was an error, and is left out if
there was none.

Telemetry that is missing counts as a response of 0 with an error of at least the norm, so it can only cost.
"""

from __future__ import annotations

import itertools
from typing import Final, Literal, NamedTuple

import numpy as np

from droop.products import Product
from settlement.align import Bools, Floats, Ints
from settlement.scores.rule import (
    Delivery,
    Kpis,
    Params,
    Reach,
    Rule,
    ScoreError,
    Verdict,
    cells,
    mean_or_none,
    unmeasured,
)

STEP_S: Final = 10.0
WINDOW_S: Final = 300.0
LAG_S: Final = 300.0
HOUR_S: Final = 3600.0
WEIGHTS: Final = (1 / 3, 1 / 3, 1 / 3)  # of correlation, delay and precision
FLAT_PU: Final = 0.01  # of public code, mark M
STILL_PU: Final = 1e-5  # a response that moves less does not move
NIL_PU: Final = 1e-9  # an error or a signal below is none
TIE: Final = 1e-9
GROUPS: Final = (0, 2, 6, 14)  # shifts that are tried together begin here
FAINT_PU: Final = 1e-3  # a response that moves less is correlated in two passes
CHUNK: Final = 4096  # windows at a time: what they need stays in memory near the processor

Norm = Literal["5min", "hour"]


class Windows(NamedTuple):
    """One row a window of 5 minutes; NaN where a window is not scored."""

    correlation: Floats
    delay: Floats
    precision: Floats
    delay_s: Floats  # the shift that was chosen
    flat: Bools  # judged by slopes
    score: Floats


class PjmScore(NamedTuple):
    """Means over the windows that are scored; None where there is none."""

    score: float | None
    correlation: float | None
    delay: float | None
    precision: float | None
    delay_s: float | None
    windows: int
    flat_windows: int
    missing_frac: float


class _Cut(NamedTuple):
    """Signal and response by windows, in units of the cleared power.

    signal   : float64[w, m]      NaN where unknown
    response : float64[w, m + l]  with what follows each window; 0 where unknown
    missing  : bool[w, m + l]
    """

    signal: Floats
    response: Floats
    missing: Bools


def windows(
    signal_kw: Floats,
    response_kw: Floats,
    capacity_kw: float,
    *,
    step_s: float = STEP_S,
    propagation_s: float = 0.0,
    precision_norm: Norm = "5min",
    flat_pu: float = FLAT_PU,
    weights: tuple[float, ...] = WEIGHTS,
) -> Windows:
    """Score each whole window.

    signal_kw   : float64[n]        set points; NaN: unknown, the window is not scored
    response_kw : float64[n .. n+l] what was delivered, with the 5 minutes that follow; NaN or absent: missing

    Raises ScoreError for a capacity or a step that cannot be.
    """
    if len(weights) != 3 or min(weights) < 0 or not sum(weights) > 0:
        raise ScoreError(f"field `weights` takes three shares of 0 or more, not all 0: {weights}")
    cut = _cut(signal_kw, response_kw, capacity_kw, step_s)
    count = cut.signal.shape[0]
    lags = cut.response.shape[1] - cut.signal.shape[1]
    costs = np.clip(1.0 - np.maximum(0.0, step_s * np.arange(lags + 1) - propagation_s) / LAG_S, 0.0, 1.0)
    shift, r = np.zeros(count, np.int64), np.zeros(count)
    flat = np.zeros(count, np.bool_)
    for low in range(0, count, CHUNK):
        part = slice(low, low + CHUNK)
        shift[part], r[part], flat[part] = _best(cut.signal[part], cut.response[part], costs, flat_pu)
    unmoved = shift < 0
    delay = np.where(unmoved, 0.0, costs[np.maximum(shift, 0)])
    precision = np.where(unmoved, 0.0, 1.0) * _precision(cut, step_s, propagation_s, precision_norm)
    unknown = np.isnan(precision)
    correlation, delay = (np.where(unknown, np.nan, part) for part in (np.clip(r, 0.0, 1.0), delay))
    delay_s = np.where(unknown, np.nan, step_s * np.maximum(shift, 0))
    share = np.array(weights) / sum(weights)
    whole = share[0] * correlation + share[1] * delay + share[2] * precision
    return Windows(correlation, delay, precision, delay_s, flat & ~unknown, whole)


def precisions(
    signal_kw: Floats, response_kw: Floats, capacity_kw: float, *, step_s: float = STEP_S,
    propagation_s: float = 0.0, precision_norm: Norm = "5min",
) -> Floats:  # fmt: skip
    """Precision of each whole window; NaN where it is not scored. Shapes and errors as for `windows`."""
    return _precision(_cut(signal_kw, response_kw, capacity_kw, step_s), step_s, propagation_s, precision_norm)


def score(
    signal_kw: Floats,
    response_kw: Floats,
    capacity_kw: float,
    *,
    step_s: float = STEP_S,
    propagation_s: float = 0.0,
    precision_norm: Norm = "5min",
    flat_pu: float = FLAT_PU,
    weights: tuple[float, ...] = WEIGHTS,
) -> PjmScore:
    """The mean over the windows; arguments as for `windows`."""
    found = windows(
        signal_kw, response_kw, capacity_kw,
        step_s=step_s, propagation_s=propagation_s, precision_norm=precision_norm, flat_pu=flat_pu, weights=weights,
    )  # fmt: skip
    given = response_kw[: signal_kw.size]
    missing = signal_kw.size - int(np.count_nonzero(~np.isnan(given)))
    return PjmScore(
        score=mean_or_none(found.score),
        correlation=mean_or_none(found.correlation),
        delay=mean_or_none(found.delay),
        precision=mean_or_none(found.precision),
        delay_s=mean_or_none(found.delay_s),
        windows=int(np.count_nonzero(~np.isnan(found.score))),
        flat_windows=int(np.count_nonzero(found.flat)),
        missing_frac=missing / signal_kw.size if signal_kw.size else 0.0,
    )


def _cut(signal_kw: Floats, response_kw: Floats, capacity_kw: float, step_s: float) -> _Cut:
    if not capacity_kw > 0:
        raise ScoreError(f"field `capacity_kw` takes a power above 0, not {capacity_kw}")
    if not 0 < step_s <= WINDOW_S / 3 or abs(WINDOW_S / step_s - round(WINDOW_S / step_s)) > 1e-9:
        raise ScoreError(f"field `step_s` takes a time of which whole ones make 5 minutes, not {step_s}")
    size, lags = round(WINDOW_S / step_s), round(LAG_S / step_s)
    count = signal_kw.size // size
    response = np.full(count * size + lags, np.nan)
    known = response_kw[: response.size]
    response[: known.size] = known / capacity_kw
    missing = np.isnan(response)
    response[missing] = 0.0
    rows = np.lib.stride_tricks.sliding_window_view
    empty = np.zeros((0, size + lags))
    return _Cut(
        signal_kw[: count * size].reshape(count, size) / capacity_kw,
        rows(response, size + lags)[::size] if count else empty,
        rows(missing, size + lags)[::size] if count else empty.astype(np.bool_),
    )


def _best(signal: Floats, response: Floats, costs: Floats, flat_pu: float) -> tuple[Ints, Floats, Bools]:
    """Shift and correlation of each window, and whether it is flat; shift -1: the response never moved.

    Shifts are tried in groups. No correlation exceeds 1, so a window whose best sum the delay score alone keeps out of
    reach is not tried further: a resource that follows well costs a few shifts instead of all.
    """
    size = signal.shape[1]
    s = signal - signal.mean(axis=1, keepdims=True)
    spread = np.einsum("ij,ij->i", s, s)
    # Centred over all it is compared with, so that sums of squares do not cancel.
    r = response - response.mean(axis=1, keepdims=True)
    flat = spread < size * flat_pu**2
    shift, found = np.full(spread.size, -1), np.zeros(spread.size)
    worth = np.where(np.isnan(spread) | flat, np.inf, -np.inf)
    for low, high in itertools.pairwise([*(edge for edge in GROUPS if edge < costs.size), costs.size]):
        rows = np.flatnonzero(costs[low] + 1.0 > worth + TIE)
        if rows.size == 0:
            break
        every = rows.size == spread.size
        part = r[:, low : high + size - 1] if every else r[rows, low : high + size - 1]
        lag, own = _group(s if every else s[rows], spread[rows], part, costs[low:high])
        gain = own + costs[low + np.maximum(lag, 0)]
        better = (lag >= 0) & (gain > worth[rows] + TIE)
        rows, lag, own = rows[better], lag[better], own[better]
        worth[rows], shift[rows], found[rows] = gain[better], low + lag, own
    slopes = 1.0 - np.abs(_slope(s[flat]) - _slope(r[flat, :size]))
    shift[flat], found[flat] = 0, slopes
    return shift, found, flat


def _group(s: Floats, spread: Floats, r: Floats, costs: Floats) -> tuple[Ints, Floats]:
    """Best of some consecutive shifts: its place, -1 where the response does not move in any, and its correlation.

    s : float64[w, m] centred signal; r : float64[w, m + k - 1] response; costs : float64[k] delay scores
    """
    size, count = s.shape[1], costs.size
    together, moved = np.empty((2, s.shape[0], count))
    for lag in range(count):
        part = r[:, lag : lag + size]
        np.einsum("ij,ij->i", s, part, out=together[:, lag])
        np.einsum("ij,ij->i", part, part, out=moved[:, lag])
        sums = np.einsum("ij->i", part)
        moved[:, lag] -= sums * sums / size
    still = moved < size * STILL_PU**2
    together /= np.sqrt(np.where(still, 1.0, moved) * spread[:, None])
    worth = np.where(still, -np.inf, together + costs)
    best = np.argmax(worth >= worth.max(axis=1, keepdims=True) - TIE, axis=1)
    rows = np.arange(best.size)
    own = together[rows, best]
    # Where the response hardly moves, differences of sums are not exact enough: two passes.
    faint = np.flatnonzero((moved[rows, best] < size * FAINT_PU**2) & ~still[rows, best])
    own[faint] = _pearson(s[faint], r[faint[:, None], best[faint, None] + np.arange(size)])
    return np.where(still.all(axis=1), -1, best), own


def _pearson(s: Floats, r: Floats) -> Floats:
    """Correlation row by row, in two passes; `s` is centred."""
    r = r - r.mean(axis=1, keepdims=True)
    scale = np.sqrt(np.einsum("ij,ij->i", s, s) * np.einsum("ij,ij->i", r, r))
    found: Floats = np.divide(np.einsum("ij,ij->i", s, r), scale, out=np.zeros(scale.size), where=scale > 0)
    return found


def _slope(values: Floats) -> Floats:
    """Least-squares slope of each row, per sample."""
    place = np.arange(values.shape[1]) - (values.shape[1] - 1) / 2.0
    slope: Floats = values @ place / float(place @ place)
    return slope


def _precision(cut: _Cut, step_s: float, propagation_s: float, norm_by: Norm) -> Floats:
    """1 - mean error over the norm, within 0..1; NaN where nothing can be said."""
    size = cut.signal.shape[1] if cut.signal.size else 1
    asked = np.abs(cut.signal).mean(axis=1)
    norm = asked
    if norm_by == "hour":
        hours = np.arange(asked.size) // round(HOUR_S / WINDOW_S)
        known = ~np.isnan(asked)
        weight = np.bincount(hours[known], minlength=hours.max(initial=-1) + 1)
        total = np.bincount(hours[known], asked[known], minlength=weight.size)
        norm = np.where(known, (total / np.maximum(weight, 1))[hours], np.nan) if asked.size else asked
    # Propagation is an allowance: whoever answers at once is not late for it.
    allowed = {0, min(cells(propagation_s, step_s), cut.response.shape[1] - size)}
    errors = [_error(cut, lag, size, norm) for lag in sorted(allowed)]
    error = np.minimum.reduce(errors)
    nil = norm <= NIL_PU
    share = np.divide(error, norm, out=np.ones_like(error), where=~nil)
    return np.where(np.isnan(asked) | (nil & (error <= NIL_PU)), np.nan, np.clip(1.0 - share, 0.0, 1.0))


def _error(cut: _Cut, lag: int, size: int, norm: Floats) -> Floats:
    """Mean error of each window when the response is taken `lag` samples later."""
    response, missing = cut.response[:, lag : lag + size], cut.missing[:, lag : lag + size]
    error = np.abs(response - cut.signal)
    if missing.any():
        error = np.where(missing, np.maximum(error, np.nan_to_num(norm)[:, None]), error)
    mean: Floats = error.mean(axis=1)
    return mean


def reach(product: Product) -> Reach:
    """10 s samples, and the 5 minutes that follow: the answer may come so late."""
    return Reach(Params(product).number("step_s", STEP_S, 0.1, 100.0), 32, round(LAG_S))


def norm_of(params: Params) -> Norm:
    """How precision is normed."""
    return "hour" if params.text("precision_norm", "5min", "hour") == "hour" else "5min"


def weights_of(params: Params) -> tuple[float, ...]:
    """What correlation, delay and precision count."""
    return params.numbers("weights", WEIGHTS)


def columns(delivery: Delivery) -> tuple[Floats, Floats]:
    """Signal of the interval and the response to it with its sequel, NaN where unknown."""
    inside = delivery.inside
    signal = delivery.asked_or_nan[inside]
    response = delivery.given_or_nan[inside.start :]
    return signal, response


def judge(delivery: Delivery, product: Product) -> Verdict:
    """The mean over the interval's windows."""
    params = Params(product)
    signal_kw, response_kw = columns(delivery)
    if np.isnan(response_kw[: signal_kw.size]).all():
        return unmeasured({"missing_frac": 1.0})
    found = score(
        signal_kw, response_kw, delivery.sold_kw,
        step_s=delivery.step_s, propagation_s=params.number("propagation_s", 0.0, 0.0, 60.0),
        precision_norm=norm_of(params), flat_pu=params.number("flat_pu", FLAT_PU), weights=weights_of(params),
    )  # fmt: skip
    kpis: Kpis = {name: value for name, value in found._asdict().items() if name != "score"}
    if found.score is None:
        return Verdict(None, "no window of 5 minutes in which the signal is known and asks for anything", kpis)
    note = (
        f"correlation {found.correlation:.3f}, delay {found.delay:.3f}, precision {found.precision:.3f} "
        f"over {found.windows} window(s)"
    )
    return Verdict(found.score, note + (f"; {found.missing_frac:.1%} missing" if found.missing_frac else ""), kpis)


RULE: Final = Rule(judge, reach)
