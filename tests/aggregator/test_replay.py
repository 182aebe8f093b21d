"""A recorded run once more: equal bytes when nothing but the calls decided, and every difference found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aggregator.contracts import Contract, CoreSettings
from aggregator.core import Aggregator
from aggregator.gateways.simulated import SimulatedFleet
from aggregator.journal import TIME, Entry, Kind, gap
from aggregator.journal_files import JournalWriter
from aggregator.journal_keeping import merge
from aggregator.journal_reader import entries as entries_of
from aggregator.journal_survey import survey
from aggregator.replay import ReplayError, call, replay
from droop.products import load
from telemetry import wire
from telemetry.samples import FREQUENCY, SIGNAL, Quality

# Every sample shows in the commands at once.
PRODUCT = replace(load("gb_dc_low"), delay_s=0.0)

S = 10**9
T0 = 1_790_000_000 * S
KEY = bytes(range(32))


def sample(t_ns, hz, quality=0):
    block = np.zeros(1, FREQUENCY)
    block["t_ns"] = block["rx_ns"] = t_ns
    block["hz"], block["quality"] = hz, quality
    return block


@pytest.fixture(scope="module")
def recorded():
    """A minute of a line at 5 Hz: a fleet of flesh and blood, a set-point, an outage, a dead bus, a renewal."""
    core = Aggregator(CoreSettings("ce", 40, (Contract(PRODUCT, 80.0),), epoch=9, signal_max_kw=20.0))
    fleet = SimulatedFleet(40, 2, T0)
    rng = np.random.default_rng(1)
    entries = []
    for k in range(300):
        now = T0 + k * S // 5
        fleet.advance(now)
        for door, block in (
            (core.on_sessions, fleet.sessions(now)), (core.on_vehicles, fleet.reports(now)),
            (core.on_meters, fleet.meter(now)),
        ):  # fmt: skip
            if block.size:
                door(block, now)
        if k == 50:
            point = np.zeros(1, SIGNAL)
            point["t_ns"], point["valid_until_ns"], point["power_kw"] = now, now + 20 * S, -15.0
            core.on_signal(point, now)
        if k == 120:
            core.on_renew(now)
        if 150 <= k < 190:
            core.on_time(now)
        else:
            dead = int(Quality.DEAD_BUS) if 220 <= k < 230 else 0
            core.on_samples(sample(now, 49.7 + 0.1 * rng.standard_normal(), dead), now)
        if k % 5 == 0:
            core.supervise(k > 10, now)
        for command in core.drain_commands():
            core.sign(command, KEY)
            fleet.apply(command.rows, command.valid_until_ns, now)
        entries += core.drain_entries()
    return entries


def test_the_same_calls_make_the_same_bytes(recorded):
    found = replay(recorded, {1: KEY})
    assert found.same
    assert found.commands == found.equal == sum(entry.kind is Kind.COMMANDS for entry in recorded) > 100
    assert found.calls == sum(Kind.START < entry.kind < Kind.TICKS for entry in recorded)
    assert (found.gaps, found.extra, found.first_difference) == (0, 0, None)


def test_results_are_not_calls(recorded):
    """Ticks, baselines and alarms may be absent: they decide nothing."""
    bare = [entry for entry in recorded if entry.kind < Kind.TICKS or entry.kind is Kind.COMMANDS]
    assert replay(bare, {1: KEY}).same


@pytest.mark.parametrize("kind", [Kind.SAMPLES, Kind.VEHICLES, Kind.SESSIONS, Kind.SIGNAL, Kind.RENEW, Kind.TIME])
def test_a_call_left_out_is_found(recorded, kind):
    at = [k for k, entry in enumerate(recorded) if entry.kind is kind]
    found = replay([entry for k, entry in enumerate(recorded) if k != at[len(at) // 2]], {1: KEY})
    assert not found.same


def test_a_call_changed_is_found_where_it_first_mattered(recorded):
    at = [k for k, entry in enumerate(recorded) if entry.kind is Kind.SAMPLES][42]  # one that no ramp limits
    block = wire.decode(recorded[at].payload).copy()
    block["hz"] -= 0.02
    changed = [*recorded[:at], recorded[at]._replace(payload=wire.encode(block)), *recorded[at + 1 :]]
    found = replay(changed, {1: KEY})
    first = next(entry.seq for entry in recorded[at:] if entry.kind is Kind.COMMANDS)
    assert found.first_difference == first
    assert found.equal < found.commands


def test_a_forged_command_is_found(recorded):
    at = next(k for k, entry in enumerate(recorded) if entry.kind is Kind.COMMANDS)
    payload = bytearray(recorded[at].payload)
    payload[60] ^= 1
    forged = [*recorded[:at], recorded[at]._replace(payload=bytes(payload)), *recorded[at + 1 :]]
    found = replay(forged, {1: KEY})
    assert (found.commands - found.equal, found.first_difference) == (1, recorded[at].seq)


def test_a_command_that_was_never_sent_is_found(recorded):
    last = max(k for k, entry in enumerate(recorded) if entry.kind is Kind.COMMANDS)
    found = replay([entry for k, entry in enumerate(recorded) if k != last], {1: KEY})
    assert (found.equal, found.extra, found.same) == (found.commands, 1, False)


def test_another_key_makes_other_bytes(recorded):
    assert replay(recorded, {1: KEY[::-1]}).equal == 0


def test_two_runs_in_one_journal_are_two_cores(recorded):
    found = replay([*recorded, *recorded], {1: KEY})
    assert found.same
    assert found.commands == 2 * replay(recorded, {1: KEY}).commands


def test_a_gap_is_counted(recorded):
    cut = [*recorded[:200], gap(recorded[200].seq, 50, T0), *recorded[250:]]
    found = replay(cut, {1: KEY})
    assert found.gaps == 1
    assert not found.same


def test_from_files_over_hour_edges_restarts_and_mergings_the_bytes_are_the_same(recorded, tmp_path):
    """Two runs of a worker, written in pieces at hour edges, by a writer that was restarted, merged, read back."""
    shift = 3600 * S - (T0 + 30 * S) % (3600 * S)  # half way through, an hour begins
    core = Aggregator(CoreSettings("ce", 40, (Contract(PRODUCT, 80.0),), epoch=9, signal_max_kw=20.0))
    later = []
    for entry in recorded:
        if Kind.START < entry.kind < Kind.TICKS:
            payload = entry.payload
            if entry.kind in (Kind.TIME, Kind.RENEW):
                payload = TIME.pack(TIME.unpack(payload)[0] + shift)
            elif entry.kind is not Kind.WISHES:
                block = wire.decode(payload).copy()
                for name in {"t_ns", "rx_ns", "valid_until_ns", "depart_ns"} & set(block.dtype.names):
                    block[name][block[name] != 0] += shift
                payload = wire.encode(block)
            call(core, entry._replace(payload=payload, now_ns=entry.now_ns + shift))
            for command in core.drain_commands():
                core.sign(command, KEY)
            later += core.drain_entries()
    writer = JournalWriter(tmp_path)
    runs = [(7, recorded), (8, later)]
    for epoch, run in runs:
        for at in range(0, len(run), 97):
            writer.append(run[at : at + 97], f"{epoch}-{at // 97 + 1}")
            if at % 5 == 0:
                writer.flush()
            if at % 7 == 0:
                writer.flush()
                writer = JournalWriter(tmp_path)
    writer.flush()
    while merge(tmp_path) is not None:
        pass
    assert len({part.hour.name for part in survey(tmp_path).parts}) >= 2
    assert list(entries_of(tmp_path)) == [*recorded, *later]
    found = replay(entries_of(tmp_path), {1: KEY})
    assert found.same
    assert found.commands > 200
    assert found.gaps == 0


def test_nothing_recorded_is_not_the_same():
    assert not replay([], {}).same


def test_a_journal_without_its_beginning_or_its_key_says_so(recorded):
    with pytest.raises(ReplayError, match="before any START"):
        replay(recorded[1:], {1: KEY})
    with pytest.raises(ReplayError, match="key 1 "):
        replay(recorded, {2: KEY})
    assert isinstance(recorded[0], Entry)
