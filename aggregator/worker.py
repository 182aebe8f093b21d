"""The worker process: frequency in, set-points out, and nothing else in the process.

Follows the frequency, fleet, signal and wish streams with one blocking read, calls the core, and sends what it
decided together with the journal of the call in one round trip. Policy while the store is away: time goes on
for the core (hold, ramp, baseline), set-points that could not be sent are dropped, not queued, because newer
ones replace them; when the store is back every vehicle is commanded anew.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import Any, Final

import orjson
import redis

from aggregator import explained, figures, journal, sessions, views
from aggregator.contracts import CoreSettings
from aggregator.core import Aggregator, Command
from aggregator.process import Log, Stats, Stop, epoch, patient, settle_memory, urgent
from aggregator.warming import warm
from telemetry import wire
from telemetry.latency import Histogram
from telemetry.redis_stream import StreamReader, StreamWriter, connect, entries, parse_id
from telemetry.samples import FREQUENCY, POWER, SESSION, SIGNAL, VEHICLE, WISH, Block

STAGES: Final = ("report", "stream", "engine", "publish", "total")
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
FLEET_WAIT_S: Final = 3.0
SIGNAL_DOORS: Final = ("api", "utility")


def serve(
    settings: CoreSettings, key: bytes, url: str, names: dict[str, str], stop: Stop, log: Log,
    since: dict[str, str] | None = None,
) -> None:  # fmt: skip
    """Run until told to stop.

    names : ingest, gateway, api and utility: whose streams to follow
    since : newest entries when the run began, by stream; what is older is another run's
    """
    client = patient(url, stop, log)
    if client is None:
        return
    settings = replace(settings, epoch=epoch())
    warm(settings, log)
    scheduling = urgent()
    settle_memory()
    log.info("worker warm", epoch=settings.epoch, scheduling=scheduling)
    Worker(settings, key, client, url, names, stop, log, scheduling, since or {}).run()


class Worker:
    """One core between its streams."""

    def __init__(
        self, settings: CoreSettings, key: bytes, client: redis.Redis, url: str, names: dict[str, str], stop: Stop,
        log: Log, scheduling: str, since: dict[str, str],
    ) -> None:  # fmt: skip
        area = settings.area
        self.core = Aggregator(settings)
        self._key, self._client, self._stop, self._log = key, client, stop, log
        self._area, self._scheduling = area, scheduling
        self._gateway, self._since = names["gateway"], since
        self._freq = f"freq:{area}:{names['ingest']}"
        self._fleet = f"fleet:{area}:{names['gateway']}"
        # Every door that an authority's set-point may come in by; which of them stands is the core's rule.
        self._signals = tuple(f"signal:{area}:{names[door]}" for door in SIGNAL_DOORS if door in names)
        self._wishes = f"wishes:{area}:{names['api']}"
        # Gives up after a second: a store that froze must not stop the core's time.
        self._follower = connect(url)
        self._reader = StreamReader(self._follower, {self._fleet: "0"})
        self._commands = StreamWriter(
            client, f"cmd:{area}:{names['gateway']}", settings.epoch, entries(settings.rows, *COMMAND_MAXLEN)
        )
        self._journal = StreamWriter(
            client, f"journal:{area}:{NAME}", settings.epoch, entries(settings.rows, *JOURNAL_MAXLEN)
        )
        self._stats = Stats(client, area, "worker")
        self._explaining = explained.Explaining(client, area, log)
        self._latency = {stage: Histogram() for stage in STAGES}
        self._refused: Counter[str] = Counter()
        self._first_id, self._ticked = "", 0
        self._sample_id = (0, 0)
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
        self._step()
        self._send([])
        self._stats.write(self.figures(), now=True)

    def _step(self) -> None:
        self._read()
        now_s = time.monotonic()
        if now_s - self._last_tick_s >= IDLE_S:
            self._last_tick_s = now_s
            self.core.on_time(time.time_ns())
            self._send(self.core.drain_commands())
        self._show(now_s)

    def _await_fleet(self) -> None:
        """Take in the fleet before the first sample, for a while: the first baseline should know it."""
        signals_from = self._resume()
        while not self._stop and time.monotonic() - self._begun_s < FLEET_WAIT_S:
            # All that has gathered: vehicles whose reports still wait to be read would count as stale.
            if self._read() < BATCH and (self.core.engine.fleet.state > 0).any():
                break
        while not self._stop:
            try:
                start = {
                    self._fleet: self._reader.positions[self._fleet], self._freq: "$", **signals_from,
                    # All of this run, once more: those that have lapsed or whose car has left are refused again.
                    self._wishes: self._since.get(self._wishes, "0"),
                }  # fmt: skip
                self._reader = StreamReader(self._follower, start)
                self._sample_id = parse_id(self._reader.positions[self._freq])
                return
            except redis.RedisError as error:
                self._store_away(error)

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
            self._reader = StreamReader(self._follower, {self._fleet: begin})
            return {
                key: max(last[1][0].decode() if len(last) == 2 else "0", self._since.get(key, "0"), key=parse_id)
                for key, last in said.items()
            }
        return {}

    def _read(self) -> int:
        """One batch of entries into the core, what the fleet and the authority say before the samples; how many."""
        try:
            entries = self._reader.read(block_ms=BLOCK_MS, count=BATCH)
        except redis.RedisError as error:
            self._store_away(error)
            return 0
        read_ns = time.time_ns()
        for key, entry_id, payload in sorted(entries, key=lambda entry: entry[0] == self._freq):
            self._take(key, entry_id, payload, read_ns)
        return len(entries)

    def _take(self, key: str, entry_id: str, payload: bytes, read_ns: int) -> None:
        """One entry of any stream into the core."""
        try:
            block = wire.decode(payload)
        except wire.WireError as error:
            self._refused[f"wire_{error.reason}"] += 1
            self._log.warning("entry refused", stream=key, entry=entry_id, error=str(error))
            return
        if key == self._freq and block.dtype == FREQUENCY:
            self._sample(block, entry_id, read_ns)
        elif key == self._fleet and block.dtype == VEHICLE:
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
            self._refused["wire_stream"] += 1
            self._log.warning("entry refused", stream=key, entry=entry_id, error="a kind this stream does not carry")

    def _sample(self, block: Block, entry_id: str, read_ns: int) -> None:
        self._note_lost(entry_id)
        self._first_id = self._first_id or entry_id
        self._ticked += int(block.size)
        self.core.on_samples(block, time.time_ns())
        decided_ns = time.time_ns()
        self._last_tick_s = time.monotonic()
        if self._send(self.core.drain_commands()):
            sent_ns = time.time_ns()
            t_ns, rx_ns = int(block["t_ns"][-1]), int(block["rx_ns"][-1])
            for stage, span_ns in zip(
                STAGES,
                (rx_ns - t_ns, read_ns - rx_ns, decided_ns - read_ns, sent_ns - decided_ns, sent_ns - t_ns),
                strict=True,
            ):
                self._latency[stage].add_ns(span_ns)

    def _note_lost(self, entry_id: str) -> None:
        """Put on record which samples the stream lost before this one: what became of each is in the journal."""
        (epoch, counter), before = parse_id(entry_id), self._sample_id
        self._sample_id = epoch, counter
        first = before[1] + 1 if epoch == before[0] else 1
        if before != (0, 0) and counter > first:
            self.core.note_lost(epoch, first, counter - 1, time.time_ns())

    def _send(self, commands: list[Command]) -> bool:
        """Commands and the journal of what led to them, in one round trip; whether they arrived."""
        messages = [self.core.sign(command, self._key) for command in commands]
        entries = self.core.drain_entries()
        if self._lost and not self._returned():
            self._journal_wait(entries)
            return False
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for message in messages:
                    self._commands.queue(pipeline, message)
                if entries:
                    self._journal.queue(pipeline, journal.pack(entries))
                pipeline.execute()
        except redis.RedisError as error:
            self._store_away(error)
            return False
        self._commands.confirm()
        self._journal.confirm()
        return True

    def _journal_wait(self, entries: list[journal.Entry]) -> None:
        """Keep entries for the store's return, within the writer's bound."""
        if entries:
            self._journal.hold(journal.pack(entries))

    def _store_away(self, error: redis.RedisError) -> None:
        if not self._lost:
            self._log.warning("store away: holding, then ramping to the baseline", error=str(error))
        self._lost = True
        self._stop.wait(0.05)

    def _returned(self) -> bool:
        """Whether the store is back; then old set-points are dropped and everybody is commanded anew."""
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
        if self._lost or now_s < self._live_due_s:
            return
        now_ns = time.time_ns()
        try:
            if now_s >= self._survey_due_s:
                self._survey_due_s = now_s + SURVEY_S
                self._slow = figures.survey(self.core, now_ns)
                self._supervise(now_ns)
                self._client.set(f"fleetview:{self._area}", views.encode(now_ns, figures.fleetview(self.core, now_ns)))
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
        self._stats.write(self.figures())

    def _supervise(self, now_ns: int) -> None:
        self.core.supervise(*figures.endured_kw(self.core, self._slow["capability"]), now_ns)

    def _live(self, now_ns: int) -> dict[str, Any]:
        shown = figures.live(self.core, now_ns, self._slow)
        shown["latency_ms"] = {stage: histogram.summary() for stage, histogram in self._latency.items()}
        shown["worker"] = {"epoch": self.core.settings.epoch, "scheduling": self._scheduling}
        shown["rejected"] = dict(Counter(shown["rejected"]) + self._refused)
        return shown

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
            "ticks": sums.ticks,
            "commands": sums.commands,
            "rejected": dict(Counter(self.core.rejected()) + self._refused),
            "requested_kwh": sums.requested_up_kwh + sums.requested_down_kwh,
            "delivered_kwh": sums.delivered_up_kwh + sums.delivered_down_kwh,
            "unserved_kwh": sums.unserved_kwh,
            "max_sum_error_kw": sums.max_sum_error_kw,
            "bound_violations": sums.bound_violations,
            "alarms": self.core.alarms.raised,
            "explained": self._explaining.answered,
            "questions_malformed": self._explaining.malformed,
            "latency_ms": {stage: histogram.summary() for stage, histogram in self._latency.items()},
        }
