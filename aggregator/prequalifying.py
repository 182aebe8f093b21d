"""A market's test played: against a simulated fleet in virtual time, or found again in a run's journal.

Simulated, the plan's frequency takes the trace's place in the shell that backtests use (`backtest`), at the rate that
the test wants, and the fleet's true power is read at every sample, as a test bench would. A run that was fed the plan
(`flyball run --trace plan.csv`) is judged by its journal: the stretch that matches the plan is looked for, and the
meter's own rate decides whether it suffices.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from aggregator import journal_reader
from aggregator.backtest import Backtest
from aggregator.backtesting import recorded_gate
from aggregator.config import Config
from aggregator.contracts import Contract, CoreSettings
from aggregator.gateways.population import Behaviour
from aggregator.journal import Kind
from aggregator.prequalification_files import write_plan
from aggregator.process import Log
from droop.promises import Freedoms
from settlement.align import Floats, Ints
from settlement.prequalification import Options, Plan, PrequalificationError, Recording
from telemetry.quality import GateSettings
from telemetry.samples import FREQUENCY, SIGNAL, Block

NS: Final = 1_000_000_000
# 2026-01-01T00:00:00Z: the plan's beginning, at the beginning of every market's settlement interval.
START_NS: Final = 1_767_225_600 * NS
# Before it the fleet is read, plans its charging and declares a baseline for the interval that follows.
WARM_S: Final = 120
CHUNK: Final = 600
# No step is a spike: what is injected is true by definition. Live, a sudden step costs one sample more.
BELIEVED_HZ: Final = 10.0
# A set-point of the signal holds for three of its periods.
SIGNAL_PERIODS: Final = 3
# Within this of the plan for nearly all the time: stamps jitter, and a step is in between for a sample.
MATCH_HZ: Final = 0.010
MATCH_FRAC: Final = 0.95

Progress = Callable[[int, int], bool]


class Bench(Backtest):
    """A backtest whose fleet's power is read at every step, and that may be fed a signal as well.

    signal_kw : float64[n]  set-point at each sample of the plan; None: the product answers the frequency
    """

    def __init__(
        self, settings: CoreSettings, gate: GateSettings, start_ns: int, seed: int, behaviour: Behaviour,
        signal_kw: tuple[Ints, Floats] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(settings, gate, start_ns, seed, behaviour=behaviour, stepwise=True)
        self._readings: list[tuple[int, float]] = []
        self._signal = signal_kw

    def _world(self, now_ns: int) -> None:
        super()._world(now_ns)
        # Before the decision: what this sample asks for shows at the next one.
        self._readings.append((now_ns, self.fleet.power_kw))
        if self._signal is not None:
            self._ask(*self._signal, now_ns)

    def _ask(self, t_ns: Ints, power_kw: Floats, now_ns: int) -> None:
        k = int(np.searchsorted(t_ns, now_ns, side="right")) - 1
        if k < 0 or t_ns[k] != now_ns:
            return
        row = np.zeros(1, SIGNAL)
        row["t_ns"] = row["rx_ns"] = now_ns
        row["valid_until_ns"] = now_ns + SIGNAL_PERIODS * int(t_ns[1] - t_ns[0])
        row["power_kw"], row["source"] = power_kw[k], 1
        self.core.on_signal(row, now_ns)

    def readings(self) -> tuple[Ints, Floats]:
        """(t_ns, power_kw) of every step."""
        table = np.array(self._readings, dtype=[("t_ns", "<i8"), ("kw", "<f8")])
        return table["t_ns"].astype(np.int64), table["kw"].astype(np.float64)


def play(
    plan: Plan, settings: CoreSettings, *, seed: int, behaviour: Behaviour, progress: Progress = lambda *_: True
) -> Recording:
    """What a simulated fleet makes of the plan. Raises PrequalificationError if stopped before the end.

    The product's freedoms are left unused: they steer the state of charge, and a test is to show the response itself.

    settings : the core's; its first contract is the product that is tested
    progress : told the time reached and the end [ns]; False stops
    """
    contract = settings.contracts[0]
    shown = dataclasses.replace(contract, product=dataclasses.replace(contract.product, freedoms=Freedoms()))
    settings = dataclasses.replace(settings, contracts=(shown,))
    t_s, value = plan.series()
    t_ns = START_NS + np.rint(t_s * NS).astype(np.int64)
    warm_ns = START_NS - WARM_S * NS + np.arange(round(WARM_S * plan.rate_hz)) * round(NS / plan.rate_hz)
    times = np.concatenate([warm_ns, t_ns])
    signals = None
    hz = np.concatenate([np.full(warm_ns.size, _rest(plan, value)), value])
    if plan.input == "signal":
        signals = times, contract.sold_kw * hz
        hz = np.full(times.size, settings.nominal_hz)
    bench = Bench(settings, injected_gate(settings.nominal_hz), int(times[0]), seed, behaviour, signals)
    rows = _frequency(times, hz)
    for first in range(0, rows.size, CHUNK):
        bench.feed(rows[first : first + CHUNK])
        if not progress(int(rows["t_ns"][min(first + CHUNK, rows.size) - 1]), int(times[-1])):
            raise PrequalificationError("stopped before the end; there is no verdict on part of a test (see --part)")
    return _recording(bench, t_ns, value)


def injected_gate(nominal_hz: float) -> GateSettings:
    """The gate of recordings, with steps of any size believed at once."""
    gate = recorded_gate(nominal_hz)
    return dataclasses.replace(gate, spike_floor_hz=BELIEVED_HZ, spike_ceiling_hz=BELIEVED_HZ)


def tested(settings: CoreSettings) -> Contract:
    """The contract whose product is tested. Raises PrequalificationError when there are several, or nothing is sold."""
    if len(settings.contracts) != 1:
        raise PrequalificationError(
            "field `contract`: a test is of one product; give a configuration with one contract"
        )
    if not settings.contracts[0].sold_kw > 0:
        raise PrequalificationError("option `--sold-kw` takes a power above 0")
    return settings.contracts[0]


def _rest(plan: Plan, value: Floats) -> float:
    return 0.0 if plan.input == "signal" else float(value[0])


def _frequency(t_ns: Ints, hz: Floats) -> Block:
    rows = np.zeros(t_ns.size, FREQUENCY)
    rows["t_ns"] = rows["rx_ns"] = t_ns
    rows["hz"], rows["volt_frac"] = hz, 1.0
    return rows


def _recording(bench: Bench, t_ns: Ints, value: Floats) -> Recording:
    """The bench's readings at the plan's samples, beside the baseline that was in force until then."""
    read_ns, power_kw = bench.readings()
    place = np.searchsorted(read_ns, t_ns)
    baseline_kw = declared_kw(bench.core.declared_rows(), t_ns)
    return Recording((t_ns - START_NS) / NS, value, power_kw[place], baseline_kw)


def declared_kw(rows: Block, t_ns: Ints) -> Floats:
    """float64[n]  the baseline in force up to each time; NaN where none was.

    rows : DECLARATION[m]  A reading taken at the very beginning of an interval is still of the one before.
    """
    found = np.full(t_ns.size, np.nan)
    for start_ns, end_ns, power_kw in zip(rows["start_ns"], rows["end_ns"], rows["power_kw"], strict=True):
        found[(t_ns > start_ns) & (t_ns <= end_ns)] = power_kw
    return found


def play_live(plan: Plan, config: Config, options: Options, log: Log) -> tuple[Recording, str, Options]:
    """The plan through the whole line in real time: the simulated measuring unit shows it, the journal is judged.

    Raises PrequalificationError, and what the line raises.
    """
    from aggregator.running import run  # brings every process's imports with it

    if plan.input == "signal":
        raise PrequalificationError("--live: plays plans of a frequency; a signal's test is simulated")
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "plan.csv"
        write_plan(path, plan, START_NS)
        summary = run(config, log, trace=path, seconds=None, browser=False)
    folder = Path(summary["folder"])
    if options.latency_s is None:
        options = dataclasses.replace(options, latency_s=_total_s(summary))
    return recorded(folder, plan), f"live line, journal in {folder}", options


# ---- a run's own journal -----------------------------------------------------------------------------------------


def recorded(folder: Path, plan: Plan) -> Recording:
    """The plan's stretch of a recorded run. folder : the run's, with its `journal`

    Raises PrequalificationError where there is none.
    """
    home = folder / "journal"
    if not home.is_dir():
        raise PrequalificationError(f"--from {folder}: no journal there; give the folder of a run, e.g. var/run-...")
    if plan.input == "signal":
        raise PrequalificationError(f"--from {folder}: only plans of a frequency are found again in a journal")
    samples = journal_reader.read(home, Kind.SAMPLES).rows
    meters = journal_reader.read(home, Kind.METERS).rows
    meters = meters[(meters["quality"] == 0) & np.isfinite(meters["power_kw"])]
    samples = samples[np.isfinite(samples["hz"])]
    if not samples.size or not meters.size:
        raise PrequalificationError(f"--from {folder}: the journal holds no frequency or no meter")
    begun_ns = beginning_ns(plan, _sorted(samples["t_ns"], samples["hz"]), str(folder))
    # The meter of the connection comes first; those of other loads on a site are numbered after it.
    meters = meters[meters["meter"] == meters["meter"].min()]
    t_ns, power_kw = _sorted(meters["t_ns"], meters["power_kw"])
    end_ns = begun_ns + round(plan.duration_s * NS)
    inside = (t_ns >= begun_ns) & (t_ns < end_ns)
    t_ns, power_kw = t_ns[inside], power_kw[inside]
    t_s = (t_ns - begun_ns) / NS
    hz = np.interp(t_ns, *_sorted(samples["t_ns"], samples["hz"]))
    declared = journal_reader.read(home, Kind.BASELINE).rows
    return Recording(t_s, hz, power_kw, declared_kw(declared, t_ns))


def beginning_ns(plan: Plan, recorded_hz: tuple[Ints, Floats], where: str) -> int:
    """When the plan began in a recorded frequency: where the sum of squared differences is least.

    recorded_hz : (t_ns, hz), ascending

    Raises PrequalificationError where nothing comes near the plan.
    """
    t_ns, hz = recorded_hz
    _, wanted = plan.series()
    middle = float(wanted.mean())
    wanted = wanted - middle
    grid_ns = np.arange(int(t_ns[0]), int(t_ns[-1]) + 1, round(NS / plan.rate_hz))
    seen = np.interp(grid_ns, t_ns, hz) - middle
    if seen.size < wanted.size:
        raise PrequalificationError(
            f"{where}: {seen.size / plan.rate_hz:.0f} s recorded, and the test takes {plan.duration_s:.0f} s; "
            "name the parts that were played with --part"
        )
    size = 1 << (seen.size + wanted.size).bit_length()
    product = np.fft.irfft(np.fft.rfft(seen, size) * np.conj(np.fft.rfft(wanted, size)), size)
    total = np.concatenate([[0.0], np.cumsum(seen**2)])
    count = seen.size - wanted.size + 1
    squares = total[wanted.size :][:count] - total[:count] - 2.0 * product[:count] + float(wanted @ wanted)
    best = int(squares.argmin())
    near = np.abs(seen[best : best + wanted.size] - wanted) <= MATCH_HZ
    if np.count_nonzero(near) < MATCH_FRAC * wanted.size:
        raise PrequalificationError(
            f"{where}: nothing in the recorded frequency is the plan (the nearest is it for {near.mean():.0%} of the "
            "time); play it with `flyball run --trace plan.csv`"
        )
    return int(grid_ns[best] + round(_vertex(squares, best) * NS / plan.rate_hz))


def _vertex(squares: Floats, best: int) -> float:
    """Where between its neighbours the least lies, by a parabola: -0.5..0.5 of a step."""
    if not 0 < best < squares.size - 1:
        return 0.0
    before, least, after = (float(value) for value in squares[best - 1 : best + 2])
    bend = before - 2.0 * least + after
    return 0.5 * (before - after) / bend if bend > 0.0 else 0.0


def latency_s(path: Path) -> float:
    """The 99th percentile from sample to command [s], of a summary of `flyball run --json` or a `/v1/status` answer.

    Raises PrequalificationError.
    """
    try:
        value = _total_s(orjson.loads(path.read_bytes()))
    except OSError as error:
        raise PrequalificationError(f"--latency {path}: cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise PrequalificationError(
            f"--latency {path}: no `latency_ms.total.p99` in it; give what `flyball run --json` wrote"
        ) from error
    if not np.isfinite(value) or value < 0:
        raise PrequalificationError(f"--latency {path}: `latency_ms.total.p99` is no time")
    return value


def _total_s(summary: Any) -> float:
    return float(summary["latency_ms"]["total"]["p99"]) / 1e3


def _sorted(t_ns: Ints, value: Floats) -> tuple[Ints, Floats]:
    """Ascending in time, each time once."""
    times, first = np.unique(t_ns, return_index=True)
    return times.astype(np.int64), np.ascontiguousarray(value[first], np.float64)
