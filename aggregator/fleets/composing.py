"""A configured fleet becomes what the simulated fleet and the core take."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from aggregator.fleets import generating, joining, model, shifting, tariffs
from aggregator.fleets.errors import FleetError
from aggregator.gateways.arrivals import Guests
from aggregator.gateways.population import Behaviour
from telemetry import vehicles
from telemetry.samples import Block
from telemetry.sessions import Stays, open_sessions
from telemetry.sessions.errors import Fault
from telemetry.sessions.instants import iso_ns
from telemetry.traces.stamps import zone_of

if TYPE_CHECKING:
    from aggregator.config import FleetTable
    from aggregator.contracts import Tariff
    from aggregator.signal_file import Recorded
    from telemetry.traces import Trace

# How far ahead a live run knows who will come.
LIVE_NS: Final = 56 * 86_400 * 1_000_000_000
BUILTIN: Final = "builtin"


class Composed(NamedTuple):
    """Who comes, and where they come from; `about` goes into the result of a run."""

    guests: Guests
    about: dict[str, Any]


def composed(table: FleetTable, how: Behaviour, first_ns: int, last_ns: int) -> Composed | None:
    """The fleet's guests between two times; None where cars are drawn for each charger. Raises FleetError, and what
    the readers raise.
    """
    if table.sessions is None and table.generator is None:
        return None
    cars = vehicles.open_cars(table.cars) if table.cars is not None else vehicles.builtin()
    about: dict[str, Any] = {"cars": cars.path, "cars_rejected": dict(cars.rejected)}
    if table.sessions is not None:
        rows, told = _recorded(table, first_ns, last_ns)
    else:
        rows, told = _generated(table, first_ns, last_ns)
    joined = joining.join(rows, cars.rows, table.seed, how, table.departures)
    guests = joined.guests.within(first_ns, last_ns)
    about |= told | {"impossible": dict(joined.impossible), "stays": int(guests.key.size)}
    if not guests.key.size:
        raise FleetError(f"`fleet`: none of its stays can be (left out: {dict(joined.impossible)}); give other cars")
    return Composed(guests, about)


def _recorded(table: FleetTable, first_ns: int, last_ns: int) -> tuple[Block, dict[str, Any]]:
    stays = selected(open_sessions(str(table.sessions), tz=table.sessions_tz, skip_bad=table.skip_bad), table)
    stays, days = shifting.shifted(stays, first_ns, last_ns, table.sessions_shift)
    told = {"sessions": stays.path, "format": stays.format, "rejected": dict(stays.rejected), "shifted_days": days}
    return stays.rows, told


def _generated(table: FleetTable, first_ns: int, last_ns: int) -> tuple[Block, dict[str, Any]]:
    drivers = model.builtin() if str(table.generator) == BUILTIN else model.read(Path(str(table.generator)))
    rows = generating.generate(drivers, table.vehicles, table.seed, first_ns, last_ns)
    return rows, {"generator": str(table.generator), "fitted_to": drivers.source}


def selected(stays: Stays, table: FleetTable) -> Stays:
    """The stays of one site and of one span, where these are asked for. Raises FleetError."""
    rows = stays.rows
    if table.sessions_site is not None:
        if table.sessions_site not in stays.sites:
            raise FleetError(
                f"--sessions-site {table.sessions_site}: not in {stays.path}; it has {', '.join(stays.sites)}"
            )
        rows = rows[rows["site"] == stays.sites.index(table.sessions_site)]
    for name, given, later in (("from", table.sessions_from, True), ("to", table.sessions_to, False)):
        if given is None:
            continue
        try:
            edge_ns = iso_ns(given, name, zone_of(stays.zone))
        except Fault as error:
            raise FleetError(f"`fleet.sessions_{name}`: {error}; give an ISO date or time") from None
        rows = rows[rows["arrive_ns"] >= edge_ns] if later else rows[rows["arrive_ns"] < edge_ns]
    if not rows.size:
        raise FleetError(f"{stays.path}: no session left by site and span; widen them")
    return dataclasses.replace(stays, rows=rows)


def tariff_of(table: FleetTable) -> Tariff | None:
    """The tariff that plans by price go by; None where there is none. Raises FleetError."""
    if table.tariff is not None:
        return tariffs.read(table.tariff, table.tariff_tz)
    return tariffs.of_day(table.tariff_day, table.tariff_tz) if table.tariff_day else None


def check_tariff(tariff: Tariff | None, first_ns: int, last_ns: int) -> None:
    """Raises FleetError for a tariff that says nothing of the time in which it is to be followed."""
    if tariff is None or tariff.repeats:
        return
    end_ns = tariff.start_ns + len(tariff.prices) * tariff.slot_s * 1_000_000_000
    if tariff.start_ns > first_ns or end_ns <= last_ns:
        times_ns = (tariff.start_ns, end_ns, first_ns, last_ns)
        spans = [datetime.fromtimestamp(t_ns // 10**9, UTC).isoformat() for t_ns in times_ns]
        raise FleetError(
            f"`fleet.tariff`: prices from {spans[0]} to {spans[1]}, and the trace is from {spans[2]} to {spans[3]}; "
            "give prices for all of it"
        )


def span_of(traces: Sequence[Trace], signal: Recorded | None = None) -> tuple[int, int]:
    """First and last time of recorded traces, one after the other, or of a signal alone [ns]."""
    if traces:
        firsts = next((block["t_ns"].min() for block in traces[0] if block.size), None)
        lasts = [block["t_ns"].max() for block in traces[-1] if block.size]
        if firsts is None or not lasts:
            raise FleetError(f"{traces[0].path}: no usable row; `flyball inspect` says what is in the file")
        return int(firsts), int(np.max(lasts))
    if signal is None:
        raise FleetError("trace: a fleet of sessions needs a recorded time to come in")
    return int(signal.t_ns[0]), int(signal.t_ns[-1])


def guests_of(
    table: FleetTable, tariff: Tariff | None, how: Behaviour, traces: Sequence[Trace], signal: Recorded | None = None
) -> Composed | None:  # fmt: skip
    """Who comes while the traces last; None where cars are drawn. Raises FleetError and what the readers raise."""
    timed = tariff is not None and not tariff.repeats
    if table.sessions is None and table.generator is None and not timed:
        return None
    first_ns, last_ns = span_of(traces, signal)
    check_tariff(tariff, first_ns, last_ns)
    return composed(table, how, first_ns, last_ns)
