"""A stability study's surroundings: what a recorded run measured of its delays, and the study as a document.

The study itself is `droop.stability`. Of a run's journal two things count: how late its decisions were, sample by
sample, and what the engine had learned of each charger's dead time by the end, which the journal's calls tell again.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from aggregator import journal_reader
from aggregator.gateways.population import Behaviour
from aggregator.journal import Kind
from aggregator.replay import rebuilt
from droop.products import Product
from droop.stability import fleet as fleets
from droop.stability.grid import Grid
from droop.stability.margins import Margins
from droop.stability.measures import Measures
from droop.stability.nyquist import Floats
from droop.stability.region import Effect, Region
from droop.stability.study import Played, Study

MW_TO_KW: Final = 1e3
WORDS: Final = {
    Effect.HELPS: "helps",
    Effect.DEEPENS: "hurts: the frequency goes further from nominal with it than without",
    Effect.SWINGS: "hurts: a swing is damped by less than 5 %",
    Effect.UNSTABLE: "hurts: the loop is unstable, its swings grow",
}


class StabilityError(ValueError):
    """A run that tells no delays; the message names the option and the remedy."""


@dataclass(frozen=True)
class Delays:
    """When commands show, and where that is known from.

    delays_s, shares : as `droop.stability.fleet.Fleet` takes them
    latency_s  : by name, from a sample's stamp to the decision or the command: p50, p99 and, of a summary, its stages
    dead_s     : by name, of the chargers' dead times: p5, p50, p95, and how many are known
    how        : in words
    """

    delays_s: tuple[float, ...]
    shares: tuple[float, ...]
    latency_s: dict[str, Any]
    dead_s: dict[str, float]
    how: str


def assumed() -> Delays:
    """The dead times of the simulated fleet, behind no latency."""
    low_s, high_s = Behaviour().dead_s
    delays_s, shares = fleets.spread(low_s, high_s)
    how = f"dead times of the simulated fleet, {low_s:g} to {high_s:g} s (mark M); --delay-ms or --from-run name others"
    return Delays(delays_s, shares, {}, {}, how)


def fixed(delay_s: float) -> Delays:
    """One delay for all."""
    return Delays((delay_s,), (1.0,), {}, {}, f"one delay of {delay_s * 1e3:g} ms for the whole fleet, as given")


def of_run(path: Path) -> Delays:
    """What a run measured. path : the run's folder, or the summary that `flyball run --json` wrote

    The latency that counts is the 99th percentile: what the loop must stand now and then, it must stand.
    Raises StabilityError.
    """
    return _of_journal(path) if path.is_dir() else _of_summary(path)


def _of_journal(folder: Path) -> Delays:
    home = folder / "journal"
    if not home.is_dir():
        raise StabilityError(f"--from-run {folder}: no journal there; give the folder of a run, e.g. var/run-...")
    ticks = journal_reader.read(home, Kind.TICKS).rows
    late_s = (ticks["now_ns"] - ticks["t_ns"])[np.isfinite(ticks["hz"])] / 1e9
    late_s = late_s[late_s >= 0.0]
    if not late_s.size:
        raise StabilityError(f"--from-run {folder}: its journal holds no decision on a sample; give another run")
    p50_s, p99_s = (float(value) for value in np.quantile(late_s, (0.5, 0.99)))
    core = rebuilt(journal_reader.entries(home))
    learned = np.zeros(0) if core is None else core.engine.fleet.dead_s.astype(np.float64)
    learned = learned[learned > 0.0]
    delays_s, shares = fleets.measured(learned, p99_s)
    how = (
        f"{folder}: latency from stamp to decision {p99_s * 1e3:.3g} ms (p99 of {late_s.size}), "
        + (f"dead times that {learned.size} chargers showed" if learned.size else "no dead time is known")
    )  # fmt: skip
    latency = {"p50": p50_s, "p99": p99_s, "samples": int(late_s.size)}
    return Delays(delays_s, shares, latency, _dead(learned), how)


def _dead(learned: Floats) -> dict[str, float]:
    if not learned.size:
        return {}
    low_s, middle_s, high_s = (float(value) for value in np.quantile(learned, (0.05, 0.5, 0.95)))
    return {"p5": low_s, "p50": middle_s, "p95": high_s, "chargers": float(learned.size)}


def _of_summary(path: Path) -> Delays:
    """Latency in stages from a summary; it knows no charger, so that those of the simulated fleet stand in."""
    try:
        stages = orjson.loads(path.read_bytes())["latency_ms"]
        latency = {name: {key: float(ms) / 1e3 for key, ms in found.items()} for name, found in stages.items()}
        p99_s = latency["total"]["p99"]
    except OSError as error:
        raise StabilityError(f"--from-run {path}: cannot be read: {error.strerror}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StabilityError(
            f"--from-run {path}: no `latency_ms.total.p99` in it; give a run's folder, or what `run --json` wrote"
        ) from error
    if not 0.0 <= p99_s < math.inf:
        raise StabilityError(f"--from-run {path}: `latency_ms.total.p99` is no time")
    delays_s, shares = fleets.spread(*Behaviour().dead_s, p99_s)
    how = (
        f"{path}: latency from stamp to commands {p99_s * 1e3:.3g} ms (p99), dead times of the simulated fleet (mark M)"
    )
    return Delays(delays_s, shares, latency, {}, how)


# ---- the study as a document ------------------------------------------------------------------------------------


def sentence(study: Study) -> str:
    """In one sentence whether the fleet helps, by how much, and how late it may be."""
    fleet, grid = study.fleet, study.grid
    who = f"{fleet.fleet_mw:g} MW of {fleet.product.id} in {grid.id}, {fleet.delay_s:.2f} s late on average,"
    late = (
        "it may be late by any time up to 5 s" if math.isinf(study.largest_delay_s)
        else f"the largest mean delay it may have is {study.largest_delay_s:.2f} s" if study.largest_delay_s > 0.0
        else "it may not be of this size at any delay"
    )  # fmt: skip
    if study.effect is not Effect.HELPS:
        return f"{who} {WORDS[study.effect]}; {late}."
    alone_hz, with_hz = study.alone.measures.worst_dev_hz, study.played.measures.worst_dev_hz
    gain_hz = alone_hz - with_hz
    if gain_hz < 5e-5:
        return f"{who} changes nothing: {alone_hz:.3f} Hz from nominal with and without it; {late}."
    return (
        f"{who} helps: a loss of {study.contingency.loss_mw:g} MW takes the frequency {with_hz:.3f} Hz from nominal "
        f"instead of {alone_hz:.3f} Hz ({1e3 * gain_hz:.0f} mHz less, {gain_hz / alone_hz:.0%}); {late}."
    )


def document(study: Study, delays: Delays) -> dict[str, Any]:
    """The study, JSON-ready: what is not a number is null."""
    fleet, grid = study.fleet, study.grid
    found: dict[str, Any] = {
        "grid": grid.id, "product": fleet.product.id, "fleet_mw": fleet.fleet_mw,
        "loss_mw": study.contingency.loss_mw, "delay_s": fleet.delay_s, "helps": study.effect is Effect.HELPS,
        "effect": study.effect.name.lower(), "sentence": sentence(study),
        "largest_delay_s": study.largest_delay_s, "largest_mw": study.largest_mw, "linear": study.linear,
        "alone": _measures(study.alone.measures), "with_fleet": _measures(study.played.measures),
        "by_size": [{"fleet_mw": one.fleet_mw, **_measures(one.measures)} for one in study.sizes],
        "margins": _margins(study.margins), "margins_note": margins_note(study),
        "region": _region(study.region), "delays": asdict(delays), "grid_figures": figures_of(study),
        "confidence": {"grid": confidence(grid), "product": confidence(fleet.product)}, "sources": list(grid.sources),
    }  # fmt: skip
    return {name: _finite(value) for name, value in found.items()}


def confidence(item: Grid | Product) -> str:
    """The whole's mark, and which others single figures have."""
    others = sorted(set((item.marks or {}).values()) - {item.confidence})
    return item.confidence + (f" ({', '.join(others)} in part)" if others else "")


