"""Fleets of recorded sessions: reading them, a year of drawn drivers, and what plans by price cost a refresh."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from aggregator.fleets import generating, joining, model
from aggregator.gateways.population import Behaviour
from benchmarks.fleets import NOW_NS, engine_with
from benchmarks.measure import Figure, interleaved_ns, ratio
from benchmarks.traces import best_s
from droop import plans
from droop.bounds import means
from droop.fleet import SEGMENTS
from droop.plans import PlanKind
from droop.refresh import refresh, scratch
from telemetry.sessions import open_sessions
from telemetry.vehicles import builtin

CHARGERS = 1000
YEAR_NS = 365 * 86_400_000_000_000
VEHICLES = 100_000


def file_of(folder: Path, rows: int) -> Path:
    """Sessions as the Norwegian reports have them."""
    path = folder / "reports.csv"
    body = (
        f'"A";"A_{k % 40}";"{k}";2019-{1 + k % 12:02d}-{1 + k % 28:02d} {k % 24:02d}:08:00;'
        f"2020-01-{1 + k % 28:02d} 08:20:00;13,2;19,96\n"
        for k in range(rows)
    )
    header = '"location";"user_id";"session_id";"plugin_time";"plugout_time";"connection_time";"energy_session"\n'
    path.write_text(header + "".join(body), encoding="utf-8")
    return path


def refreshes(rounds: int) -> float:
    """A refresh of a fleet that follows prices, over one of even plans, in the same run."""
    state, settings = engine_with(VEHICLES)
    fleet, totals, rules, mean = state.fleet, state.totals, settings.rules, means(state.totals)
    day = [20.0 + 15.0 * np.sin(hour / 24.0 * 2.0 * np.pi) for hour in range(24)]
    room = scratch(plans.tariff(day, NOW_NS // YEAR_NS * YEAR_NS, 3_600_000_000_000, repeats=True))

    def by(kind: PlanKind) -> None:
        fleet.plan_kind[:] = kind
        refresh(fleet, totals, 0, SEGMENTS, NOW_NS + 1, rules.ages, rules.derating, mean, room)

    by(PlanKind.PRICE)
    even_ns, price_ns = interleaved_ns(lambda _: by(PlanKind.EVEN), lambda _: by(PlanKind.PRICE), rounds=rounds)
    return ratio(price_ns, even_ns)


def run(quick: bool) -> list[Figure]:
    """`sessions.rows_per_s`, `fleet.year_1k_s` and `limits.refresh_by_price_over_even`."""
    rows, repeats = (20_000, 2) if quick else (100_000, 5)
    with tempfile.TemporaryDirectory() as folder:
        path = file_of(Path(folder), rows)
        read_s = best_s(lambda: open_sessions(path, skip_bad=True), repeats)
    drivers, cars, how = model.builtin(), builtin().rows, Behaviour()
    count: list[int] = []

    def year() -> None:
        drawn = generating.generate(drivers, CHARGERS, 1, NOW_NS, NOW_NS + YEAR_NS)
        count.append(joining.join(drawn, cars, 1, how).guests.key.size)

    year_s = best_s(year, 1 if quick else 3)
    return [
        Figure("sessions.rows_per_s", rows / read_s, "1/s", "plain CSV, of one core"),
        Figure("fleet.year_1k_s", year_s, "s", f"{count[-1]} stays drawn and joined with cars; processor time"),
        Figure("limits.refresh_by_price_over_even", refreshes(11 if quick else 31), "1", f"{VEHICLES} vehicles"),
    ]
