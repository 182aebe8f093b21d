"""The worker process: frequency in, set-points out, and nothing else in the process.

Follows the frequency on both servers and the fleet, signal and wish streams on the first, with one poll; calls the
core, and sends what it decided together with the journal of the call in one round trip; in two where that journal
is large, the set-points first: they do not wait for what vehicles have reported since.

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

import numpy as np
import orjson
import redis

from aggregator import explained, figures, journal, managing, sessions, snapshots, views
from aggregator.aside import Aside
from aggregator.compiling import ensure
from aggregator.contracts import CoreSettings
from aggregator.core import Aggregator, Command
from aggregator.oversold import Oversold
from aggregator.process import Log, Stats, Stop, epoch, patient, settle_memory, urgent
from aggregator.warming import warm
from telemetry import wire
from telemetry.host_clock import host_clock
from telemetry.paired import PairedReader
from telemetry.redis_stream import Row, StreamWriter, connect, entries, parse_id
from telemetry.samples import FREQUENCY, POWER, SESSION, SIGNAL, VEHICLE, WISH, Block
from telemetry.stages import Stages

NAME: Final = "w1"
BLOCK_MS: Final = 50
BATCH: Final = 256
# Without a sample for so long the core is told that time went by.
IDLE_S: Final = 0.2
LIVE_S: Final = 0.2
SURVEY_S: Final = 1.0
# Entries kept on the streams, and rows of the fleet they may hold in all: large fleets have large entries.
COMMAND_MAXLEN: Final = (100, 2_000, 20_000_000)
JOURNAL_MAXLEN: Final = (800, 8_000, 80_000_000)
# A journal larger than this has a round trip of its own, behind the commands: reports of some 500 vehicles.
APART_BYTES: Final = 32_768
# Reports taken at once, and entries that may wait behind them.
SLICE_ROWS: Final = 1_000
WAITING_MAX: Final = 64
FLEET_WAIT_S: Final = 3.0
FIRST_READ_S: Final = 1.0
SIGNAL_DOORS: Final = ("api", "utility")


def serve(
    settings: CoreSettings, key: bytes, urls: Sequence[str], names: dict[str, str], stop: Stop, log: Log,
    since: dict[str, str] | None = None, snapshot_s: float = snapshots.PERIOD_S,
) -> None:  # fmt: skip
    """Run until told to stop.

    urls  : of the store, and of the second server that has the frequency
    names : ingest, gateway, api and utility: whose streams to follow
    since : newest entries when the run began, by stream; what is older is another run's
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
    Worker(settings, key, client, urls, names, stop, log, scheduling, since or {}, snapshot_s).run()


