"""From the recorded rows of one interval to its statements, one per product sold.

Pure: the same rows give the same numbers, which is what `verify` rests on. Energy requested is counted over the time
in which frequency is known, energy delivered over the time in which meter and baseline are; only seconds in which all
three are known (at least half of each) are scored. The delivery of stacked products is shared out (`delivered.share`).
Energies stand on seconds; a score on the grid that its rule wants, with the history and sequel it wants
(`scores.reach`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from droop import products
from droop.products import Product
from settlement import align, baseline, baselines, delivered, expected, history, managed, metering, soe, window
from settlement.align import NS, Bools, Cells, Floats, Grid, Ints
from settlement.balance import EnergyBalance, balance
from settlement.baseline import Mirroring
from settlement.facts import NO_ENERGY, Facts, Samples, Signal, digest
from settlement.mileage import mileage
from settlement.scores import Delivery, Reach, judge
from settlement.scores import reach as reach_of
from settlement.scores.rule import Kpis
from settlement.statement import BaselineUsed, HistoryUsed, Statement, StateOfEnergy, Used, VerifyError, differing

STEP_NS: Final = NS
LEAD_S: Final = 32  # least history before the interval: the slowest admissible response takes 30 s
SCORED_COVERAGE: Final = 0.5


class Sold(NamedTuple):
    """One product as sold on this fleet."""

    product: Product
    sold_kw: float


class _Span(NamedTuple):
    """What is computed: [start, end) as far as `until`, with its history, on one grid."""

    start_ns: int
    end_ns: int
    until_ns: int
    final: bool
    grid: Grid
    lead: int  # cells before the interval

    def inner(self, cells: Cells) -> Cells:
        return Cells(cells.mean[self.lead :], cells.coverage_frac[self.lead :])


class Powers(NamedTuple):
    """What was declared, metered, asked and given, on one grid."""

    declared: Cells
    metered: Cells
    net: Cells
    targets: list[Cells]
    shares_kw: list[Floats]


class _Fleet(NamedTuple):
    """What is common to all products of an interval."""

    facts: Facts  # with the baseline by the products' own method
    series: Powers
    unserved_kwh: dict[str, float]
    baseline: BaselineUsed
    mirror: Mirroring
    energy_balance: EnergyBalance
    history: HistoryUsed
    energy: StateOfEnergy | None


def lead_s(sold: Sequence[Sold]) -> int:
    """History before an interval that its statements need [s]: the scores', and what a baseline looks back at."""
    looks_s = max((math.ceil(baselines.lead_s(item.product)) for item in sold), default=0)
    return looks_s + max((reach_of(item.product).lead_s for item in sold), default=LEAD_S)


def tail_s(sold: Sequence[Sold]) -> int:
    """Sequel after an interval that its statements need [s]: an answer that a score still awaits."""
    return max((reach_of(item.product).tail_s for item in sold), default=0)


def heard_ns(sold: Sequence[Sold]) -> int:
    """How far before an interval its frequency is needed [ns]: for its history, and for the state of its products."""
    state_ns = max((expected.history_ns(item.product) for item in sold), default=0)
    return max(lead_s(sold) * NS, LEAD_S * NS + state_ns)


def reach_ns(sold: Sequence[Sold]) -> int:
    """How far before an interval any of its rows are needed [ns]."""
    return max(heard_ns(sold), soe.reach_ns(sold) + LEAD_S * NS)


def used(sold: Sequence[Sold], facts: Facts, start_ns: int, until_ns: int) -> Facts:
    """The rows that the statements of [start, until) may use: nothing else can change them.

    Meters, baseline and energies of a product that asks for a state of energy reach further back than the frequency.
    """
    near, far_ns = window.cut(facts, start_ns - heard_ns(sold), until_ns), soe.reach_ns(sold)
    if not far_ns:
        return near._replace(energy=NO_ENERGY)
    far_ns = max(heard_ns(sold), far_ns + LEAD_S * NS)
    meters, declared, energy = facts.meters, facts.declarations, facts.energy
    return near._replace(
        meters=window.take(meters, window.between(meters.t_ns, start_ns - far_ns, until_ns)),
        declarations=window.take(declared, window.declared(declared, start_ns - far_ns, until_ns)),
        energy=window.take(energy, window.between(energy.t_ns, start_ns - far_ns, until_ns)),
    )


