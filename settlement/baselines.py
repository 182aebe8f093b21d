"""Other ways to a baseline than the charging plan: each makes declarations, from what was known when it made them.

A baseline is ex ante or real-time, never ex post, and independent of the frequency (rulebook 2.5, TenneT NL 4.3). Each
method here therefore ends in the same record as a declared plan, with the moment up to which its inputs reach as the
moment of declaration: `settlement.baseline.accept` then refuses what was made after the fact, whoever made it. Where a
method's inputs are missing it declares nothing, and that time is not covered: silence is never filled in.

Which method a product admits: one that answers all the time has no undisturbed moment to look at, so that a median or
a look back would take its own response for the baseline (rulebook 10): a plan or a regression alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from droop.products import Product
from settlement import delivered
from settlement.align import NS, Floats, Grid, Ints
from settlement.baseline import BaselineError, ExPostError
from settlement.facts import Declarations, Meters

RUN: Final = 0
HOUR_NS: Final = 3600 * NS
DAY_NS: Final = 24 * HOUR_NS
CONTINUOUS: Final = ("schedule", "regression")
EVENT_MAX_S: Final = 3600.0  # what the settlement looks back at, of an event that lasts longer nothing is declared
METHODS: Final = (*CONTINUOUS, "rolling_median", "pre_event", "control_group")


@dataclass(frozen=True)
class Model:
    """A regression fitted on days before.

    names        : of the columns
    coefficients : float64, one a column [kW per unit]
    until_ns     : end of the newest row it was fitted on
    residual_kw  : standard deviation of what it left unexplained
    """

    names: tuple[str, ...]
    coefficients: tuple[float, ...]
    until_ns: int
    residual_kw: float


def method(product: Product) -> str:
    """The baseline method of a product, `schedule` where its table names none.

    Raises BaselineError for one that is unknown or that the product's kind does not admit.
    """
    name = str(product.baseline.get("fn", "schedule"))
    if name not in METHODS:
        raise BaselineError(f"{product.id}: field `baseline.fn` names `{name}`; known: {', '.join(METHODS)}")
    if product.trigger is None and name not in CONTINUOUS:
        raise BaselineError(
            f"{product.id}: field `baseline.fn`: `{name}` would take the response for the baseline, as this product "
            f"answers all the time; give {' or '.join(CONTINUOUS)}"
        )
    return name


def ramp_s(product: Product) -> int:
    """How long a declared plan ramps from one interval to the next: whole seconds, 0 unless the table says so.

    Raises BaselineError.
    """
    value = product.baseline.get("ramp_s", 0)
    if isinstance(value, bool) or value not in range(product.interval_s // 2 + 1):
        raise BaselineError(
            f"{product.id}: field `baseline.ramp_s` takes whole seconds up to half an interval, not {value!r}"
        )
    return int(value)


def rolling_median(meters: Meters, grid: Grid, *, window_s: float, lag_s: float = 0.0) -> Declarations:
    """For each cell the median of what was metered in the window before it; real-time.

    lag_s : how far the window stays behind, for meters that report late
    """
    t_ns, power_kw = _pooled(meters)
    window_ns, lag_ns = round(window_s * NS), round(lag_s * NS)
    if window_ns <= 0 or lag_ns < 0:
        raise BaselineError("fields `window_s` and `lag_s` take a time above 0 and one of 0 or more")
    rows = []
    for start_ns in grid.edges_ns[:-1].tolist():
        known_ns = start_ns - lag_ns
        first, last = np.searchsorted(t_ns, (known_ns - window_ns, known_ns))
        if last > first:
            rows.append((known_ns, start_ns, start_ns + grid.step_ns, float(np.median(power_kw[first:last]))))
    return _declarations(rows)


def pre_event(meters: Meters, events: Sequence[tuple[int, int]], *, last_s: float) -> Declarations:
    """For each event the mean of what was metered right before it; declared as it begins.

    events : (start_ns, end_ns), ascending; what lies within an earlier event is not looked at
    """
    if last_s <= 0:
        raise BaselineError(f"field `last_s` takes a time above 0, not {last_s:g}")
    t_ns, power_kw = _pooled(meters)
    rows, free_ns = [], np.iinfo(np.int64).min
    for start_ns, end_ns in events:
        first, last = np.searchsorted(t_ns, (max(start_ns - round(last_s * NS), free_ns), start_ns))
        free_ns = end_ns
        if last > first:
            rows.append((start_ns, start_ns, end_ns, float(power_kw[first:last].mean())))
    return _declarations(rows)


def control_group(t_ns: Ints, power_kw: Floats, vehicles: Ints, contracted: int, grid: Grid) -> Declarations:
    """For each cell what the contracted vehicles would do if they did as those without a contract just did.

    t_ns, power_kw, vehicles : rows of the control group's power [kW, sum] and of how many are in it; real-time
    contracted               : vehicles in the pool
    """
    if contracted < 0:
        raise BaselineError(f"field `contracted` takes a count of 0 or more, not {contracted}")
    rows = []
    for start_ns in grid.edges_ns[:-1].tolist():
        first, last = np.searchsorted(t_ns, (start_ns - grid.step_ns, start_ns))
        counted = vehicles[first:last] > 0
        if counted.any():
            each_kw = float((power_kw[first:last][counted] / vehicles[first:last][counted]).mean())
            rows.append((start_ns, start_ns, start_ns + grid.step_ns, each_kw * contracted))
    return _declarations(rows)


def fit(names: Sequence[str], columns: Floats, power_kw: Floats, t_ns: Ints) -> Model:
    """Least squares over days before.

    columns  : float64[n, k]  hour of the day, temperature, vehicles connected ...: never the frequency
    power_kw : float64[n]     metered while the product was not sold, or its declared plan
    """
    if any(name.endswith("hz") or "freq" in name for name in names):
        raise BaselineError("field `names`: a baseline must not depend on the frequency (TenneT NL 4.3)")
    known = np.isfinite(columns).all(axis=1) & np.isfinite(power_kw)
    if int(known.sum()) < columns.shape[1]:
        raise BaselineError(f"{int(known.sum())} known rows are too few for {columns.shape[1]} columns")
    found, *_ = np.linalg.lstsq(columns[known], power_kw[known], rcond=None)
    left_kw = power_kw[known] - columns[known] @ found
    return Model(tuple(names), tuple(found.tolist()), int(t_ns[known].max()), float(left_kw.std()))


def predict(model: Model, names: Sequence[str], columns: Floats, grid: Grid, declared_ns: int) -> Declarations:
    """What the model says of each cell, declared at `declared_ns`.

    columns : float64[cells, k]  as known when it is declared: forecasts, not measurements of the cell

    Raises ExPostError for a model that was fitted on the day itself.
    """
    if tuple(names) != model.names:
        raise BaselineError(f"field `names`: the model takes {', '.join(model.names)}, not {', '.join(names)}")
    day_ns = grid.start_ns - grid.start_ns % DAY_NS
    if model.until_ns > day_ns:
        raise ExPostError("field `until_ns`: the model was fitted on the day it speaks of; fit it on days before")
    power_kw = columns @ np.array(model.coefficients)
    starts = grid.edges_ns[:-1].tolist()
    return _declarations(
        [
            (declared_ns, start_ns, start_ns + grid.step_ns, float(kw))
            for start_ns, kw in zip(starts, power_kw, strict=True)
            if np.isfinite(kw)
        ]
    )


def hours(grid: Grid) -> tuple[list[str], Floats]:
    """The columns that need nobody to be asked: which hour of the day (UTC) a cell begins in."""
    hour = (grid.edges_ns[:-1] % DAY_NS) // HOUR_NS
    return [f"hour_{h}" for h in range(24)], (hour[:, None] == np.arange(24)).astype(np.float64)


def events(weight: Floats, grid: Grid, *, apart_s: float = 0.0) -> list[tuple[int, int]]:
    """Spans in which a product asks for anything. weight : float64[cells], the fraction asked; NaN asks for nothing"""
    asked = np.nan_to_num(weight) != 0.0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], asked, [False]]).astype(np.int8)))
    found: list[tuple[int, int]] = []
    for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        start_ns, end_ns = grid.start_ns + first * grid.step_ns, grid.start_ns + last * grid.step_ns
        if found and start_ns - found[-1][1] <= apart_s * NS:
            found[-1] = (found[-1][0], end_ns)
        else:
            found.append((start_ns, end_ns))
    return found


def model_of(table: Mapping[str, Any], where: str) -> Model:
    """The model that a product's `baseline` table holds. Raises BaselineError."""
    try:
        coefficients: Mapping[str, float] = table["coefficients"]
        names, values = zip(*((str(name), float(value)) for name, value in coefficients.items()), strict=True)
        return Model(names, values, int(table["until_ns"]), float(table.get("residual_kw", 0.0)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BaselineError(
            f"{where}: field `baseline` takes `coefficients` (a table) and `until_ns` for a regression: {error}"
        ) from error


def lead_s(product: Product) -> float:
    """History before the interval that the product's baseline looks at [s]."""
    table = product.baseline
    looks_s = float(table.get("window_s", 0.0)) + float(table.get("lag_s", 0.0)) + float(table.get("last_s", 0.0))
    if method(product) == "pre_event" and product.trigger is not None:
        # The event may have begun before the interval: what was before it must be seen.
        trigger = product.trigger
        support_s = product.full_s + trigger.after_s + trigger.hold_s + trigger.release_s + 1.0 / trigger.fall_pu_s
        looks_s += min(support_s, EVENT_MAX_S)
    return looks_s


def check(product: Product) -> None:
    """Refuse a `baseline` table that could not be settled by, before anything is sold. Raises BaselineError."""
    nothing = Meters(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64), np.zeros(0, bool))
    try:
        if method(product) != "schedule":
            lead_s(product)
            declare(product, nothing, np.zeros(1), Grid(0, NS, 1))
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, BaselineError):
            raise
        raise BaselineError(f"{product.id}: table `baseline`: {error}; give numbers") from error


