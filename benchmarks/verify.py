"""What a day's evidence costs its reader: 10 000 vehicles, a leaf a vehicle and quarter of an hour, the pool at 1 s.

The day is sealed as the settlement process seals it, from columns at the rates of a real run; then it is verified by
the one file that a counterparty has, in a process of its own, and computed again.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.fleets import trace_hz
from benchmarks.measure import Figure
from droop.products import load
from settlement import evidence, verifier
from settlement.evidence import Closed, Control, Heard
from settlement.facts import Declarations, Facts, Meters, Samples, Shortfall, no_signal
from settlement.interval import Sold, settle
from settlement.ledger import Key, Ledger
from settlement.proofs import prove
from settlement.recompute import recompute

VEHICLES, RATE_HZ, QUARTER_S = 10_000, 10, 900
NS = 1_000_000_000
START_NS = 1_789_948_800 * NS
SHARE = np.dtype(
    [
        ("vehicle", "S24"), ("start_ns", "<i8"), ("end_ns", "<i8"), ("asked_up_kwh", "<f8"), ("asked_down_kwh", "<f8"),
        ("commanded_kwh", "<f8"), ("acknowledged", "<i8"), ("metered_up_kwh", "<f8"), ("metered_down_kwh", "<f8"),
        ("baseline_kwh", "<f8"), ("delivered_kwh", "<f8"), ("shortfall_kwh", "<f8"), ("reason", "S12"),
        ("coverage_frac", "<f8"), ("quality", "<i8"),
    ]
)  # fmt: skip


def quarter(k: int, hz: np.ndarray) -> Facts:
    """What is recorded of a quarter of an hour and of the half minute before it."""
    start_ns = START_NS + k * QUARTER_S * NS
    first_s = -40
    t_ns = start_ns + first_s * NS + np.arange((QUARTER_S - first_s) * RATE_HZ) * (NS // RATE_HZ)
    seconds = start_ns + np.arange(first_s, QUARTER_S) * NS
    hz = np.resize(hz, t_ns.size)
    power_kw = -4_000.0 - np.clip((hz[::RATE_HZ] - 50.0) / 0.2, -1, 1) * 2.0 * VEHICLES
    declared = np.array([start_ns - 100 * NS, start_ns - 60 * NS])
    return Facts(
        Samples(t_ns, hz, np.ones(t_ns.size, bool)),
        Meters(seconds, power_kw, np.ones(seconds.size, np.int64), np.ones(seconds.size, bool)),
        Declarations(
            declared, np.array([start_ns - 100 * NS, start_ns]), np.array([start_ns, start_ns + QUARTER_S * NS]),
            np.full(2, -4_000.0), np.ones(2, np.int64), np.zeros(2, bool),
        ),
        no_signal(),
        Shortfall(t_ns, np.zeros((t_ns.size, 20)), tuple(f"reason{n}" for n in range(20))),
    )  # fmt: skip


def shares(k: int, rng: np.random.Generator) -> np.ndarray:
    """The vehicles' rows."""
    rows = np.zeros(VEHICLES, SHARE)
    rows["vehicle"] = [f"EV{n:07d}" for n in range(VEHICLES)]
    rows["start_ns"], rows["end_ns"] = START_NS + k * QUARTER_S * NS, START_NS + (k + 1) * QUARTER_S * NS
    for name in SHARE.names or ():
        if name.endswith("kwh"):
            rows[name] = rng.standard_normal(VEHICLES)
    rows["reason"], rows["coverage_frac"], rows["acknowledged"] = b"rating", 1.0, 300
    return rows


def sealed(path: Path, quarters: int) -> tuple[float, float]:
    """Seal so many quarters of an hour into a file; processor time of settling and of sealing [s]."""
    rng, hz = np.random.default_rng(1), trace_hz((QUARTER_S + 40) * RATE_HZ)
    sold = [Sold(load("ce_fcr"), 2.0 * VEHICLES)]
    ledger, contract = Ledger(Key(b"\x01" * 32)), None
    settled_s = sealed_s = 0.0
    ledger.open("ce", "2026-09-21", "live", START_NS)
    with path.open("wb") as file:
        for k in range(quarters):
            facts, rows = quarter(k, hz + 1e-4 * k), shares(k, rng)
            start_ns, end_ns = START_NS + k * QUARTER_S * NS, START_NS + (k + 1) * QUARTER_S * NS
            begun_s = time.process_time()
            statements = settle(sold, facts, start_ns, end_ns)
            settled_s += time.process_time() - begun_s
            t_ns = facts.samples.t_ns
            control = Control(t_ns, facts.samples.hz, facts.samples.hz, np.full(t_ns.size, 300))
            second = np.arange(start_ns // NS, end_ns // NS)
            heard = Heard(second, second * 0, second * 0.0, second * 0 + 2000, second * 0 + 1900)
            begun_s = time.process_time()
            closed = Closed(start_ns, end_ns, tuple(sold), facts, tuple(statements))
            evidence.seal(ledger, closed, control, heard, rows, end_ns, contract)
            contract = evidence.sold(sold)
            file.writelines(ledger.take())
            sealed_s += time.process_time() - begun_s
        ledger.head(START_NS + quarters * QUARTER_S * NS, closes=True)
        file.writelines(ledger.take())
    return settled_s, sealed_s


def run(quick: bool) -> list[Figure]:
    """`verify.*`: a day; quick: an hour, times 24."""
    quarters = 4 if quick else 96
    share = 96 / quarters
    note = "an hour, times 24" if quick else "a day"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "day.jsonl"
        _, sealed_s = sealed(path, quarters)
        size = path.stat().st_size
        begun_s = time.perf_counter()
        subprocess.run([sys.executable, "-I", verifier.__file__, str(path)], check=True, capture_output=True)
        verify_s = time.perf_counter() - begun_s
        begun_s = time.perf_counter()
        with path.open("rb") as lines:
            again = recompute(lines)
        recompute_s = time.perf_counter() - begun_s
        assert again.statements == quarters
        assert not again.mismatches
        begun_s = time.perf_counter()
        with path.open("rb") as lines:
            document = prove(lines, f"EV{VEHICLES // 3:07d}")
        prove_s = time.perf_counter() - begun_s
        assert len(document["items"]) == quarters
    return [
        Figure("verify.day_s", verify_s * share, "s", f"30, {note}"),
        Figure("verify.recompute_day_s", recompute_s * share, "s", note),
        Figure("verify.prove_day_s", prove_s * share, "s", note),
        Figure("verify.seal_s_per_quarter", sealed_s / quarters, "s", "processor time of the settlement process"),
        Figure("verify.gb_per_day", size * share / 1e9, "GB", f"frequency at {RATE_HZ} Hz"),
    ]
