"""Compiled stretches against the steps they stand for: every number of the run the same, bit for bit.

The reference is the step-by-step path, which is the one that live uses. After every piece of the trace all state of the
two runs is compared (the core, its engine, accounts and sums, the simulated chargers and what they were told, what was
recorded), so that a set-point that differed would show, whoever it was for.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from numba import typeof

from aggregator import conductor, stretch
from aggregator.backtest import Backtest
from aggregator.backtesting import recorded_gate
from aggregator.contracts import Contract, CoreSettings, Site
from aggregator.direct import call, entry, stamped
from aggregator.gateways.arrivals import Guests
from aggregator.gateways.population import PERFECT, Behaviour
from aggregator.signal_file import Recorded
from droop.handle import hold
from droop.numerics import kernel
from droop.products import load
from droop.protection import EN_50549
from droop.watch import unaware
from telemetry.samples import FREQUENCY

S = 10**9
T0 = 1_790_000_000 * S // (3600 * S) * (3600 * S)
# Addresses, and which of the two ways was taken.
OWN_OF_EACH = {"_held", "_book", "stepwise"}
BUSY = Behaviour(refusals_per_h=4.0, dropouts_per_h=8.0, stay_h=0.4, liars_frac=0.1)


def differences(one, other, path="", seen=None):
    """Where two states differ, as paths."""
    seen = set() if seen is None else seen
    if id(one) in seen:
        return
    if type(one) is not type(other):
        yield path
    elif isinstance(one, np.ndarray):
        if (one.dtype, one.shape, one.tobytes()) != (other.dtype, other.shape, other.tobytes()):
            yield path
    elif isinstance(one, list | tuple):
        if len(one) != len(other):
            yield path
        for name, (left, right) in enumerate(zip(one, other, strict=False)):
            yield from differences(left, right, f"{path}[{getattr(one, '_fields', {name: name})[name]}]", seen)
    elif isinstance(one, dict):
        if one.keys() != other.keys():
            yield path
        for name in one.keys() & other.keys():
            yield from differences(one[name], other[name], f"{path}.{name}", seen)
    elif hasattr(one, "__dict__") and type(one).__module__.partition(".")[0] in ("aggregator", "telemetry"):
        seen.add(id(one))
        for name in one.__dict__.keys() - OWN_OF_EACH:
            yield from differences(getattr(one, name), getattr(other, name), f"{path}.{name}", seen)
    elif one != other and not (one != one and other != other):
        yield path


def trace(seconds, step_s=1.0, seed=1, std_hz=0.03, nominal_hz=50.0):
    rng = np.random.default_rng(seed)
    count = int(seconds / step_s)
    block = np.zeros(count, FREQUENCY)
    block["t_ns"] = block["rx_ns"] = T0 + 300 * S + np.rint(np.arange(count) * step_s * S).astype(np.int64)
    walk = np.convolve(rng.normal(0, 1, count + 300), np.ones(300) / np.sqrt(300), "valid")[:count]
    block["hz"], block["volt_frac"] = nominal_hz + std_hz * walk, 1.0
    return block


def troubled(block):
    """With every kind of row that a recording can hold."""
    block = block.copy()
    at = block.size // 10
    block["hz"][at] = np.nan
    block["hz"][at + 20 : at + 40] = np.nan  # longer than it is held
    block["hz"][2 * at] += 0.7  # a spike
    block["hz"][2 * at + 50] = 0.0
    block["volt_frac"][3 * at : 3 * at + 30] = 0.01  # a dead bus
    block["hz"][4 * at : 4 * at + 60] = 49.75  # more than is there
    block["hz"][5 * at : 5 * at + 400] = 49.88  # long enough for an alert state
    block["hz"][7 * at : 7 * at + 20] = 47.0  # beyond the trip limits, and back
    block["t_ns"][8 * at : 8 * at + 2] = block["t_ns"][8 * at : 8 * at + 2][::-1].copy()
    block["t_ns"][8 * at + 100 :] += 1_700_000_000  # a gap in which one decision is due
    block = np.delete(block, slice(9 * at, 9 * at + 90))
    block["rx_ns"] = block["t_ns"]
    return block


def settings_of(*products, vehicles=40, kw=1.5, **more):
    sold = tuple(Contract(load(name), kw * vehicles / len(products)) for name in products)
    return CoreSettings("ce", vehicles, sold, **more)


def both(settings, block, cuts, behaviour=BUSY, prepare=lambda _: None, **more):
    """The two runs after the same pieces, compared after each.

    cuts : lengths of pieces, the last one repeats; prepare : is given each run before it begins
    """
    runs = [
        Backtest(settings, recorded_gate(settings.nominal_hz), T0, 1, behaviour=behaviour, stepwise=stepwise, **more)
        for stepwise in (True, False)
    ]
    for test in runs:
        prepare(test)
    cuts, first = list(cuts), 0
    while first < block.size:
        length = cuts.pop(0) if len(cuts) > 1 else cuts[0]
        for test in runs:
            test.feed(block[first : first + length])
        found = sorted(differences(*runs))
        assert found == [], (first, length)
        first += length
    one, other = runs
    assert [s.to_dict() for s in one.statements()] == [s.to_dict() for s in other.statements()]
    return other


@pytest.fixture
def reasons(monkeypatch):
    """How often a stretch ended for which reason."""
    counted = Counter()

    def counting(*given):
        k, why = stretch.stretch(*given)
        counted[why] += 1
        return k, why

    monkeypatch.setattr(conductor, "stretch", counting)
    return counted


SITES = (
    Site("street", None, 4, 20, 30.0, 60.0),
    Site("house", "street", 8, 8, 9.0, 20.0, 2, -2.0, 2.0),
    Site("row", None, 30, 1),
)


def test_an_hour_and_a_half_of_everything(reasons):
    settings = settings_of("ce_fcr", sites=SITES, protection=EN_50549, losses=(0.005, 0.02))
    test = both(settings, troubled(trace(5400)), [1, 1, 2, 3, 60, 601, 3600])
    assert reasons.keys() == set(range(6))
    fleet, sums = test.fleet, test.core.sums
    assert fleet.vanished > 0
    assert test.switches > 0
    assert sums.trips == 1
    assert sums.unserved_kwh > 0.0
    assert {"nan", "zero", "spike", "dead_bus"} <= test.core.rejected().keys()
    assert {"DEAD_BUS", "FREQUENCY_LOST", "FREQUENCY_OUT_OF_BOUNDS", "SHORTFALL"} <= set(test.core.alarms.raised)


@pytest.mark.parametrize(
    ("products", "more", "step_s", "nominal_hz"),
    [
        (("nordic_fcr_n", "nordic_fcr_d_up"), {}, 1.0, 50.0),
        (("gb_dc_low", "gb_dc_high"), {"wear_price": 0.1}, 1.0, 50.0),  # baselines that ramp
        (("ce_fcr",), {"rest_s": 3.0, "overshoot_frac": 0.0}, 0.1, 50.0),
        (("ce_fcr",), {}, 2.0, 50.0),
    ],
)
def test_other_products_and_paces(reasons, products, more, step_s, nominal_hz):
    block = trace(2100 if step_s >= 1.0 else 240, step_s, std_hz=0.08, nominal_hz=nominal_hz)
    test = both(settings_of(*products, **more), block, [7, 500, 3600])
    assert test.core.sums.ticks == block.size
    assert test.switches > 0
    assert sum(reasons.values()) < 0.9 * block.size


def test_what_is_not_served_gathers_between_looks():
    """Ten decisions a second, and more sold than there is: it is shared out once a second."""
    block = trace(90, 0.1)
    block["hz"] = np.where(np.arange(block.size) % 400 < 300, 49.8, block["hz"])
    test = both(settings_of("ce_fcr", kw=9.0), block, [450])
    assert test.core.sums.unserved_kwh > 1.0


def test_what_happens_at_the_very_time_of_a_row_happens_before_it():
    def cut(test):
        test.fleet._cut_ns[:9] = T0 + 310 * S
        test.fleet._schedule()

    assert both(settings_of("ce_fcr"), trace(60), [60], prepare=cut).fleet.vanished > 0


def test_a_signal_beside_a_frequency():
    rng = np.random.default_rng(3)
    times_ns = T0 + 300 * S + 4 * S * np.arange(300)
    recorded = Recorded(times_ns, np.clip(rng.normal(0, 0.6, times_ns.size), -1, 1))
    settings = replace(settings_of("ce_fcr", "afrr_up"), signal_max_kw=40.0)

    def louder(test):
        test.points["power_kw"] *= 1.6  # than what is sold

    test = both(settings, trace(1200), [5, 400], signal=recorded, prepare=louder)
    assert test.told == 300
    assert test.core.sums.rejected["signal"] > 0  # more than the most that is taken
    assert test.core.sums.clipped > 0


def test_a_perfect_fleet_is_left_alone_by_python(reasons):
    both(settings_of("ce_fcr"), trace(3000), [3000], behaviour=None, perfect=True)
    # The first decision, a look a minute, a declaration and an edge a quarter.
    assert sum(reasons.values()) < 75


def test_a_fleet_in_which_nobody_comes_for_long_is_lived_through():
    """Five minutes of readings before the first row, and no session record that would end the stretch."""
    nobody = Guests._make(np.zeros(0, np.int64 if name.endswith(("key", "ns", "phases", "plan")) else np.float64)
                          for name in Guests._fields)  # fmt: skip
    test = both(settings_of("ce_fcr", kw=0.001), trace(20), [1, 19], behaviour=PERFECT, guests=nobody)
    assert test.meters.size == 319


def test_whoever_is_not_known_is_lived_with_step_by_step():
    class Other(conductor.SimulatedFleet):
        pass

    test = Backtest(settings_of("ce_fcr"), recorded_gate(50.0), T0, 1)
    assert conductor.able(test)
    test.fleet = Other(40, 1, T0)
    assert not conductor.able(test)
    own_meter = replace(settings_of("ce_fcr"), sites=(Site("all", None, 0, 40, 90.0, 90.0, 1, -1.0, 1.0),))
    assert not conductor.able(Backtest(own_meter, recorded_gate(50.0), T0, 1))


@kernel
def weighed(values, weight):
    return values.sum() * weight, values.size


@kernel
def by_name(values, weight, at):
    total, size = weighed(values, weight)
    again, _ = call(weighed, at, (values[1:], weight))
    return total, again, size


def test_a_kernel_is_called_at_its_address():
    values = np.arange(5.0)
    found = entry(weighed, values, 2.0)
    assert found == entry(weighed, values, 7.5)
    assert by_name(values, 2.0, found.at) == (20.0, 20.0, 5)
    assert by_name(values[1:], 3.0, found.at) == (30.0, 27.0, 4)


def test_who_calls_at_an_address_is_compiled_anew_when_the_kernel_takes_something_else():
    whole, part = entry(weighed, np.arange(5), 2), entry(weighed, np.arange(5.0), 2.0)
    memory = unaware()
    one, same, other = (stamped(memory, entries) for entries in ([part], [part], [whole]))
    assert typeof(hold(one)) == typeof(hold(same)) != typeof(hold(other))
    assert typeof(hold(stamped(memory, [part], (7,)))) != typeof(hold(one))
    assert one == memory
