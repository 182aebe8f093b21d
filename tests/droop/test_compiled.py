"""The whole tick, compiled and as plain Python: one source, the same columns.

Whole numbers are equal: states, modes, reasons, times, whose turn it is. Powers and energies agree to float32's
rounding, not to the bit: compiled kernels sum in float64, in another order, and fuse products with sums, where numpy
keeps a Python number plus a float32 in float32. So the multiplier differs in its last bits, and with it every power.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from droop.reasons import Reason
from droop.watch import Mode

RUN = """
import random, sys
import numpy as np
from droop.bounds import Rules
from droop.commands import Sending
from droop.limits import Derating
from droop.products import load, parse
from droop.promises import Protection
from droop.refresh import DAY_NS
from droop.response import Believing, hear
from droop.sites import Node, tree
from droop.step import Settings, engine, tick
from tests import naive

S, N = naive.S_NS, 48
NOW = 1_700_000_000 * S
rng = random.Random(11)
cars = [naive.some_car(rng, NOW) for _ in range(N)]
for car in cars:
    # Most have just reported; the others stay what they are: silent, refused, at fault, gone.
    if car.refused_ns == 0 and rng.random() < 0.8:
        car.report_ns = car.energy_ns = NOW
    if rng.random() < 0.5:
        car.min_kw = min(rng.choice([1.375, 4.125]), car.charge_max_kw)
cars[46] = naive.Car(energy_kwh=58.0, ceiling_kwh=60.0, report_ns=NOW, energy_ns=NOW)
cars[47] = naive.Car(budget_kwh=10.0, moved_kwh=9.9995, report_ns=NOW, energy_ns=NOW)
nodes = [Node("garage", None, 0, 30, 40.0, 60.0, -3.0, 2.0), Node("row", "garage", 5, 12, 9.0, 14.0),
         Node("yard", None, 36, 9, 20.0, 6.0)]
plain = {"title": "T", "area": "X", "nominal_hz": 50.0}
reg = parse({**plain, "id": "reg", "direction": "symmetric", "input": "signal", "signal_s": 1.0, "hold_s": 0.5,
             "fade_s": 1.0, "curve": [[-1, -1], [1, 1]], "ramp_pu_s": 0.8}, "x")
ffr = parse({**plain, "id": "ffr", "direction": "up", "trigger": {"hz": 49.85, "steps_hz": [49.85, 49.78],
             "hold_s": 0.3, "release_hz": 49.9, "release_s": 0.2, "pause_hz": 49.88, "fall_pu_s": 0.5,
             "ready_s": 1.0}}, "x")
dull = parse({**plain, "id": "dull", "direction": "symmetric", "curve": [[-0.1, 1], [0.1, -1]],
              "insensitivity_hz": 0.02}, "x")
rule = Protection(trips=((49.0, 0.25), (51.0, 0.25)), enter_low_hz=49.5, enter_high_hz=50.5, enter_delay_s=0.4,
                  enter_ramp_s=1.5)
sold = [(load("ce_fcr"), 100.0), (dull, 25.0), (reg, 10.0), (ffr, 10.0)]
one = engine(N, sold, tree(nodes, N)[0], wear_price=0.05, protect_by=rule)
one.totals.day[:] = NOW // DAY_NS
for row, car in enumerate(cars):
    for name in car.__dataclass_fields__:
        getattr(one.fleet, name)[row] = getattr(car, name)