def declare(product: Product, meters: Meters, asked: Floats, grid: Grid) -> Declarations:
    """The declarations of a product whose baseline is no plan.

    asked : float64[cells]  fraction the product asks for, which tells events from the time between
    grid  : of the interval and its history

    A control group has a meter of its own (`meter`, with `vehicles` behind it), which is no part of the fleet's; the
    pool has `contracted` vehicles. Of several meters their sum is looked at, where all of them are known.
    """
    name, table = method(product), product.baseline
    step = Grid(grid.start_ns, round(float(table.get("step_s", 60.0)) * NS), 0)
    cells = -(-(grid.end_ns - grid.start_ns) // step.step_ns)
    whole = Grid(step.start_ns, step.step_ns, cells)
    if name == "rolling_median":
        lag_s = float(table.get("lag_s", 0.0))
        return rolling_median(_summed(meters, grid), whole, window_s=float(table.get("window_s", 600.0)), lag_s=lag_s)
    if name == "pre_event":
        # What was going on when the history begins has no moment before it that is known: it would be its own baseline.
        begun = [span for span in events(asked, grid) if span[0] > grid.start_ns]
        return pre_event(_summed(meters, grid), begun, last_s=float(table.get("last_s", 60.0)))
    if name == "regression":
        names, columns = hours(whole)
        try:
            return predict(model_of(table, product.id), names, columns, whole, grid.start_ns)
        except ExPostError:
            return _declarations([])  # it knows the day it speaks of: that is no baseline, and must stop nobody
    own = meters.meter == controls(product)
    control = Meters(*(column[own] for column in meters))
    t_ns, power_kw = _pooled(control)
    vehicles = np.full(t_ns.size, int(table.get("vehicles", 0)), np.int64)
    return control_group(t_ns, power_kw, vehicles, int(table.get("contracted", 0)), whole)


def controls(product: Product) -> int:
    """Number of the meter of a product's control group; -1: it has none."""
    return int(product.baseline.get("meter", -1)) if method(product) == "control_group" else -1


def _summed(meters: Meters, grid: Grid) -> Meters:
    """One meter as it is; of several their sum on the grid, NaN where one is silent."""
    if np.unique(meters.meter).size < 2:
        return meters
    cells = delivered.metered_kw(meters, grid)
    whole = np.where(cells.coverage_frac > 0, cells.mean, np.nan)
    return Meters(grid.edges_ns[:-1], whole, np.zeros(grid.cells, np.int64), np.ones(grid.cells, bool))


def _pooled(meters: Meters) -> tuple[Ints, Floats]:
    """Usable rows of one meter, in order; of several meters there is no single reading to take."""
    if np.unique(meters.meter).size > 1:
        raise BaselineError("several meters: put them on a grid and give the sum as one")
    keep = meters.usable & np.isfinite(meters.power_kw)
    order = np.argsort(meters.t_ns[keep], kind="stable")
    return meters.t_ns[keep][order], meters.power_kw[keep][order]


def _declarations(rows: Sequence[tuple[int, int, int, float]]) -> Declarations:
    """Rows of (declared_ns, start_ns, end_ns, power_kw) as one run; none of them late."""
    times: Ints = np.array([row[:3] for row in rows], np.int64).reshape(-1, 3)
    power_kw: Floats = np.array([row[3] for row in rows], np.float64)
    return Declarations(
        times[:, 0], times[:, 1], times[:, 2], power_kw, np.full(len(rows), RUN, np.int64), np.zeros(len(rows), bool)
    )