def limit(value: float | None) -> float | str:
    """A limit as people read it: none was found where it is null."""
    return "none found" if value is None else value


def margins_note(study: Study) -> str:
    """Why there are no margins, or what they are of."""
    if study.margins is None:
        return "a switch closes no linear loop: it is judged by its course alone"
    return f"of the stretch of the curves with the least left, about {study.margins.dev_hz:+.3g} Hz"


def figures_of(study: Study) -> list[dict[str, Any]]:
    """The grid's figures with their marks."""
    grid = study.grid
    rows = [
        {"name": name, "value": getattr(grid, name), "mark": grid.mark(name)}
        for name in ("nominal_hz", "size_mw", "inertia_s", "load_damping_pu", "shed_hz", "secondary_pu_s")
    ]
    for one in grid.governor:
        for name, value in asdict(one).items():
            if (
                name == "title"
                or value in (0.0, math.inf)
                or (name, value) in (("share_frac", 1.0), ("transient_ratio", 1.0))
            ):
                continue
            mark = (grid.marks or {}).get(f"governor.{name}", grid.mark("governor"))
            rows.append({"name": f"{one.title or 'governor'}: {name}", "value": value, "mark": mark})
    return rows


def _measures(found: Measures) -> dict[str, Any]:
    return found._asdict()


def _margins(found: Margins | None) -> dict[str, Any] | None:
    return None if found is None else found._asdict()


def _region(found: Region | None) -> dict[str, Any] | None:
    if found is None:
        return None
    words = {int(effect): effect.name.lower() for effect in Effect}
    return {
        "sizes_mw": found.sizes_mw.tolist(), "delays_s": found.delays_s.tolist(),
        "effect": [[words[code] for code in row] for row in found.effect.tolist()],
        "worst_dev_hz": found.worst_dev_hz.tolist(), "edge_s": found.edge_s.tolist(), "best_mw": found.best_mw.tolist(),
    }  # fmt: skip


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(study: Study) -> Any:
    """The courses as an Arrow table: one row a step of the course with the fleet, columns for each size beside it."""
    import pyarrow as pa

    played = study.played.course
    columns = {
        "t_s": played.t_s, "hz_alone": study.alone.course.hz, "hz": played.hz, "fleet_mw": played.fleet_mw,
        "governors_mw": played.governors_mw, "governors_alone_mw": study.alone.course.governors_mw,
        "lost_mw": played.lost_mw,
    } | {_column(one): one.course.hz for one in study.sizes if one.fleet_mw != study.fleet.fleet_mw}  # fmt: skip
    return pa.table(columns)


def _column(one: Played) -> str:
    return f"hz_{one.fleet_mw:g}_mw"