one.fleet.idle_kw[::3], one.fleet.heat_per_kw[::3] = 0.05, 0.002
one.room.tree.local_kw[0], one.room.tree.local_ns[0] = -5.0, NOW
settings = Settings(Rules(derating=Derating(0.9, 0.2, 0.1, 0.2, 0.0, -20.0, 45.0, 55.0, 5.0)), Sending(), S, 1.0)
USABLE, UNUSABLE, DEAD, NONE = range(4)
made, now = {}, NOW
said = {"ticks": [], "outbox": [], "unserved": [], "seen": [], "guard": [], "stage": []}
for k in range(96):
    verdict = DEAD if 40 <= k < 44 else NONE if k in (9, 10, 30) else UNUSABLE if k == 20 else USABLE
    hz = 50.0 - 0.07 * np.sin(0.37 * k) - (0.2 if 50 <= k < 62 else 0.0) + (0.25 if 64 <= k < 76 else 0.0)
    hz = 48.9 if 80 <= k < 84 else hz
    result = tick(one, settings, now, hz if verdict == USABLE else 0.0, verdict, -15.0,
                  9.0 * np.sin(k // 9), NOW + (k // 9 * 9) * S // 10 + S // 2)
    out, f = one.out, one.fleet
    sent = np.zeros((N, 3))
    sent[out.slot[: out.sent[0]].astype(int)] = np.column_stack(
        [np.ones(out.sent[0]), out.command_kw[: out.sent[0]], out.setpoint_kw[: out.sent[0]]]
    )
    said["ticks"].append(tuple(result))
    said["outbox"].append(sent)
    said["unserved"].append(one.unserved_kw.copy())
    said["seen"].append(np.column_stack([f.reason_up, f.reason_down, f.mode, f.state]))
    said["guard"].append(int(one.guard.state[0]))
    said["stage"].append(one.motion.stage.copy())
    now += S // 10 if k % 11 else S
    if k % 5 == 0:
        # Some report what they do, a few of them a half of it.
        slots = np.array([i for i in range(N) if (i + k // 5) % 3 and cars[i].report_ns == NOW and f.state[i] == 1])
        power = (f.told_kw[slots] * np.where(slots % 7, 1.0, 0.5)).astype(np.float32)
        hear(f, slots, power, now, Believing())
        f.measured_kw[slots], f.report_ns[slots] = power, now
    if k % 17 == 16:
        row = rng.randrange(N)
        f.state[row] = 0 if f.state[row] == 1 else 1
        one.totals.refreshed_ns[:] = np.minimum(one.totals.refreshed_ns, 1)
for part in ("fleet", "totals", "memory", "motion", "guard"):
    columns = getattr(one, part)._asdict()
    columns |= columns.pop("modes")._asdict() if part == "motion" else {}
    made |= {part + "." + name: column for name, column in columns.items()}
made |= {"tree." + name: column for name, column in one.room.tree._asdict().items()}
made |= {"desk." + name: getattr(one.room.desk, name) for name in ("lo_kw", "hi_kw", "owed_kwh", "rows", "start")}
made |= {"out." + name: getattr(one.out, name) for name in ("place", "sent", "start", "heading", "recent_kw",
                                                             "recent_ns", "total_kw")}
np.savez(sys.argv[1], **{"said." + name: np.array(rows) for name, rows in said.items()}, **made)
"""


def run(path, disabled):
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": str(root), "NUMBA_DISABLE_JIT": disabled}
    # numpy warns of infinity times nothing, which the compiled kernels mean as they say it.
    subprocess.run([sys.executable, "-W", "ignore", "-c", RUN, str(path)], cwd=root, check=True, env=env)
    with np.load(path) as found:
        return dict(found)


def test_every_column_of_the_tick(tmp_path):
    """Vehicles of every limit, under caps, with least powers, gains and wishes, through every trouble of a source."""
    compiled, plain = run(tmp_path / "compiled.npz", "0"), run(tmp_path / "plain.npz", "1")
    assert compiled.keys() == plain.keys()
    # The split closes its sum to 5e-7 of the fleet's capability; where few are free one of them takes all of that,
    # and the multiplier, in units of its own, more than that.
    exact = 1e-6 * float(np.abs(plain["said.ticks"][:, 5:7]).max())
    # How often the split looks for its multiplier may hang on its last bit.
    assert np.abs(compiled["said.ticks"][:, 8] - plain["said.ticks"][:, 8]).max() <= 1
    for found in (compiled, plain):
        found["said.ticks"][:, 8] = 0
    for name, column in plain.items():
        if column.dtype.kind in "iub":
            np.testing.assert_array_equal(compiled[name], column, err_msg=name)
        else:
            np.testing.assert_allclose(compiled[name], column, rtol=1e-6, atol=exact, err_msg=name)
    # It was no idle run: every kind of limit held somebody, modes changed, and messages went out.
    seen = plain["said.seen"]
    assert set(Reason) - {Reason.NONE, Reason.SOH, Reason.DOD} <= set(np.unique(seen[:, :, :2]).tolist())
    assert set(np.unique(seen[:, :, 2])) == {-1, 0, 1}
    assert set(plain["said.ticks"][:, 9]) >= {Mode.NORMAL, Mode.HOLD, Mode.BASELINE}
    assert (plain["guard.trips"][0], set(plain["said.guard"])) == (1, {0, 1, 2})
    assert set(np.unique(plain["said.stage"])) == {0, 1, 2}
    assert (plain["said.outbox"][:, :, 0].sum(axis=1) > 0).mean() > 0.5
    assert (plain["said.unserved"] != 0).any()
    assert not plain["said.ticks"][:, 10].any()  # no command outside its bounds, either way
    assert ((plain["fleet.gain_up"] != 1) | (plain["fleet.gain_dn"] != 1)).sum() > 3
