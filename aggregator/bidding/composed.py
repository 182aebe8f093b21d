"""Availability of a fleet that is described and not recorded: drawn, of recorded sessions, or of a fitted model.

The fleet lives through the days before the bid as in a backtest, by the same engine and with the same cars, drivers and
chargers; the frequency stands still and nothing is sold, so the cars follow their charging plans. What it could have
sold is looked at as a backtest looks at its own. Nothing is known of it but these days.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from aggregator.bidding.forecast import LEAST_DAYS
from aggregator.bidding.products import HOUR_NS, BidError, Bundle, TooLittle
from aggregator.bidding.recorded import History
from aggregator.bidding.rule import Rule
from aggregator.contracts import Contract, CoreSettings
from aggregator.declared import SETTLE_NS
from settlement import calendar
from settlement.align import NS
from telemetry.samples import FREQUENCY, Block

if TYPE_CHECKING:
    from aggregator.config import FleetTable
    from aggregator.fleets.composing import Composed
    from aggregator.gateways.population import Behaviour

# The longest that the fleet is left without a decision in a backtest: what happens between is seen by the second.
ROW_NS: Final = 2 * NS
DAY_NS: Final = 24 * HOUR_NS

Progress = Callable[[int, int], bool]
"""Told the time reached and the last time [ns]; False stops the run."""


class Lived(NamedTuple):
    """What the fleet had to sell, and where it comes from (`about` of `aggregator.fleets.composing`, or drawn)."""

    history: History
    about: dict[str, Any]


def span(bundle: Bundle, rule: Rule, day: date) -> tuple[int, int]:
    """From when to when the rule learns for a day, to whole slices [ns]."""
    slice_ns = bundle.slice_s * NS
    end_ns = bundle.day_start_ns(day) - round(rule.lead_h * HOUR_NS)
    begin_ns = end_ns - round(rule.window_days * DAY_NS)
    return begin_ns - begin_ns % slice_ns, end_ns - end_ns % slice_ns


def history(
    bundle: Bundle, rule: Rule, day: date, settings: CoreSettings, table: FleetTable, how: Behaviour,
    progress: Progress = lambda *_: True,
) -> Lived:  # fmt: skip
    """What such a fleet would have had to sell before `day`.

    settings : of the engine; what it sells is the bundle, and nothing of it
    table, how : who comes, and how imperfect the chargers are

    Raises FleetError and what the readers raise; TooLittle for sessions that tell of less than the rule wants.
    """
    from aggregator.backtest import LOOK_NS, Backtest
    from aggregator.backtesting import recorded_gate
    from aggregator.fleets.composing import check_tariff, composed

    begin_ns, end_ns = span(bundle, rule, day)
    check_tariff(settings.tariff, begin_ns, end_ns)
    guests = composed(table, how, begin_ns, end_ns)
    if table.sessions is not None and guests is not None:
        begin_ns, end_ns = _told_of(guests, begin_ns, end_ns, bundle)
    nobody = tuple(Contract(product, 0.0) for product in bundle.products)
    nominal_hz = bundle.products[0].nominal_hz
    test = Backtest(
        replace(settings, contracts=nobody), recorded_gate(nominal_hz), begin_ns - SETTLE_NS, table.seed, behaviour=how,
        guests=None if guests is None else guests.guests,
    )  # fmt: skip
    # A slice is closed at the first look after its end.
    last_ns = end_ns + LOOK_NS + ROW_NS
    for first_ns in range(begin_ns, last_ns, DAY_NS):
        test.feed(_still(nominal_hz, first_ns, min(first_ns + DAY_NS, last_ns)))
        test.samples_kept.let_go(test.last_ns)
        test.meters_kept.let_go(test.last_ns)
        if not progress(test.last_ns, last_ns):
            raise BidError("stopped before the fleet had lived through its days; nothing is bid")
    assert test.watcher is not None  # noqa: S101 - of what is sold together in one kind of block
    told = (
        f"{table.vehicles} simulated chargers, charging as planned, nothing sold, {_text(begin_ns)} to {_text(end_ns)}"
    )
    about = {"vehicles": table.vehicles, "seed": table.seed, "start": _text(begin_ns), "end": _text(end_ns)}
    if guests is None:
        return Lived(History(test.watcher.rows, (told,), {}), about)
    about |= guests.about | (test.fleet.arrivals() or {})
    left_out = {**guests.about.get("rejected", {}), **guests.about["impossible"]}
    return Lived(History(test.watcher.rows, (told,), left_out), about)


def _told_of(guests: Composed, begin_ns: int, end_ns: int, bundle: Bundle) -> tuple[int, int]:
    """The market's days of [begin, end) that sessions tell of: before the first and after the last nobody knows."""
    edges = int(guests.guests.arrive_ns.min()), int(guests.guests.leave_ns.max())
    first, last = (calendar.day(calendar.day_of(t_ns, bundle.market), bundle.market) for t_ns in edges)
    begin_ns, end_ns = max(begin_ns, first.start_ns), min(end_ns, last.end_ns)
    if end_ns - begin_ns < LEAST_DAYS * DAY_NS:
        raise TooLittle(
            f"--fleet: its sessions tell of {_text(begin_ns)} to {_text(end_ns)} of the days before the bid, and "
            f"{LEAST_DAYS} days are the least; give more of them, another --date, or --sessions-shift"
        )
    return begin_ns, end_ns


def _still(nominal_hz: float, first_ns: int, until_ns: int) -> Block:
    """FREQUENCY[n] that stands at its nominal value."""
    times_ns = np.arange(first_ns, until_ns, ROW_NS, dtype=np.int64)
    rows = np.zeros(times_ns.size, FREQUENCY)
    rows["t_ns"] = rows["rx_ns"] = times_ns
    rows["hz"], rows["volt_frac"] = nominal_hz, np.nan
    return rows


def _text(t_ns: int) -> str:
    return datetime.fromtimestamp(t_ns // NS, UTC).isoformat().replace("+00:00", "Z")
