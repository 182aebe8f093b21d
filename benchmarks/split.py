"""The split: its pass, its tick and its commands against a stream pass of the same bytes in the same run."""

from __future__ import annotations

import numpy as np

from benchmarks.fleets import engine_with, trace_hz, water
from benchmarks.measure import Figure, interleaved_ns, ratio, rounds_for, stream
from droop.commands import Sending, choose
from droop.fleet import SEGMENTS
from droop.split import fill, solve

NO_PRICE = np.empty(0, np.float32)


def passes(rows: int) -> list[Figure]:
    """One fused pass, and one warm tick to 1e-6 of the scale, against a stream pass."""
    w = water(rows)
    out = np.empty_like(w.t)
    memory = np.zeros(3)
    scale = max(w.hi_sum, -w.lo_sum)
    requests = w.t.sum(dtype=np.float64) + 0.6 * scale * np.clip(-(trace_hz(4001) - 50.0) / 0.2, -1, 1)

    def tick(k: int) -> None:
        solve(requests[k], 1e-6 * scale, w.t, w.s_up, w.s_dn, w.lo, w.hi, w.p, w.lo_sum, w.hi_sum, NO_PRICE, memory)

    streamed, fused, ticked = interleaved_ns(
        lambda _: stream(out, w.t, w.s_up, w.lo, w.hi),
        lambda _: fill(0.3, w.t, w.s_up, w.lo, w.hi, w.p, NO_PRICE),
        tick,
        rounds=rounds_for(rows),
    )
    label = f"1e{round(np.log10(rows))}"
    return [
        Figure(f"split.fused_over_stream.{label}", ratio(fused, streamed), "1", "goal 1.15"),
        Figure(f"split.tick_over_stream.{label}", ratio(ticked, streamed), "1", "goal 1.4"),
    ]


def passes_mean(rows: int = 20_000, seconds: int = 300) -> list[Figure]:
    """Passes per tick on a seeded 10 Hz trace with plans that change once a second."""
    w = water(rows)
    rng = np.random.default_rng(5)
    memory = np.zeros(3)
    scale = max(w.hi_sum, -w.lo_sum)
    hz = trace_hz(10 * seconds)
    taken = []
    t, base = w.t, float(w.t.sum(dtype=np.float64))
    for k in range(hz.size):
        if k % 10 == 0:
            t = np.clip(w.t + 0.01 * (w.hi - w.lo) * rng.standard_normal(rows).astype(np.float32), w.lo, w.hi)
        request = base + 0.6 * scale * float(np.clip(-(hz[k] - 50.0) / 0.2, -1, 1))
        s_up, s_dn = np.maximum(w.hi - t, 1e-6), np.maximum(t - w.lo, 1e-6)
        _, _, _, used = solve(
            request, 1e-6 * scale, t, s_up, s_dn, w.lo, w.hi, w.p, w.lo_sum, w.hi_sum, NO_PRICE, memory
        )
        taken.append(used)
    return [Figure("split.passes_mean", float(np.mean(taken)), "1", "goal 1.3")]


def commands(rows: int = 1_000_000) -> list[Figure]:
    """Solve and choose whom to command, one segment's bounds being new, against a stream pass."""
    state, settings = engine_with(rows)
    fleet, totals = state.fleet, state.totals
    lo, hi = float(totals.lo_kw.sum()), float(totals.hi_kw.sum())
    scale = max(hi, -lo)
    requests = float(totals.plan_kw.sum()) + 0.3 * scale * np.clip(-(trace_hz(4001) - 50.0) / 0.2, -1, 1)
    # Long-lived commands: what is measured is choosing, not renewing.
    sending = Sending(validity_ns=10**18, renew_ns=1, overshoot_frac=settings.sending.overshoot_frac)
    out = np.empty_like(fleet.plan_kw)
    now_ns = int(state.last_ns[0])

    def tick(k: int) -> None:
        request = requests[k]
        solve(
            request, 1e-6 * scale, fleet.plan_kw, fleet.slope_up, fleet.slope_dn, fleet.lo_kw, fleet.hi_kw,
            fleet.power_kw, lo, hi, NO_PRICE, state.multiplier,
        )  # fmt: skip
        choose(fleet, request, now_ns + k, sending, state.out, 1 << k % SEGMENTS)

    tick(0)
    streamed, chosen = interleaved_ns(
        lambda _: stream(out, fleet.plan_kw, fleet.slope_up, fleet.lo_kw, fleet.hi_kw), tick, rounds=rounds_for(rows)
    )
    return [Figure("split.commands_over_stream.1e6", ratio(chosen, streamed), "1", "goal 5")]


def run(quick: bool) -> list[Figure]:
    """All figures of the split; the quick ones are all of them."""
    del quick
    return [*passes(100_000), *passes(1_000_000), *passes_mean(), *commands()]
