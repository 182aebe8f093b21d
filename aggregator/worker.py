"""The worker process: frequency in, set-points out, and nothing else in the process.

Follows the frequency on both servers and the fleet, signal and wish streams on the first, with one poll; calls the
core, one row of frequency a decision whether one ingest tells it or several (`aggregator.frequency`), and sends what it
decided together with the journal of the call in one round trip; in two where that journal is large, the set-points
first (`aggregator.outbox`).

Policy while the store is away: samples go on coming from the second server, time goes on for the core where there is
none (hold, ramp, baseline); set-points that could not be sent are dropped, not queued, because newer ones replace
them; when the store is back every vehicle is commanded anew. A store that is away is not waited for: only the first
message that meets a frozen one is, for a second. Samples that fell behind while nobody read are taken in as one
block: the core decides on what is fresh and counts the others as overtaken.

Large batches of reports are taken in slices, and samples that came meanwhile are decided on between them: a sample
waits for a slice, not for a batch. What came behind such a batch waits behind it, in order and in full; where too much
waits, it is taken before anything else is read.

A worker that follows another goes on from its state (`aggregator.snapshots`), and commands everybody anew: whether
the other's last messages arrived is not known.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import orjson
import redis

from aggregator import beginning, showing, snapshots
from aggregator.compiling import ensure
from aggregator.contracts import CoreSettings
from aggregator.core import Aggregator, Command
from aggregator.frequency import Frequency, Sample, together
from aggregator.outbox import Outbox
from aggregator.process import Log, Stats, Stop, epoch, patient, settle_memory, urgent
from aggregator.warming import warm
from telemetry import wire
from telemetry.choice import ChoiceSettings
from telemetry.host_clock import host_clock
from telemetry.paired import PairedReader
from telemetry.redis_stream import Row
from telemetry.samples import FREQUENCY, POWER, SESSION, SIGNAL, VEHICLE, WISH, Block
from telemetry.stages import Stages

NAME: Final = "w1"
BLOCK_MS: Final = 50
BATCH: Final = 256
# Without a sample for so long the core is told that time went by.
IDLE_S: Final = 0.2
# Reports taken at once, and entries that may wait behind them.
SLICE_ROWS: Final = 1_000
WAITING_MAX: Final = 64
FLEET_WAIT_S: Final = 3.0
FIRST_READ_S: Final = 1.0
SIGNAL_DOORS: Final = ("api", "utility")


def serve(
    settings: CoreSettings, key: bytes, urls: Sequence[str], names: dict[str, str], stop: Stop, log: Log,
    since: dict[str, str] | None = None, snapshot_s: float = snapshots.PERIOD_S, ingests: Sequence[str] = (),
    choice: ChoiceSettings | None = None,
) -> None:  # fmt: skip
    """Run until told to stop.

    urls  : of the store, and of the second server that has the frequency
    names : ingest, gateway, api and utility: whose streams to follow
    since : newest entries when the run began, by stream; what is older is another run's
    ingests : several instead of `names["ingest"]`, preferred ones first; choice : how one of them is chosen
    """
    client = patient(urls[0], stop, log)
    if client is None:
        return
    ensure(log, stop)
    if stop:
        return
    warm(settings)
    settings = replace(settings, epoch=epoch())
    scheduling = urgent()
    settle_memory()
    log.info("worker warm", epoch=settings.epoch, scheduling=scheduling)
    Worker(settings, key, client, urls, names, stop, log, scheduling, since or {}, snapshot_s, ingests, choice).run()


class Worker:
    """One core between its streams."""

    def __init__(
        self, settings: CoreSettings, key: bytes, client: redis.Redis, urls: Sequence[str] | str,
        names: dict[str, str], stop: Stop, log: Log, scheduling: str, since: dict[str, str],
        snapshot_s: float = snapshots.PERIOD_S, ingests: Sequence[str] = (), choice: ChoiceSettings | None = None,
    ) -> None:  # fmt: skip
        urls = [urls] if isinstance(urls, str) else list(urls)
        area = settings.area
        self._settings = settings
        self.core = Aggregator(settings)
        self._key, self._client, self._stop, self._log = key, client, stop, log
        self._scheduling, self._since = scheduling, since
        self._frequency = Frequency(area, ingests or (names["ingest"],), choice, time.time_ns())
        self._fleet = f"fleet:{area}:{names['gateway']}"
        # Every door that an authority's set-point may come in by; which of them stands is the core's rule.
        self._signals = tuple(f"signal:{area}:{names[door]}" for door in SIGNAL_DOORS if door in names)
        self._wishes = f"wishes:{area}:{names['api']}"
        self._streams = beginning.Streams(
            area, names["gateway"], self._fleet, self._wishes, self._frequency.keys, self._signals
        )
        self._reader = PairedReader(urls, [{}], BATCH)
        self._servers = len(urls)
        self._done: dict[str, str] = {}  # of each stream, the newest entry that the core has seen
        self._keeper = snapshots.Keeper(urls[0], area, NAME)
        self._snapshot_s = snapshot_s
        self._snapshot_due_s = time.monotonic() + snapshot_s
        self._restored: dict[str, Any] = {}
        self._outbox = Outbox(client, settings, names["gateway"], NAME)
        self._stats = Stats(client, area, "worker")
        self._showing = showing.Showing(client, urls[0], area, self._frequency, log)
        self._stages = Stages()
        self._clock = host_clock()
        self._refused: Counter[str] = Counter()
        self._behind: list[Sample] = []  # too old, while more waits to be read
        self._waiting: deque[tuple[Row, Block | None]] = deque()  # read, and not taken yet
        self._lost = False
        self._last_tick_s = self._begun_s = time.monotonic()

    def run(self) -> None:
        """Loop until told to stop."""
        self._await_fleet()
        while not self._stop:
            self._step()
        # What is already on the stream is still ticked: stopping loses no sample.
        while self._read() >= BATCH:
            pass
        self._take_waiting(most=0)
        self._step()
        self._done |= self._frequency.rest()
        self._send([])
        self._stats.write(self.figures(), now=True)
        self._keeper.close()
        self._showing.close()
        self._reader.close()

    def _step(self) -> None:
        self._read()
        now_s = time.monotonic()
        if now_s - self._last_tick_s >= IDLE_S:
            self._last_tick_s = now_s
            self.core.on_time(time.time_ns())
            self._send(self.core.drain_commands())
        self._show(now_s)

    def _await_fleet(self) -> None:
        """Begin where the last owner ended; or take in the fleet before the first sample, for a while, so that the
        first baseline knows it.
        """
        if self._go_on():
            # What came meanwhile is read before time is told: a frequency that is there is not lost.
            deadline_s = time.monotonic() + FIRST_READ_S
            while not self._stop and time.monotonic() < deadline_s and not self._read():
                pass
            return
        signals_from = self._resume()
        while not self._stop and time.monotonic() - self._begun_s < FLEET_WAIT_S:
            # All that has gathered: vehicles whose reports still wait to be read would count as stale.
            if self._read() < BATCH and not self._waiting and (self.core.engine.fleet.state > 0).any():
                break
        self._take_waiting(most=0)
        while not self._stop:
            try:
                self._follow({
                    self._fleet: self._reader.positions[self._fleet], **dict.fromkeys(self._frequency.keys, "$"),
                    **signals_from,
                    # All of this run, once more: those that have lapsed or whose car has left are refused again.
                    self._wishes: self._since.get(self._wishes, "0"),
                })  # fmt: skip
                self._frequency.begin(self._reader.positions)
                return
            except redis.RedisError as error:
                self._store_away(error)

    def _follow(self, start: dict[str, str]) -> None:
        """Follow these streams, the frequency on every server."""
        frequency = {key: entry_id for key, entry_id in start.items() if key in self._frequency.keys}
        self._reader.follow([start, *([frequency] * (self._servers - 1) if frequency else [])])
        self._done = self._reader.positions

    def _go_on(self) -> bool:
        """Take over the state of the worker before, where there is one to go on from."""
        begun_s = time.monotonic()
        while not self._stop:
            try:
                found = snapshots.restore(self._client, self._settings, NAME, time.time_ns(), self._since)
                if found is None:
                    return False
                self._follow(beginning.places(self._client, self._streams, found, time.time_ns()))
            except snapshots.SnapshotRefused as refusal:
                self._log.warning("state of the worker before not taken over", reason=str(refusal))
                return False
            except redis.RedisError as error:
                self._store_away(error)
                continue
            self._take_over(found, begun_s)
            return True
        return False

    def _take_over(self, found: snapshots.Restored, begun_s: float) -> None:
        self._lost = False
        self.core = found.core
        self._frequency.go_on({**self._reader.positions, **found.note})
        self._refused += Counter(orjson.loads(found.note.get("refused", "{}")))
        # Who dies before a snapshot of his own leaves two lives' calls to be made again; that is refused.
        self._snapshot_due_s = time.monotonic()
        self._restored = {
            "continues": self.core.settings.continues[0], "restored_calls": found.calls,
            "restored_s": round(time.monotonic() - begun_s, 3),
        }  # fmt: skip
        self.core.on_renew(time.time_ns())
        self._log.info("goes on from the worker before", **self._restored)

    def _resume(self) -> dict[str, str]:
        """Begin where an earlier life ended: the gateway's table of sessions, and the last word of each door again.

        Returns the signal streams' positions.
        """
        while not self._stop:
            try:
                table, signals_from = beginning.last_words(self._client, self._streams, self._since)
            except redis.RedisError as error:
                self._store_away(error)
                continue
            begin = self._since.get(self._fleet, "0")
            if table is not None:
                begin = table.position
                self.core.on_sessions(table.rows, time.time_ns())
            self._follow({self._fleet: begin})
            return signals_from
        return {}

    def _read(self) -> int:
        """One batch of entries into the core, what the fleet and the authority say before the samples; how many.

        What waits is no reason to let a sample wait: a slice of it is taken, behind the samples.
        """
        try:
            wait_ms = self._frequency.wait_ms(BLOCK_MS, time.monotonic())
            rows = self._reader.read(block_ms=0 if self._waiting else wait_ms)
        except redis.RedisError as error:
            self._store_away(error)
            self._take_waiting(WAITING_MAX)
            return 0
        read_ns = time.time_ns()
        read: list[tuple[Row, Block]] = []
        for row in rows:
            block = self._block(row)
            if row.key in self._frequency.keys and block is not None:
                self._note_lost(row)
                read.append((row, block))
            elif self._waits(row.key, block):
                self._waiting.append((row, block))
            else:
                self._take(row.key, row.entry_id, block)
        now_s = time.monotonic()
        chosen = self._frequency.take(read, now_s) + self._frequency.overdue(now_s)
        samples, self._behind = [*self._behind, *chosen], []
        self._samples(samples, read_ns, more=len(rows) >= BATCH)
        self._take_waiting(WAITING_MAX)
        return len(rows)

    def _waits(self, key: str, block: Block | None) -> bool:
        """Whether an entry is a large batch of reports, or of a stream of which others wait already."""
        if key in self._frequency.keys or key in self._signals:
            return False
        large = key == self._fleet and block is not None and block.dtype == VEHICLE and block.size > SLICE_ROWS
        return bool(self._waiting) or large

    def _take_waiting(self, most: int) -> None:
        """The next slice of what waits, and more until no more than `most` entries are left; 0: all of it."""
        while self._waiting:
            row, block = self._waiting[0]
            if block is not None and block.dtype == VEHICLE and block.size > SLICE_ROWS:
                # The entry counts as seen with its last slice: who goes on from here reads it once more, in full.
                self._waiting[0] = row, block[SLICE_ROWS:]
                self.core.on_vehicles(block[:SLICE_ROWS], time.time_ns())
            else:
                self._waiting.popleft()
                self._take(row.key, row.entry_id, block)
            if most and len(self._waiting) <= most:
                return

    def _block(self, row: Row) -> Block | None:
        """What an entry holds; None, counted, if that is nothing for its stream."""
        try:
            block = wire.decode(row.payload)
        except wire.WireError as error:
            self._refused[f"wire_{error.reason}"] += 1
            self._log.warning("entry refused", stream=row.key, entry=row.entry_id, error=str(error))
            return None
        if row.key in self._frequency.keys and (block.dtype != FREQUENCY or not block.size):
            self._misplaced(row.key, row.entry_id)
            return None
        return block

    def _misplaced(self, key: str, entry_id: str) -> None:
        self._refused["wire_stream"] += 1
        self._log.warning("entry refused", stream=key, entry=entry_id, error="a kind this stream does not carry")

    def _take(self, key: str, entry_id: str, block: Block | None) -> None:
        """One entry of any stream but the frequency's into the core. block : None if it was refused"""
        self._done[key] = entry_id
        if block is None:
            return
        if key == self._fleet and block.dtype == VEHICLE:
            self.core.on_vehicles(block, time.time_ns())
        elif key == self._fleet and block.dtype == SESSION:
            self.core.on_sessions(block, time.time_ns())
        elif key == self._fleet and block.dtype == POWER:
            self.core.on_meters(block, time.time_ns())
        elif key in self._signals and block.dtype == SIGNAL:
            self.core.on_signal(block, time.time_ns())
        elif key in (self._wishes, self._fleet) and block.dtype == WISH:
            self.core.on_wishes(block, time.time_ns())
        else:
            self._misplaced(key, entry_id)

    def _samples(self, samples: list[Sample], read_ns: int, *, more: bool) -> None:
        """Samples one at a time; those that are too old already go with the next, which overtakes them.

        more : others wait to be read; a batch of old ones alone waits for them
        """
        behind: list[Sample] = []
        oldest_ns = read_ns - round(self.core.settings.sample_age_max_s * 1e9)
        for place, sample in enumerate(samples):
            old, last = int(sample.block["rx_ns"][-1]) < oldest_ns, place == len(samples) - 1
            if old and last and more:
                self._behind = samples[place - len(behind) :]
            elif old and not last:
                behind.append(sample)
            else:
                self._sample([*behind, sample], read_ns)
                behind = []

    def _sample(self, samples: list[Sample], read_ns: int) -> None:
        for sample in samples:
            self._done |= self._frequency.dealt(sample)
        block, row = together(samples), samples[-1].row
        begun_ns = time.time_ns()
        self.core.on_samples(block, begun_ns)
        decided_ns = time.time_ns()
        self._last_tick_s = time.monotonic()
        if sent_ns := self._send(self.core.drain_commands()):
            t_ns, rx_ns = int(block["t_ns"][-1]), int(block["rx_ns"][-1])
            self._stages.add(t_ns, rx_ns, row.note, read_ns, begun_ns, decided_ns, sent_ns)
            self._keep()

    def _keep(self) -> None:
        """A snapshot, when due; the store holds every call so far."""
        now_s = time.monotonic()
        if now_s < self._snapshot_due_s or self._keeper.busy:
            return
        self._snapshot_due_s = now_s + self._snapshot_s
        self._keeper.keep(self.core, self._outbox.place, self._outbox.sent_seq, self._note(), time.time_ns())

    def _note(self) -> bytes:
        """How far this worker has read, for who goes on from here; it travels with the journal."""
        refused = orjson.dumps(self._refused).decode()
        return orjson.dumps({**self._done, **self._frequency.note(), "refused": refused})

    def _note_lost(self, row: Row) -> None:
        """Put on record which samples the stream lost before this one: what became of each is in the journal."""
        hole = self._frequency.hole(row)
        if hole is not None:
            self.core.note_lost(hole.epoch, hole.first, hole.last, time.time_ns(), hole.of)

    def _send(self, commands: list[Command]) -> int:
        """Commands and the journal of what led to them; when the commands had arrived [ns], 0 unless all did."""
        messages = [self.core.sign(command, self._key) for command in commands]
        entries = self.core.drain_entries()
        note = self._note() if entries else b""
        if self._lost and not self._returned():
            self._outbox.keep(entries, note)
            return 0
        try:
            return self._outbox.send(messages, entries, note)
        except redis.RedisError as error:
            self._store_away(error)
            return 0

    def _store_away(self, error: redis.RedisError) -> None:
        if not self._lost:
            self._log.warning("store away: holding, then ramping to the baseline", error=str(error))
        self._lost = True
        self._reader.doubt(0)
        if not any(self._reader.answering):
            self._stop.wait(0.05)

    def _returned(self) -> bool:
        """Whether the store is back; then old set-points are dropped and everybody is commanded anew."""
        if not self._reader.answering[0]:
            return False  # asked from a thread of its own; nobody waits for it here
        try:
            self._outbox.retry()
        except redis.RedisError:
            return False
        self._lost = False
        self.core.on_renew(time.time_ns())
        self._log.info("store back")
        return True

    def _show(self, now_s: float) -> None:
        """Live figures and the fleet's snapshot, when due."""
        if self._lost:
            return
        try:
            if self._showing.show(self.core, now_s, self._told):
                self._stats.write(self.figures())
        except redis.RedisError as error:
            self._store_away(error)

    def _told(self) -> dict[str, Any]:
        """What this process adds to the live figures; `rejected` is added to the core's."""
        return {
            "latency_ms": self._stages.summary(), "clock": self._clocks(), "servers": self._reader.answering,
            "worker": {"epoch": self.core.settings.epoch, "scheduling": self._scheduling},
            "rejected": self._refused, "ingests": self._frequency.shown(time.time_ns()),
        }  # fmt: skip

    def _clocks(self) -> dict[str, Any]:
        """How far the stamps behind `source` and `total` can be trusted."""
        return {
            "synchronised": self._clock.synchronised,
            "host_error_ms": self._clock.max_ms,
            "least_source_ms": self._stages.least_source_ms(),
        }

    def figures(self) -> dict[str, Any]:
        """Counters of this worker, for the store and for the summary of a run."""
        return {
            "epoch": self.core.settings.epoch,
            "scheduling": self._scheduling,
            **self._frequency.figures(self._reader.positions),
            "missing": self._reader.missing,
            "duplicates": self._reader.duplicates,
            "late": self._reader.late,
            "server_losses": self._reader.losses,
            "snapshots": self._keeper.written,
            "snapshots_failed": self._keeper.failed,
            **self._restored,
            **showing.totals(self.core, self._refused),
            **self._showing.figures(),
            "latency_ms": self._stages.summary(),
            "clock": self._clocks(),
            "histograms": self._stages.buckets(),
        }