def settle(
    sold: Sequence[Sold], facts: Facts, start_ns: int, end_ns: int, *, until_ns: int | None = None, final: bool = True
) -> list[Statement]:
    """Statements of [start_ns, end_ns), one per product, computed up to `until_ns`."""
    until_ns = end_ns if until_ns is None else max(start_ns, min(end_ns, until_ns))
    lead_ns, tail_ns = lead_s(sold) * NS, tail_s(sold) * NS if until_ns == end_ns else 0
    cells = lead_ns // STEP_NS + -(-(until_ns - start_ns) // STEP_NS)
    grid = Grid(start_ns - lead_ns, STEP_NS, cells)
    span = _Span(start_ns, end_ns, until_ns, final, grid, lead_ns // STEP_NS)
    doubts = delivered.doubts(facts.meters, start_ns, until_ns)
    if not sold:
        return []
    energy = soe.judge(sold, used(sold, facts, start_ns, until_ns + tail_ns), start_ns)
    facts = window.cut(facts, start_ns - heard_ns(sold), until_ns + tail_ns)
    facts = facts._replace(notes=(*facts.notes, *doubts))
    heard, filled = facts.samples, history.fill(facts.samples, facts.history)
    facts = facts._replace(samples=filled.samples)
    fleet = _fleet(sold, facts, span, _history(heard, filled, sold[0].product, span), energy)
    return [_statement(k, sold, facts, span, fleet) for k in range(len(sold))]


def verify(statement: Statement, facts: Facts, load: Callable[[str], Product] = products.load) -> None:
    """Compute a statement again from its rows; VerifyError names the first field that differs.

    facts : the rows of the interval, of `reach_ns` before it and `tail_s` after it; more do no harm
    load  : where products come from; the catalogue, or the journal that carries them in full
    """
    sold = [Sold(load(name), kw) for name, kw in statement.stack.items()]
    again = settle(
        sold, facts, statement.start_ns, statement.end_ns, until_ns=statement.until_ns, final=statement.final
    )
    found = next((item for item in again if item.product == statement.product), None)
    if found is None:
        raise VerifyError(statement.key, "product", statement.product, list(statement.stack))
    # Which revision it is, and of which version, the rows cannot tell.
    difference = differing(statement, replace(found, revision=statement.revision, version=statement.version))
    if difference is not None:
        raise VerifyError(statement.key, *difference)


def _fleet(
    sold: Sequence[Sold], facts: Facts, span: _Span, late: HistoryUsed, energy: StateOfEnergy | None
) -> _Fleet:  # fmt: skip
    grid = span.grid
    tail = tail_s(sold) * NS // grid.step_ns if span.until_ns == span.end_ns else 0
    judged = based(sold, facts, Grid(grid.start_ns, grid.step_ns, grid.cells + tail))
    series = powers(sold, judged, grid)
    declared, metered = series.declared, series.metered
    dev = expected.deviation_hz(sold[0].product, facts.samples, grid)
    interval = Grid(span.start_ns, grid.step_ns, grid.cells - span.lead)
    grid_kwh = align.integral(span.inner(metered), grid.step_s) / 3600.0
    return _Fleet(
        facts=judged,
        series=series,
        unserved_kwh=delivered.unserved_kwh(facts.shortfall, interval),
        baseline=_baseline(judged, declared, span),
        mirror=baseline.mirroring(span.inner(declared).mean, span.inner(dev).mean, grid.step_s),
        energy_balance=balance(grid_kwh if facts.meters.t_ns.size else None, facts.fleet),
        history=late,
        energy=energy,
    )


def powers(sold: Sequence[Sold], facts: Facts, grid: Grid) -> Powers:
    """Baseline, meter and each product's asked and given power on a grid; facts reach back by `reach_ns`."""
    declared = baseline.power_kw(facts.declarations, grid)
    metered = delivered.metered_kw(facts.meters, grid)
    net = delivered.net_kw(metered, declared)
    targets = [expected.of(sold, k, facts, grid) for k in range(len(sold))]
    return Powers(declared, metered, net, targets, _shares(sold, net, targets, _signal_kw(facts.signal, grid)))


def based(sold: Sequence[Sold], facts: Facts, grid: Grid) -> Facts:
    """The baseline by the products' own method, and the meters without those of a control group.

    grid : with the history that the method looks back at (`lead_s`)
    """
    methods = {baselines.method(item.product) for item in sold}
    if methods == {"schedule"}:
        return facts
    if len(sold) > 1:
        raise baseline.BaselineError(f"{len(sold)} products share one delivery: all of them need the plan as baseline")
    declared = baselines.declare(sold[0].product, facts.meters, expected.of(sold, 0, facts, grid).mean, grid)
    own = facts.meters.meter != baselines.controls(sold[0].product)
    return facts._replace(declarations=declared, meters=window.take(facts.meters, np.flatnonzero(own)))


def _signal_kw(signal: Signal, grid: Grid) -> Floats:
    """Set-point on top of the products; where none is in force it is 0, not unknown."""
    cells = align.of_segments(signal.start_ns, signal.end_ns, signal.power_kw, grid)
    return np.nan_to_num(cells.mean) * cells.coverage_frac


def _shares(sold: Sequence[Sold], net: Cells, targets: Sequence[Cells], signal_kw: Floats) -> list[Floats]:
    """Each product's part of the delivery; a set-point of its own takes its part like a product."""
    requested = [cells.mean for cells in targets]
    sizes = [item.sold_kw for item in sold]
    # Where products on a signal are sold, the set-point is theirs.
    if signal_kw.any() and not any(item.product.input == "signal" for item in sold):
        requested.append(signal_kw)
        sizes.append(0.0)
    return delivered.share(net.mean, requested, sizes)


def _statement(k: int, sold: Sequence[Sold], facts: Facts, span: _Span, fleet: _Fleet) -> Statement:
    (product, sold_kw), series, step_s = sold[k], fleet.series, span.grid.step_s
    target = series.targets[k]
    known = np.minimum(target.coverage_frac, series.net.coverage_frac)
    given = Cells(series.shares_kw[k], series.net.coverage_frac)
    verdict = judge(product, _delivery(k, sold, fleet.facts, span, series))
    requested = delivered.energy(span.inner(target), step_s)
    supplied = delivered.energy(span.inner(given), step_s)
    # The change into the interval counts in it, so that mileage adds up over intervals.
    moved_kw = mileage(target.mean[span.lead - 1 :])
    part = _part(k, series.targets, span)
    return Statement(
        product=product.id,
        start_ns=span.start_ns,
        end_ns=span.end_ns,
        until_ns=span.until_ns,
        final=span.final,
        sold_kw=sold_kw,
        stack={item.product.id: item.sold_kw for item in sold},
        samples=_used(facts.samples.t_ns, facts.samples.hz, facts.samples.usable),
        meters=_used(facts.meters.t_ns, *facts.meters[1:]),
        signal=_used(facts.signal.start_ns, *facts.signal[1:]),
        baseline=fleet.baseline,
        requested_up_kwh=requested.up_kwh,
        requested_down_kwh=requested.down_kwh,
        delivered_up_kwh=supplied.up_kwh,
        delivered_down_kwh=supplied.down_kwh,
        mileage=moved_kw / sold_kw if sold_kw > 0 else 0.0,
        coverage_frac=_mean(known[span.lead :]),
        coverage={
            product.input: _mean(span.inner(target).coverage_frac),
            "meter": _mean(span.inner(series.metered).coverage_frac),
            "baseline": _mean(span.inner(series.declared).coverage_frac),
        },
        score=verdict.score,
        score_note=verdict.note,
        kpis={
            **verdict.kpis,
            "baseline_mirroring": fleet.mirror.correlation,
            **_available(product, facts, known[span.lead :], verdict.kpis, span, fleet.energy),
        },
        unserved_kwh={name: kwh * part for name, kwh in fleet.unserved_kwh.items()},
        energy_balance=fleet.energy_balance,
        notes=(*facts.notes, *metering.too_slow(product, facts.meters), *_notes(fleet)),
        history=fleet.history,
        accuracy=metering.accuracy(product, facts.meters, facts.classes, span.start_ns, span.until_ns),
        modes=_modes(product, facts),
        state_of_energy=fleet.energy if soe.asks(product) else None,
    )


def _available(
    product: Product, facts: Facts, known: Floats, judged: Kpis, span: _Span, energy: StateOfEnergy | None
) -> Kpis:  # fmt: skip
    """Share of the time in which the product counts as available, where AEM took some of it (Nordic requirements), or
    where the whole period is unavailable because it began with too little energy (NESO).
    """
    if energy is not None and energy.available is False and soe.asks(product):
        return {"available_frac": 0.0}
    start = Grid(span.start_ns, span.grid.step_ns, known.size).edges_ns[:-1]
    off = managed.unavailable(start, facts.modes.get(product.id))
    if not off.any():
        return {}
    least = judged.get("available_frac")
    left = _mean(np.where(off, 0.0, known))
    return {"available_frac": left if least is None else min(left, float(least)), "aem_frac": _mean(off.astype(float))}


def _delivery(k: int, sold: Sequence[Sold], facts: Facts, span: _Span, series: Powers) -> Delivery:
    """What the rule judges: history and sequel included, and only cells with at least half of everything counted."""
    (product, sold_kw), wanted = sold[k], reach_of(sold[k].product)
    step_ns = _step_ns(wanted, facts)
    grid, first = span.grid, span.lead
    if step_ns != grid.step_ns or wanted.tail_s:
        first = -(-wanted.lead_s * NS // step_ns)
        tail = -(-wanted.tail_s * NS // step_ns) if span.until_ns == span.end_ns else 0
        cells = first + -(-(span.until_ns - span.start_ns) // step_ns) + tail
        grid = Grid(span.start_ns - first * step_ns, step_ns, cells)
        series = powers(sold, facts, grid)
    # A cell that is not over cannot be judged: of an interval that goes on, whole cells count.
    judged_ns = span.until_ns - span.start_ns
    last = first + (judged_ns // step_ns if span.until_ns < span.end_ns else -(-judged_ns // step_ns))
    target, dev = series.targets[k], expected.deviation_hz(product, facts.samples, grid)
    # The engine holds a lost frequency for `hold_s` and then goes back to the baseline: so does the history.
    held_cells = max(1, round(product.hold_s / grid.step_s))
    held = align.carry(target.mean, held_cells)
    asked: Bools = target.coverage_frac >= SCORED_COVERAGE
    given: Bools = series.net.coverage_frac >= SCORED_COVERAGE
    valid = asked & given
    valid[:first] = valid[last:] = False
    point = expected.set_point_kw(sold, k, facts, grid)
    return Delivery(
        series.shares_kw[k], np.nan_to_num(held), dev.mean, sold_kw, valid, grid.step_s, asked, given, first, last,
        None if point is None else np.nan_to_num(align.carry(point.mean, held_cells)),
    )  # fmt: skip


def _step_ns(wanted: Reach, facts: Facts) -> int:
    """Cell of a rule: the market's, or for a rule that follows the data no finer than samples and meters came."""
    market_ns = round(wanted.step_s * NS)
    if not wanted.follows:
        return market_ns
    m = facts.meters
    periods = [align.period_ns(m.t_ns[m.meter == meter]) for meter in np.unique(m.meter)]
    coarsest = max((align.period_ns(facts.samples.t_ns[facts.samples.usable]), *periods))
    # A little jitter does not make a coarser grid.
    return market_ns * max(1, -(-round(0.99 * coarsest) // market_ns))


def _part(k: int, targets: Sequence[Cells], span: _Span) -> float:
    """A product's part of a shortfall that is known for the fleet only: by energy requested."""
    asked = [sum(delivered.energy(span.inner(cells), span.grid.step_s)) for cells in targets]
    return asked[k] / sum(asked) if sum(asked) > 0 else 1.0 / len(targets)


def _baseline(facts: Facts, declared: Cells, span: _Span) -> BaselineUsed:
    d = facts.declarations
    rows = baseline.used(d, span.start_ns, span.until_ns)
    accepted = baseline.accept(d)
    cells = span.inner(declared)
    covered_s = float(cells.coverage_frac.sum()) * span.grid.step_s
    return BaselineUsed(
        mean_kw=align.integral(cells, span.grid.step_s) / covered_s if covered_s > 0 else None,
        declared_ns=int(d.declared_ns[rows].max()) if rows.size else None,
        rows=int(rows.size),
        late=bool(np.isin(accepted.rows[accepted.late], rows).any()),
        refused=window.refused_between(d, span.start_ns, span.until_ns),
        sha256=digest(d.declared_ns[rows], d.start_ns[rows], d.end_ns[rows], d.power_kw[rows]),
    )


def _history(heard: Samples, filled: history.Filled, product: Product, span: _Span) -> HistoryUsed:
    inner = Grid(span.start_ns, span.grid.step_ns, span.grid.cells - span.lead)
    seconds = history.filled_s(heard, filled, inner, expected.hold_ns(product, filled.samples))
    through = "" if filled.through is None else "{}-{}".format(*filled.through)
    return HistoryUsed(int(filled.late.sum()), seconds, through)


def _notes(fleet: _Fleet) -> list[str]:
    notes = []
    if fleet.baseline.late:
        notes.append("baseline late: the first of a run, it counts from its declaration on")
    if fleet.baseline.refused:
        notes.append(f"baseline: {fleet.baseline.refused} declarations refused, made after their start")
    if fleet.history.seconds:
        notes.append(f"frequency: {fleet.history.seconds:.1f} s known by late history alone")
    if fleet.energy is not None and fleet.energy.note:
        notes.append(fleet.energy.note)
    if fleet.mirror.alarm:
        notes.append(f"baseline mirrors the frequency: correlation {fleet.mirror.correlation:.2f}")
    return notes


def _modes(product: Product, facts: Facts) -> Used | None:
    rows = facts.modes.get(product.id)
    return None if rows is None or not rows.from_ns.size else _used(rows.from_ns, *rows[1:])


def _used(t_ns: Ints, *columns: Ints | Floats | Bools) -> Used:
    first, last = (int(t_ns[0]), int(t_ns[-1])) if t_ns.size else (None, None)
    return Used(int(t_ns.size), first, last, digest(t_ns, *columns))


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else 0.0
