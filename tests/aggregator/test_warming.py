"""After the rehearsal no call waits for a compiler, whatever the configuration and whatever happens."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from aggregator import compiling
from aggregator.contracts import Contract, CoreSettings, Site
from aggregator.warming import warm
from droop.products import load
from droop.protection import EN_50549

ROOT = Path(__file__).resolve().parents[2]
SITES = (
    Site("street", None, 40, 60, 150.0, 150.0),
    Site("house", "street", 50, 20, 30.0, 40.0, 2, -20.0, 10.0),
    Site("row", None, 120, 1),
)

# In a process of its own: what other tests have compiled must not count. Every kernel says how many signatures it has
# before and after a stretch of everything that can happen to a worker's core.
DAY = """
import gc, sys
import numpy as np
from numba.core.dispatcher import Dispatcher
from aggregator import explained, figures, setpoints
from aggregator.contracts import from_json
from aggregator.core import Aggregator
from aggregator.gateways.population import Behaviour
from aggregator.gateways.simulated import SimulatedFleet
from aggregator.warming import warm
from telemetry import wire
from telemetry.samples import FREQUENCY, POWER, SIGNAL, WISH, Quality

S = 10**9
settings = from_json(sys.stdin.buffer.read())
warm(settings)

def kernels():
    found = [k for k in gc.get_objects() if isinstance(k, Dispatcher) and "gateways" not in k.__module__]
    return {id(k): (k.__module__, k.__name__, len(k.signatures)) for k in found}

now_ns = 1_790_000_000 * S
how = Behaviour(liars_frac=0.2, dropouts_per_h=60.0, stay_h=0.2)
fleet = SimulatedFleet(settings.rows, 1, now_ns, behaviour=how)
before = kernels()
core = Aggregator(settings)
for second in range(75):
    now_ns += S
    for block, take in (
        (fleet.sessions(now_ns), core.on_sessions), (fleet.reports(now_ns), core.on_vehicles),
        (fleet.meter(now_ns), core.on_meters),
    ):
        if block.size:
            take(wire.decode(wire.encode(block)), now_ns)
    if second == 5:
        rows = np.zeros(40, WISH)
        rows["t_ns"], rows["until_ns"], rows["slot"], rows["session"] = now_ns, now_ns + 9 * S, np.arange(40), 1
        rows["wish"] = np.arange(40) % 4
        core.on_wishes(rows, now_ns)
        core.on_meters(np.array([(now_ns, now_ns, -12.0, 0.0, 2, 0)], POWER), now_ns)
        core.on_signal(np.array([(now_ns, now_ns, now_ns + 9 * S, 20.0, 1, 0)], SIGNAL), now_ns)
    if second == 50:
        core.on_renew(now_ns)
    hz = 47.0 if 60 <= second < 63 else 50.0 + 0.15 * np.sin(second / 5)
    mark = int(Quality.DEAD_BUS) if 30 <= second < 33 else int(Quality.NAN) if 40 <= second < 43 else 0
    core.on_samples(np.array([(now_ns, now_ns, np.nan if mark else hz, 1.0, mark, 1)], FREQUENCY), now_ns)
    core.on_time(now_ns + S // 2)
    for command in core.drain_commands():
        core.sign(command, b"k" * 32)
        fleet.apply(command.rows, command.valid_until_ns, now_ns)
    core.drain_entries()
    slow = figures.survey(core, now_ns)
    core.supervise(True, now_ns)
    figures.live(core, now_ns, slow)
    figures.fleetview(core, now_ns)
for slot in np.flatnonzero(core.engine.fleet.state)[:20].tolist():
    explained.document(core.engine, core.last, slot)
assert (core.sums.ticks, core.sums.trips) == (150, 1)
assert core.sums.bound_violations == 0
assert (core.engine.totals.least.sum() > 0) == (how.minimum_frac > 0)
after = kernels()
late = sorted({after[k][:2] for k in after if after[k] != before.get(k)})
print(late)
missed = [k for k in gc.get_objects() if isinstance(k, Dispatcher) and k.stats.cache_misses]
print(sorted({(k.__module__, k.__name__) for k in missed}))
"""


@pytest.mark.parametrize(
    ("sites", "wear_price"), [((), 0.0), ((), 0.3), (SITES, 0.3)], ids=["plain", "priced", "capped and priced"]
)
def test_nothing_is_compiled_or_loaded_after_the_rehearsal(sites: tuple[Site, ...], wear_price: float) -> None:
    settings = CoreSettings(
        "ce", 200, (Contract(load("ce_fcr"), 300.0),), sites=sites, wear_price=wear_price, signal_max_kw=300.0,
        protection=replace(EN_50549, enter_delay_s=3.0, enter_ramp_s=4.0),
    )  # fmt: skip
    compiling.ensure()
    ended = subprocess.run(
        [sys.executable, "-c", DAY],
        cwd=ROOT, input=settings.to_json(), capture_output=True, timeout=600, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr.decode()[-2000:]
    # Nothing after the rehearsal; and before it nothing was compiled either, by a process that decides.
    assert ended.stdout.decode() == "[]\n[]\n"


@pytest.mark.parametrize("product", ["gb_dc_low", "ieee1547"])
def test_any_product_and_any_fleet_is_rehearsed(product: str) -> None:
    """Sites beyond the rehearsal's few rows, fleets below them, grids of 60 Hz: it merely has to come to its end."""
    settings = CoreSettings("ce", 200, (Contract(load(product), 300.0),), sites=SITES)
    warm(settings)
    warm(replace(settings, rows=1, sites=()))
