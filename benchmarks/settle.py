"""Settling a day: 10 000 vehicles that report every 5 s, the pool at 1 s, each vehicle by the quarter of an hour.

The day is made up, but written as the journal writes it and read from its files: frequency, meter and decisions once a
second, reports as they come, accounts as the core closes them. Settled in a process of its own, interval by interval,
so that its memory is its own; processor time, for on a shared machine others' work is not ours to count.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path

import numpy as np

from aggregator import journal_reader
from aggregator.contracts import Contract, CoreSettings
from aggregator.journal import Entry, Kind
from aggregator.journal_files import JournalWriter
from aggregator.records import DECLARATION, TICK
from aggregator.settle import SETTLED, Books
from aggregator.vehiclebook import VehicleBook
from benchmarks.fleets import trace_hz
from benchmarks.measure import Figure
from droop.accounts import ROW
from droop.products import load
from settlement.attribution import Pot, share
from telemetry import wire
from telemetry.samples import FREQUENCY, POWER, SESSION, VEHICLE, SlotState

VEHICLES, REPORT_S = 10_000, 5
QUARTER_S = 900
NS = 1_000_000_000
SOLD_KW = 20_000.0
START_NS = 1_790_000_000 * NS // (86_400 * NS) * (86_400 * NS)
PART_S = 600  # an hour's parts once they are merged
PRICE = Decimal("0.01")  # a made-up one, per kW and hour


def sessions() -> bytes:
    """Everybody plugs in."""
    rows = np.zeros(VEHICLES, SESSION)
    rows["t_ns"] = rows["rx_ns"] = START_NS
    rows["slot"], rows["session"], rows["state"] = np.arange(VEHICLES), 1, SlotState.PLUGGED
    rows["vehicle"] = [f"EV-{slot:06d}".encode() for slot in range(VEHICLES)]
    rows["capacity_kwh"], rows["soc_frac"] = 60.0, 0.5
    for name in ("soh_frac", "soc_max_frac", "eta_charge_frac", "eta_discharge_frac"):
        rows[name] = 1.0
    rows["charge_max_kw"] = rows["discharge_max_kw"] = 11.0
    return wire.encode(rows)


class Day:
    """Entries of a day, second by second."""

    def __init__(self, seconds: int) -> None:
        self._rng = np.random.default_rng(5)
        self._hz = trace_hz(10 * seconds)[::10]
        self._settings = CoreSettings("ce", VEHICLES, (Contract(load("ce_fcr"), SOLD_KW),), epoch=7)
        self._seq = 0
        self._phase = self._rng.integers(0, REPORT_S, VEHICLES)
        self._soc = np.full(VEHICLES, 0.5, np.float32)

    def start(self) -> list[Entry]:
        """Settings and sessions."""
        return [
            self._entry(Kind.START, 0, self._settings.to_json()), self._entry(Kind.SESSIONS, START_NS, sessions())
        ]  # fmt: skip

    def second(self, s: int) -> list[Entry]:
        """What is recorded in one second."""
        now_ns = START_NS + s * NS + NS // 2
        dev = float(self._hz[s]) - 50.0
        asked_kw = -SOLD_KW * float(np.clip(dev / 0.2, -1, 1))
        entries = []
        if s % QUARTER_S == 0:
            if s:
                entries.append(self._entry(Kind.ACCOUNT, now_ns, self._accounts(s)))
            entries.append(self._entry(Kind.BASELINE, now_ns, self._declared(s)))
        entries.append(self._entry(Kind.SAMPLES, now_ns, self._sample(now_ns, dev)))
        entries.append(self._entry(Kind.TICKS, now_ns, self._tick(now_ns, dev, asked_kw)))
        meter = np.zeros(1, POWER)
        meter["t_ns"] = meter["rx_ns"] = now_ns
        meter["power_kw"], meter["meter"] = 0.98 * asked_kw, 1
        entries.append(self._entry(Kind.METERS, now_ns, wire.encode(meter)))
        entries.append(self._entry(Kind.VEHICLES, now_ns, self._reports(s, now_ns, asked_kw)))
        return entries

    def _entry(self, kind: Kind, now_ns: int, payload: bytes) -> Entry:
        self._seq += 1
        return Entry(kind, 0, self._seq - 1, now_ns, payload)

    def _reports(self, s: int, now_ns: int, asked_kw: float) -> bytes:
        slots = np.flatnonzero(self._phase == s % REPORT_S)
        rows = np.zeros(slots.size, VEHICLE)
        rows["t_ns"] = now_ns - self._rng.integers(0, NS // 2, slots.size)
        rows["rx_ns"] = now_ns
        rows["slot"], rows["session"], rows["state"] = slots, 1, SlotState.PLUGGED
        rows["power_kw"] = asked_kw / VEHICLES * self._rng.uniform(0.9, 1.1, slots.size)
        self._soc[slots] -= rows["power_kw"] * np.float32(REPORT_S / 3600 / 60.0)
        rows["soc_frac"], rows["temp_c"] = self._soc[slots], 20.0
        return wire.encode(rows)

    def _sample(self, now_ns: int, dev: float) -> bytes:
        row = np.zeros(1, FREQUENCY)
        row["t_ns"] = row["rx_ns"] = now_ns
        row["hz"], row["volt_frac"] = 50.0 + dev, 1.0
        return wire.encode(row)

    def _tick(self, now_ns: int, dev: float, asked_kw: float) -> bytes:
        row = np.zeros(1, TICK)
        row["t_ns"] = row["rx_ns"] = row["now_ns"] = now_ns
        row["hz"], row["request_kw"] = 50.0 + dev, asked_kw
        return row.tobytes()

    def _declared(self, s: int) -> bytes:
        row = np.zeros(1, DECLARATION)
        row["start_ns"] = START_NS + s * NS
        row["declared_ns"] = int(row["start_ns"][0]) - 60 * NS
        row["end_ns"] = row["start_ns"] + QUARTER_S * NS
        return row.tobytes()

    def _accounts(self, s: int) -> bytes:
        rows = np.zeros(VEHICLES, ROW)
        rows["vehicle"] = [f"EV-{slot:06d}".encode() for slot in range(VEHICLES)]
        rows["slot"], rows["session"], rows["site"] = np.arange(VEHICLES), 1, -1
        rows["start_ns"], rows["end_ns"] = START_NS + (s - QUARTER_S) * NS, START_NS + s * NS
        for name in ("asked_up_kwh", "asked_down_kwh", "headroom_up_kwh", "headroom_down_kwh"):
            rows[name] = self._rng.uniform(0.0, 2.0, VEHICLES)
        return rows.tobytes()


def written(folder: Path, seconds: int) -> int:
    """Write the journal; how many reports are in it."""
    day, writer = Day(seconds), JournalWriter(folder)
    writer.append(day.start(), "7-1")
    for s in range(seconds):
        writer.append(day.second(s), f"7-{s + 2}")
        if (s + 1) % PART_S == 0:
            writer.flush()
    writer.flush()
    return seconds * VEHICLES // REPORT_S


def settled(folder: Path) -> dict[str, float]:
    """Settle it, pool and vehicles, in one pass."""
    begun_s = time.process_time()
    books, vehicles = Books(), VehicleBook()
    intervals = accounts = 0
    paid = Decimal(0)
    for entry in journal_reader.entries(folder, SETTLED):
        for done in books.feed(entry):
            intervals += done.final
        for closed in vehicles.feed(entry):
            if closed.rows.size:
                accounts += closed.rows.size
                income = (Decimal(SOLD_KW) * PRICE / 4).quantize(Decimal("0.01"))
                pot = Pot(
                    closed.start_ns, closed.end_ns, "ce_fcr", "both", SOLD_KW, "EUR", income, income / 10, Decimal(0)
                )
                paid += share(pot, closed.rows).total()
    taken_s = time.process_time() - begun_s
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1 << 20)
    return {"s": taken_s, "mb": peak_mb, "intervals": intervals, "accounts": accounts, "paid": float(paid)}


def run(quick: bool) -> list[Figure]:
    """`settle.day_10k_s` and its memory; quick: two hours, times twelve."""
    hours = 2 if quick else 24
    with tempfile.TemporaryDirectory() as name:
        reports = written(Path(name), 3600 * hours)
        size = sum(path.stat().st_size for path in Path(name).rglob("*") if path.is_file())
        # The first pass over a short journal compiles.
        call = [sys.executable, "-m", "benchmarks.settle", name]
        found = json.loads(subprocess.run(call, capture_output=True, check=True, text=True).stdout)
    assert found["accounts"] >= (4 * hours - 1) * VEHICLES
    assert found["intervals"] >= 4 * hours - 1
    scaled = "of processor time; goal 60" + ("" if hours == 24 else f"; {hours} h times {24 // hours}")
    return [
        Figure("settle.day_10k_s", found["s"] * 24 / hours, "s", scaled),
        Figure("settle.day_10k_mb", found["mb"], "MB", "goal 2000, peak of the process"),
        Figure("settle.ns_per_report", found["s"] / reports * 1e9, "ns", f"{reports} reports"),
        Figure("settle.journal_gb", size * 24 / hours / 1e9, "GB", "a day on disk"),
    ]


if __name__ == "__main__":
    print(json.dumps(settled(Path(sys.argv[1]))))
