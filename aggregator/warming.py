"""A rehearsal on a fleet of a few chargers: every kernel the real one will need is compiled, or loaded, by it.

numba compiles a kernel when it is first called, which takes seconds. The rehearsal makes every call that the worker
makes between its streams and that `settings` can lead to; how large the fleet is, and where its sites lie, decides
nothing about what is compiled.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from aggregator import explained, figures
from aggregator.contracts import Contract, CoreSettings, Site
from aggregator.core import Aggregator
from droop import pooled
from droop.fleet import Wish
from droop.plans import PlanKind
from droop.products import load, parse
from droop.protection import EN_50549
from droop.stability import simulation
from settlement import expected
from settlement.align import Grid
from settlement.facts import Signal, floats, ints
from settlement.interval import LEAD_S
from telemetry.quality import GateSettings
from telemetry.samples import FREQUENCY, POWER, SESSION, SIGNAL, VEHICLE, WISH, Block, Quality, SlotState, empty

if TYPE_CHECKING:
    from aggregator.backtest import Backtest

ROWS: Final = 16
LOCAL_METER: Final = 2
NS: Final = 1_000_000_000


def warm(settings: CoreSettings) -> None:
    """Load every kernel, or compile it, before the first sample waits for it."""
    _rehearse(Aggregator(_small(settings), journal=False))
    explained.warm()


def rehearse_everything() -> None:
    """Every kernel of every process that decides, settles or replays, whatever the configuration."""
    from aggregator.backtest import Backtest  # it is not needed by a worker

    settings = CoreSettings("ce", ROWS, (Contract(load("ce_fcr"), ROWS),), protection=EN_50549)
    sites = (Site("rehearsal", None, 0, ROWS, 1.0, 1.0, LOCAL_METER, -1.0, 1.0),)
    for each in (settings, replace(settings, sites=sites, wear_price=0.1)):
        warm(each)
        day = Backtest(each, GateSettings(), NS, 1)
        for second in range(1, LEAD_S + 60):
            day.feed(_sample(50.0 - 0.1 * (second % 2), 0, second * NS))
        for _ in day.statements():
            pass
    _owe(day)
    pool = pooled.Pool([pooled.Case(load("ce_fcr").response, 1.0, 1.0, 1.0, 1.0)], 50.0, 1.0)
    for precision in (np.float32, np.float64):
        pool.feed(np.full(2, 50.0, precision))
    simulation.rehearse()


def _owe(day: Backtest) -> None:
    """What triggers and set-points owe is computed by kernels of its own."""
    plain = {"title": "rehearsal", "area": "-", "nominal_hz": 50.0, "direction": "up"}
    pulled = parse({**plain, "id": "pulled", "trigger": {"hz": 49.95, "hold_s": 1.0}}, "rehearsal")
    curve = {"curve": [[0.0, 0.0], [1.0, 1.0]], "ramp_pu_s": 0.1}
    told = parse({**plain, **curve, "id": "told", "input": "signal", "signal_s": 2.0}, "rehearsal")
    facts = day.facts()._replace(signal=Signal(ints(NS), ints(9 * NS), floats(1.0)))
    for k in range(2):
        expected.of([(pulled, 1.0), (told, 1.0)], k, facts, Grid(NS, NS, 10))


def _small(settings: CoreSettings) -> CoreSettings:
    """The same for few chargers: sites of the real fleet have rows that these do not have."""
    site = Site("rehearsal", None, 0, ROWS, 1.0, 1.0, LOCAL_METER, -1.0, 1.0)
    return replace(settings, rows=ROWS, sites=(site,) if settings.sites else ())


def _rehearse(core: Aggregator) -> None:
    """What the world says, once of each kind, and the decisions that follow."""
    now_ns = NS
    core.on_sessions(_cars(now_ns), now_ns)
    core.on_vehicles(_reports(now_ns), now_ns)
    core.on_wishes(_wishes(now_ns), now_ns)
    core.on_meters(_readings(now_ns), now_ns)
    nominal_hz = core.settings.nominal_hz
    # Usable ones first: after a dead bus nothing is split.
    for hz, quality in ((nominal_hz, 0), (0.998 * nominal_hz, 0), (1.002 * nominal_hz, 0), (0.0, Quality.DEAD_BUS)):
        now_ns += NS
        core.on_samples(_sample(hz, quality, now_ns), now_ns)
    said = empty(SIGNAL, 1)
    said["t_ns"], said["valid_until_ns"] = now_ns, now_ns + NS
    core.on_signal(said, now_ns)
    core.on_renew(now_ns)
    core.on_time(now_ns + NS)
    _trip(core, now_ns + NS)
    core.supervise(True, now_ns)
    figures.live(core, now_ns, figures.survey(core, now_ns))
    figures.fleetview(core, now_ns)
    # A day on: the vehicles' accounts are closed.
    core.on_time(86_400 * NS)


def _trip(core: Aggregator, now_ns: int) -> None:
    """Beyond the first trip limit for its time, and back into service."""
    limits = core.settings.protection
    if limits is None:
        return
    trip_hz, after_s = limits.trips[0]
    beyond_hz = trip_hz + (1.0 if trip_hz > core.settings.nominal_hz else -1.0)
    inside_hz = (limits.enter_low_hz + limits.enter_high_hz) / 2
    for hz, wait_s in ((beyond_hz, 1.0), (beyond_hz, after_s), (inside_hz, 1.0), (inside_hz, limits.enter_delay_s)):
        now_ns += NS + round(wait_s * NS)
        core.on_samples(_sample(hz, 0, now_ns), now_ns)


def _cars(now_ns: int) -> Block:
    """Vehicles with every kind of limit, some with a least power and some without."""
    cars = empty(SESSION, ROWS)
    cars["t_ns"] = cars["rx_ns"] = now_ns
    cars["slot"], cars["session"], cars["state"] = np.arange(ROWS), 1, SlotState.PLUGGED
    cars["capacity_kwh"], cars["soc_frac"], cars["budget_kwh"], cars["wear"] = 50.0, 0.5, 40.0, 1.0
    for name in ("soh_frac", "soc_max_frac", "dod_max_frac", "eta_charge_frac", "eta_discharge_frac"):
        cars[name] = 1.0
    cars["charge_max_kw"] = cars["discharge_max_kw"] = cars["ramp_kw_s"] = 11.0
    cars["min_kw"][::2] = 4.0
    cars["plan"] = np.arange(ROWS) % len(PlanKind)
    return cars


def _reports(now_ns: int) -> Block:
    reports = empty(VEHICLE, ROWS)
    reports["t_ns"] = reports["rx_ns"] = now_ns
    reports["slot"], reports["session"], reports["state"] = np.arange(ROWS), 1, SlotState.PLUGGED
    reports["soc_frac"], reports["temp_c"] = 0.5, 20.0
    return reports


def _wishes(now_ns: int) -> Block:
    wishes = empty(WISH, 1)
    wishes["t_ns"] = wishes["rx_ns"] = now_ns
    wishes["until_ns"], wishes["session"], wishes["wish"] = now_ns + NS, 1, Wish.LEAVE_ALONE
    return wishes


def _readings(now_ns: int) -> Block:
    """The fleet's own meter and the one of its site."""
    readings = empty(POWER, 2)
    readings["t_ns"], readings["meter"] = now_ns, (1, LOCAL_METER)
    return readings


def _sample(hz: float, quality: int, now_ns: int) -> Block:
    sample = empty(FREQUENCY, 1)
    sample["t_ns"] = sample["rx_ns"] = now_ns
    sample["hz"], sample["volt_frac"], sample["quality"] = hz, 1.0, quality
    return sample
