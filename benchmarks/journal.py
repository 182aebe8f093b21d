"""What the journal costs: 10 000 vehicles at 50 Hz, their reports, set-points and decisions, written and read back.

The entries are those of a real core with a simulated fleet; the writer is fed them as the settlement process is, a
payload a sample, a part every 20 s, and the parts are merged as they are once the hour is over.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from aggregator import journal_reader
from aggregator.contracts import Contract, CoreSettings
from aggregator.core import Aggregator
from aggregator.gateways.simulated import SimulatedFleet
from aggregator.journal import Entry, Kind, pack, unpack
from aggregator.journal_files import JournalWriter
from aggregator.journal_keeping import merge
from aggregator.journal_parts import HOUR_NS
from aggregator.journal_survey import survey
from aggregator.settle import FLUSH_S
from benchmarks.fleets import trace_hz
from benchmarks.measure import Figure
from droop.products import load
from telemetry.samples import FREQUENCY

VEHICLES, RATE_HZ = 10_000, 50
S = 1_000_000_000
EVENTS = 6  # plug-ins and plug-outs of a charger in a day
NOW_NS = 1_790_000_000 * S // HOUR_NS * HOUR_NS + HOUR_NS // 2


def recorded(seconds: int) -> list[list[Entry]]:
    """Entries of each sample's round, as a worker packs them."""
    core = Aggregator(CoreSettings("ce", VEHICLES, (Contract(load("ce_fcr"), 2.0 * VEHICLES),), epoch=7))
    fleet = SimulatedFleet(VEHICLES, 1, NOW_NS)
    hz = np.repeat(trace_hz(10 * seconds + 10), RATE_HZ // 10)
    rounds = []
    for k in range(seconds * RATE_HZ):
        now_ns = NOW_NS + k * S // RATE_HZ
        fleet.advance(now_ns)
        for door, block in (
            (core.on_sessions, fleet.sessions(now_ns)), (core.on_vehicles, fleet.reports(now_ns)),
            (core.on_meters, fleet.meter(now_ns)),
        ):  # fmt: skip
            if block.size:
                door(block, now_ns)
        sample = np.zeros(1, FREQUENCY)
        sample["t_ns"] = sample["rx_ns"] = now_ns
        sample["hz"] = hz[k] + 1e-4 * np.sin(k)
        core.on_samples(sample, now_ns)
        for command in core.drain_commands():
            core.sign(command, b"k" * 32)
            fleet.apply(command.rows, command.valid_until_ns, now_ns)
        rounds.append(core.drain_entries())
    return rounds


def run(quick: bool) -> list[Figure]:
    """`journal.*`: a minute of samples, 20 s quick."""
    seconds = FLUSH_S if quick else 3 * FLUSH_S
    rounds = recorded(seconds)
    payloads = [pack(entries) for entries in rounds]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = JournalWriter(folder)
        begun_s = time.process_time()
        for k, payload in enumerate(payloads, 1):
            writer.append(unpack(payload), f"7-{k}")
            if k % (FLUSH_S * RATE_HZ) == 0:
                writer.flush()
        writer.flush()
        wrote_s = time.process_time() - begun_s
        small = sum(part.size for part in survey(folder).parts)
        # The next hour begins: this one is over.
        writer.append([Entry(Kind.TIME, 0, rounds[-1][-1].seq + 1, NOW_NS + HOUR_NS, b"12345678")], "7-999999")
        writer.flush()
        begun_s = time.process_time()
        while merge(folder) is not None:
            pass
        merged_s = time.process_time() - begun_s
        parts = survey(folder).parts[:-1]
        begun_s = time.process_time()
        count = sum(1 for _ in journal_reader.entries(folder))
        read_s = time.process_time() - begun_s
    assert count == sum(map(len, rounds)) + 1
    days = seconds / 86_400
    sizes: dict[str, float] = {}
    for part in parts:
        for table, held in part.tables.items():
            # Everybody plugged in as it began; a day has a few sessions a charger, and a baseline a quarter.
            weight = {"sessions": EVENTS * days, "baseline": 96 * days}.get(table, 1.0)
            sizes[table] = sizes.get(table, 0.0) + weight * held.size
    raw = sum(map(len, payloads))
    return [
        Figure("journal.write_us_per_sample", 1e6 * wrote_s / len(payloads), "us", "processor time, 10 000 vehicles"),
        Figure("journal.merge_us_per_sample", 1e6 * merged_s / len(payloads), "us", "once an hour"),
        Figure("journal.read_us_per_sample", 1e6 * read_s / len(payloads), "us", "as entries, for a replay"),
        Figure("journal.gb_per_day", sum(sizes.values()) / days / 1e9, "GB", f"{raw / days / 1e9:.3g} on the stream"),
        Figure("journal.unmerged_over_merged", small / sum(part.size for part in parts), "1"),
        *(
            Figure(f"journal.gb_per_day.{table}", value / days / 1e9, "GB")
            for table, value in sorted(sizes.items(), key=lambda item: -item[1])
        ),
    ]