class Worker:
    """One core between its streams."""

    def __init__(
        self, settings: CoreSettings, key: bytes, client: redis.Redis, urls: Sequence[str] | str,
        names: dict[str, str], stop: Stop, log: Log, scheduling: str, since: dict[str, str],
        snapshot_s: float = snapshots.PERIOD_S,
    ) -> None:  # fmt: skip
        urls = [urls] if isinstance(urls, str) else list(urls)
        area = settings.area
        self._settings = settings
        self.core = Aggregator(settings)
        self._key, self._client, self._stop, self._log = key, client, stop, log
        self._area, self._scheduling = area, scheduling
        self._gateway, self._since = names["gateway"], since
        self._freq = f"freq:{area}:{names['ingest']}"
        self._fleet = f"fleet:{area}:{names['gateway']}"
        # Every door that an authority's set-point may come in by; which of them stands is the core's rule.
        self._signals = tuple(f"signal:{area}:{names[door]}" for door in SIGNAL_DOORS if door in names)
        self._wishes = f"wishes:{area}:{names['api']}"
        self._reader = PairedReader(urls, [{}], BATCH)
        self._servers = len(urls)
        self._done: dict[str, str] = {}  # of each stream, the newest entry that the core has seen
        self._keeper = snapshots.Keeper(urls[0], area, NAME)
        self._aside = Aside("view")
        self._aside_client = connect(urls[0])
        self._view_due = False
        self._snapshot_s = snapshot_s
        self._snapshot_due_s = time.monotonic() + snapshot_s
        self._sent_seq = -1
        self._restored: dict[str, Any] = {}
        self._commands = StreamWriter(
            client, f"cmd:{area}:{names['gateway']}", settings.epoch, entries(settings.rows, *COMMAND_MAXLEN)
        )
        self._journal = StreamWriter(
            client, f"journal:{area}:{NAME}", settings.epoch, entries(settings.rows, *JOURNAL_MAXLEN)
        )
        self._stats = Stats(client, area, "worker")
        self._explaining = explained.Explaining(client, area, log)
        self._oversold = Oversold()
        self._stages = Stages()
        self._clock = host_clock()
        self._refused: Counter[str] = Counter()
        self._first_id, self._ticked = "", 0
        self._sample_id = (0, 0)
        self._behind: list[tuple[Row, Block]] = []  # too old, while more waits to be read
        self._waiting: deque[tuple[Row, Block | None]] = deque()  # read, and not taken yet
        self._lost = False
        self._slow: dict[str, Any] = {}
        self._last_tick_s = self._live_due_s = self._survey_due_s = time.monotonic()
        self._begun_s = time.monotonic()

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
        self._send([])
        self._stats.write(self.figures(), now=True)
        self._keeper.close()
        self._aside.close()
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
                    self._fleet: self._reader.positions[self._fleet], self._freq: "$", **signals_from,
                    # All of this run, once more: those that have lapsed or whose car has left are refused again.
                    self._wishes: self._since.get(self._wishes, "0"),
                })  # fmt: skip
                self._sample_id = parse_id(self._reader.positions[self._freq])
                return
            except redis.RedisError as error:
                self._store_away(error)

    def _follow(self, start: dict[str, str]) -> None:
        """Follow these streams, the frequency on every server."""
        frequency = {key: entry_id for key, entry_id in start.items() if key == self._freq}
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
                self._follow(self._places(found))
            except snapshots.SnapshotRefused as refusal:
                self._log.warning("state of the worker before not taken over", reason=str(refusal))
                return False
            except redis.RedisError as error:
                self._store_away(error)
                continue
            self._lost = False
            self._sample_id = parse_id(found.note.get(self._freq, "0"))
            self.core = found.core
            self._ticked = int(found.note.get("ticked", "0"))
            self._first_id = found.note.get("first", "")
            self._refused += Counter(orjson.loads(found.note.get("refused", "{}")))
            # Who dies before a snapshot of his own leaves two lives' calls to be made again; that is refused.
            self._snapshot_due_s = time.monotonic()
            self._restored = {
                "continues": self.core.settings.continues[0], "restored_calls": found.calls,
                "restored_s": round(time.monotonic() - begun_s, 3),
            }  # fmt: skip
            self.core.on_renew(time.time_ns())
            self._log.info("goes on from the worker before", **self._restored)
            return True
        return False

    def _places(self, found: snapshots.Restored) -> dict[str, str]:
        """Where to go on reading; a fleet stream that has forgotten what came next gives way to the sessions' table."""
        followed = self._fleet, self._freq, self._wishes, *self._signals
        places = {key: found.note.get(key, "0") for key in followed}
        oldest: Any = self._client.xrange(self._fleet, count=1)
        epoch_, counter = parse_id(places[self._fleet])
        if oldest and parse_id(oldest[0][0].decode()) > (epoch_, counter + 1):
            table = sessions.read(self._client, self._area, self._gateway)
            if table is not None and table.newer_than(places[self._fleet]):
                places[self._fleet] = table.position
                found.core.on_sessions(table.rows, time.time_ns())
        return places

    def _resume(self) -> dict[str, str]:
        """Begin where an earlier life ended: the gateway's table of sessions, and the last word of each door again.

        Returns the signal streams' positions.
        """
        while not self._stop:
            begin = self._since.get(self._fleet, "0")
            try:
                table = sessions.read(self._client, self._area, self._gateway)
                said: dict[str, Any] = {key: self._client.xrevrange(key, count=2) for key in self._signals}
            except redis.RedisError as error:
                self._store_away(error)
                continue
            if table is not None and table.newer_than(begin):
                begin = table.position
                self.core.on_sessions(table.rows, time.time_ns())
            self._follow({self._fleet: begin})
            return {
                key: max(last[1][0].decode() if len(last) == 2 else "0", self._since.get(key, "0"), key=parse_id)
                for key, last in said.items()
            }
        return {}

    def _read(self) -> int:
        """One batch of entries into the core, what the fleet and the authority say before the samples; how many.

        What waits is no reason to let a sample wait: a slice of it is taken, behind the samples.
        """
        try:
            rows = self._reader.read(block_ms=0 if self._waiting else BLOCK_MS)
        except redis.RedisError as error:
            self._store_away(error)
            self._take_waiting(WAITING_MAX)
            return 0
        read_ns = time.time_ns()
        samples, self._behind = self._behind, []
        for row in rows:
            block = self._block(row)
            if row.key == self._freq and block is not None:
                self._note_lost(row.entry_id)
                samples.append((row, block))
            elif self._waits(row.key, block):
                self._waiting.append((row, block))
            else:
                self._take(row.key, row.entry_id, block)
        self._samples(samples, read_ns, more=len(rows) >= BATCH)
        self._take_waiting(WAITING_MAX)
        return len(rows)

    def _waits(self, key: str, block: Block | None) -> bool:
        """Whether an entry is a large batch of reports, or of a stream of which others wait already."""
        if key == self._freq or key in self._signals:
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
        if row.key == self._freq and (block.dtype != FREQUENCY or not block.size):
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

    def _samples(self, samples: list[tuple[Row, Block]], read_ns: int, *, more: bool) -> None:
        """Samples one at a time; those that are too old already go with the next, which overtakes them.

        more : others wait to be read; a batch of old ones alone waits for them
        """
        behind: list[Block] = []
        oldest_ns = read_ns - round(self.core.settings.sample_age_max_s * 1e9)
        for place, (row, block) in enumerate(samples):
            old, last = int(block["rx_ns"][-1]) < oldest_ns, place == len(samples) - 1
            self._first_id = self._first_id or row.entry_id
            if old and last and more:
                self._behind = samples[place - len(behind) :]
            elif old and not last:
                behind.append(block)
            else:
                self._sample(np.concatenate([*behind, block]) if behind else block, row, read_ns)
                behind = []

    def _sample(self, block: Block, row: Row, read_ns: int) -> None:
        self._ticked += int(block.size)
        self._done[row.key] = row.entry_id
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
        entry_id = f"{self._journal.epoch}-{self._journal.counter}"
        self._keeper.keep(self.core, entry_id, self._sent_seq, self._note(), time.time_ns())

    def _note(self) -> bytes:
        """How far this worker has read, for who goes on from here; it travels with the journal."""
        refused = orjson.dumps(self._refused).decode()
        return orjson.dumps({**self._done, "ticked": str(self._ticked), "first": self._first_id, "refused": refused})

    def _note_lost(self, entry_id: str) -> None:
        """Put on record which samples the stream lost before this one: what became of each is in the journal."""
        (epoch, counter), before = parse_id(entry_id), self._sample_id
        self._sample_id = epoch, counter
        first = before[1] + 1 if epoch == before[0] else 1
        if before != (0, 0) and counter > first:
            self.core.note_lost(epoch, first, counter - 1, time.time_ns())

    def _send(self, commands: list[Command]) -> int:
        """Commands and the journal of what led to them; when the commands had arrived [ns], 0 unless all did."""
        messages = [self.core.sign(command, self._key) for command in commands]
        entries = self.core.drain_entries()
        if self._lost and not self._returned():
            self._journal_wait(entries)
            return 0
        apart = bool(messages) and sum(len(entry.payload) for entry in entries) > APART_BYTES
        try:
            with self._client.pipeline(transaction=False) as told, self._client.pipeline(transaction=False) as kept:
                for message in messages:
                    self._commands.queue(told, message)
                if entries:
                    # In the writer's hands before anything is sent: whatever fails, it is kept.
                    self._journal.queue(kept if apart else told, journal.pack(entries), self._note())
                    self._sent_seq = entries[-1].seq
                told.execute()
                sent_ns = time.time_ns()
                self._commands.confirm()
                kept.execute()
        except redis.RedisError as error:
            self._store_away(error)
            return 0
        self._journal.confirm()
        return sent_ns

    def _journal_wait(self, entries: list[journal.Entry]) -> None:
        """Keep entries for the store's return, within the writer's bound."""
        if entries:
            self._journal.hold(journal.pack(entries), self._note())
            self._sent_seq = entries[-1].seq

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
            self._client.ping()
            self._journal.retry()
        except redis.RedisError:
            return False
        self._commands.forget()
        self._lost = False
        self.core.on_renew(time.time_ns())
        self._log.info("store back")
        return True

    def _show(self, now_s: float) -> None:
        """Live figures and the fleet's snapshot, when due."""
        if self._lost:
            return
        if now_s < self._live_due_s:
            self._view()
            return
        now_ns = time.time_ns()
        try:
            if now_s >= self._survey_due_s:
                self._survey_due_s = now_s + SURVEY_S
                self._slow = figures.survey(self.core, now_ns)
                self._supervise(now_ns)
                self._view_due = True
            self._live_due_s = now_s + LIVE_S
            live = orjson.dumps(self._live(now_ns), option=orjson.OPT_SERIALIZE_NUMPY)
            with self._client.pipeline(transaction=False) as pipeline:
                pipeline.set(f"live:{self._area}", live)
                self._explaining.take(pipeline)
                shown, question = pipeline.execute(raise_on_error=False)
            if isinstance(shown, redis.RedisError):
                raise shown
            if question is not None:
                self._explaining.answer(question, self.core.engine, self.core.last)
        except redis.RedisError as error:
            self._store_away(error)
            return
        self._stats.write(self.figures())

    def _view(self) -> None:
        """The fleet's snapshot for the API, in a step of its own; bringing it to the store is nobody's wait."""
        if self._view_due and not self._aside.busy:
            self._view_due = False
            now_ns = time.time_ns()
            data = views.encode(now_ns, figures.fleetview(self.core, now_ns))
            self._aside.offer(lambda: self._aside_client.set(f"fleetview:{self._area}", data))

    def _supervise(self, now_ns: int) -> None:
        held = self._slow["reserved"]
        self.core.supervise(held["short"], now_ns)
        if said := self._oversold.text(self.core, lambda: held, now_ns):
            self._log.warning(said)

    def _live(self, now_ns: int) -> dict[str, Any]:
        shown = figures.live(self.core, now_ns, self._slow)
        shown["latency_ms"] = self._stages.summary()
        shown["clock"] = self._clocks()
        shown["servers"] = self._reader.answering
        shown["worker"] = {"epoch": self.core.settings.epoch, "scheduling": self._scheduling}
        shown["rejected"] = dict(Counter(shown["rejected"]) + self._refused)
        return shown

    def _clocks(self) -> dict[str, Any]:
        """How far the stamps behind `source` and `total` can be trusted."""
        return {
            "synchronised": self._clock.synchronised,
            "host_error_ms": self._clock.max_ms,
            "least_source_ms": self._stages.least_source_ms(),
        }

    def figures(self) -> dict[str, Any]:
        """Counters of this worker, for the store and for the summary of a run."""
        sums = self.core.sums
        position = self._reader.positions.get(self._freq, "0-0")
        return {
            "epoch": self.core.settings.epoch,
            "scheduling": self._scheduling,
            "first_id": self._first_id,
            "last_id": position,
            "ticked": self._ticked,
            "missing": self._reader.missing,
            "duplicates": self._reader.duplicates,
            "late": self._reader.late,
            "server_losses": self._reader.losses,
            "snapshots": self._keeper.written,
            "snapshots_failed": self._keeper.failed,
            **self._restored,
            "ticks": sums.ticks,
            "commands": sums.commands,
            "rejected": dict(Counter(self.core.rejected()) + self._refused),
            "requested_kwh": sums.requested_up_kwh + sums.requested_down_kwh,
            "delivered_kwh": sums.delivered_up_kwh + sums.delivered_down_kwh,
            "unserved_kwh": sums.unserved_kwh,
            "max_sum_error_kw": sums.max_sum_error_kw,
            "bound_violations": sums.bound_violations,
            "trips": sums.trips,
            "alarms": self.core.alarms.raised,
            "modes": managing.seconds(self.core.modes()),
            "explained": self._explaining.answered,
            "questions_malformed": self._explaining.malformed,
            "latency_ms": self._stages.summary(),
            "clock": self._clocks(),
            "histograms": self._stages.buckets(),
        }
