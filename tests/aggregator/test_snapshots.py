"""A new owner goes on where the last one ended: its state against a twin that nobody killed, and every refusal."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest
import redis

from aggregator import journal, snapshots, state
from aggregator.contracts import Contract, CoreSettings, Site
from aggregator.core import Aggregator
from aggregator.embedded import EmbeddedServer
from aggregator.gateways.simulated import SimulatedFleet
from aggregator.replay import ReplayError, replay
from aggregator.snapshots import Keeper, SnapshotRefused, restore
from aggregator.state import StateError, capture
from droop.products import load
from telemetry.redis_stream import StreamWriter, connect
from telemetry.samples import FREQUENCY, POWER, SIGNAL

S = 10**9
T0 = 1_790_000_000 * S
N = 40
KEY = bytes(range(32))


def settings(**changes: Any) -> CoreSettings:
    site = Site("depot", None, 0, 10, 30.0, 30.0, 7, -5.0, 5.0)
    plain = CoreSettings(
        "ce", N, (Contract(load("ce_fcr"), 60.0), Contract(load("nordic_fcr_n"), 10.0)), epoch=5, signal_max_kw=20.0,
        losses=(0.01, 0.02), wear_price=0.01, sites=(site,),
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


class World:
    """A fleet, a meter, a grid and an authority: the same calls for whoever asks. Steps of 200 ms."""

    def __init__(self, core: Aggregator) -> None:
        self.core = core
        self.fleet = SimulatedFleet(N, 2, T0)
        self.rng = np.random.default_rng(1)
        self.entries: list[journal.Entry] = []
        self.commands: list[bytes] = []

    def step(self, k: int, *others: Aggregator) -> None:
        """One step; `others` get the same calls, and `core`'s commands move the fleet."""
        now = T0 + k * S // 5
        self.fleet.advance(now)
        calls: list[tuple[str, Any]] = [
            ("on_sessions", self.fleet.sessions(now)), ("on_vehicles", self.fleet.reports(now)),
            ("on_meters", self.fleet.meter(now)),
        ]  # fmt: skip
        if k % 7 == 0:
            local = np.zeros(1, POWER)
            local["t_ns"], local["power_kw"], local["meter"] = now, -3.0 + k % 5, 7
            calls.append(("on_meters", local))
        if k % 90 == 20:
            point = np.zeros(1, SIGNAL)
            point["t_ns"], point["valid_until_ns"], point["power_kw"] = now, now + 20 * S, -15.0
            point["source"] = 2
            calls.append(("on_signal", point))
        sample = np.zeros(1, FREQUENCY)
        sample["t_ns"] = sample["rx_ns"] = now
        sample["hz"] = 50.0 + 0.06 * np.sin(k / 9) + 0.01 * self.rng.standard_normal()
        calls.append(("on_samples", sample))
        for name, block in calls:
            for core in (self.core, *others):
                if block.size:
                    getattr(core, name)(block, now)
        told = [self.core.sign(command, KEY) for command in self.core.drain_commands()]
        for core in others:
            again = [core.sign(command, KEY) for command in core.drain_commands()]
            assert len(again) == len(told)
        for message in told:
            _obey(self.fleet, message, now)
        self.commands += told


def _obey(fleet: SimulatedFleet, message: bytes, now: int) -> None:
    from aggregator.setpoints import decode

    decoded = decode(message, {1: KEY})
    fleet.apply(decoded.rows, decoded.valid_until_ns, now)


def differing(one: Aggregator, other: Aggregator) -> list[str]:
    """Names of all that is not the same, to the bit."""
    mine, its = state._columns(one), state._columns(other)
    assert mine.keys() == its.keys()
    unlike = [name for name in mine if mine[name].tobytes() != its[name].tobytes()]
    # Not by the table of what is kept: every number that the core and its baseline remember.
    for name, value in [*vars(one).items(), *vars(one._declared).items()]:
        its_value = vars(other).get(name, vars(other._declared).get(name))
        if isinstance(value, int | float) and name not in ("_seq", "_journal"):
            unlike += [name] if state._plain(value) != state._plain(its_value) else []
    values, others = state._plain(state._values(one)), state._plain(state._values(other))
    return unlike + [name for name in values if values[name] != others[name]]


def test_a_restored_core_is_its_twin_and_stays_it() -> None:
    world = World(Aggregator(settings()))
    for k in range(150):
        world.step(k)
    again = Aggregator(settings())
    state.restore(again, capture(world.core))
    assert differing(world.core, again) == []
    assert world.core.engine.fleet.moved_kwh.any()
    assert (world.core.engine.fleet.gain_dn != 1.0).any()
    for k in range(150, 450):
        world.step(k, again)
    assert differing(world.core, again) == []


def test_what_was_learned_is_in_it() -> None:
    """What a fresh owner would lack: all of this differs between a core that has lived and one that has not."""
    world = World(Aggregator(settings()))
    for k in range(150):
        world.step(k)
    lacking = set(differing(world.core, Aggregator(settings())))
    assert lacking >= {
        "fleet.energy_kwh", "fleet.moved_kwh", "fleet.gain_dn", "fleet.dead_s", "fleet.command_kw",
        "fleet.valid_until_ns", "fleet.session", "motion.fraction", "memory.hz", "vehicles", "last_vehicles", "told_ns",
        "room.tree.local_kw", "turned_ns", "declared", "sums", "core", "last",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[:5], "short"),
        (lambda data: b"XXXX" + data[4:], "magic"),
        (lambda data: data[:4] + b"\x09" + data[5:], "version"),
        (lambda data: data[:20] + b"\xff\xff" + data[22:], "head"),
        (lambda data: data[:-8], "short"),
    ],
)
def test_a_damaged_state_is_refused_by_name(damage: Any, reason: str) -> None:
    data = bytes(capture(Aggregator(settings())))
    with pytest.raises(StateError) as caught:
        state.restore(Aggregator(settings()), damage(data))
    assert caught.value.reason == reason


def test_the_state_of_another_fleet_is_refused() -> None:
    with pytest.raises(StateError, match="column: "):
        state.restore(Aggregator(settings(rows=N + 1)), capture(Aggregator(settings())))


# ---- through a store


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(maxmemory_mb=64) as running:
        yield running


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[redis.Redis]:
    with connect(server.url) as made:
        made.flushall()
        yield made


class Owner:
    """What a worker does with its journal and its snapshots."""

    def __init__(self, server: EmbeddedServer, client: redis.Redis, core: Aggregator) -> None:
        self.world = World(core)
        self.keeper = Keeper(server.url, "ce", "w1")
        self.writer = StreamWriter(client, "journal:ce:w1", core.settings.epoch)
        self.entries: list[journal.Entry] = []
        self.k = 0

    def live(self, until: int) -> None:
        while self.k < until:
            self.world.step(self.k)
            self.k += 1
            self.send()

    def send(self) -> None:
        entries = self.world.core.drain_entries()
        self.entries += entries
        self.writer.add(journal.pack(entries), self.note())

    def note(self) -> bytes:
        return orjson.dumps({"freq:ce:i1": f"1-{self.k}"})

    def keep(self) -> None:
        newest = f"{self.writer.epoch}-{self.writer.counter}"
        self.keeper.keep(self.world.core, newest, self.entries[-1].seq, self.note(), T0 + self.k * S // 5)
        self.keeper.close()


@pytest.fixture
def owner(server: EmbeddedServer, client: redis.Redis) -> Owner:
    owned = Owner(server, client, Aggregator(settings()))
    owned.live(100)
    owned.keep()
    return owned


def follow(client: redis.Redis, **changes: Any) -> Any:
    more = {"worker": "w1", "now_ns": T0 + 60 * S, "since": {}} | changes
    return restore(client, more.pop("settings", settings(epoch=9)), **more)


def test_a_new_owner_is_at_the_old_ones_last_call_to_the_bit(client: redis.Redis, owner: Owner) -> None:
    owner.live(170)
    found = follow(client)
    assert differing(owner.world.core, found.core) == []
    assert found.note == {"freq:ce:i1": "1-170"}
    assert found.calls > 70
    assert found.core.settings == settings(epoch=9, continues=(5, owner.entries[-1].seq))
    for k in range(170, 250):
        owner.world.step(k, found.core)
    assert differing(owner.world.core, found.core) == []


def test_a_snapshot_with_nothing_after_it_is_enough(client: redis.Redis, owner: Owner) -> None:
    found = follow(client)
    assert (found.calls, differing(owner.world.core, found.core)) == (0, [])
    assert found.note == {"freq:ce:i1": "1-100"}


def test_the_newer_of_two_snapshots_counts_and_a_third_takes_the_olders_place(
    client: redis.Redis, owner: Owner
) -> None:
    for _ in range(2):
        owner.live(owner.k + 20)
        owner.keep()
        assert follow(client).calls == 0
    assert owner.keeper.written == 3
    assert sorted(client.keys("snapshot:*")) == [b"snapshot:ce:w1", b"snapshot:ce:w1:0", b"snapshot:ce:w1:1"]


def test_the_journal_of_both_lives_replays_to_the_same_bytes(client: redis.Redis, owner: Owner) -> None:
    owner.live(130)
    found = follow(client)
    heir = Owner(_Here(client), client, found.core)  # type: ignore[arg-type]
    heir.world.fleet, heir.world.rng, heir.k = owner.world.fleet, owner.world.rng, 130
    found.core.on_renew(T0 + 130 * S // 5)
    heir.live(200)
    whole = [*owner.entries, *heir.entries]
    compared = replay(whole, {1: KEY})
    assert compared.same
    assert compared.commands == len(owner.world.commands) + len(heir.world.commands)
    # Without the first life there is nothing to go on from.
    with pytest.raises(ReplayError, match="goes on from epoch 5"):
        replay(heir.entries, {1: KEY})
    # A call that only the first life saw matters to the second: the state is handed on, not begun anew.
    anew = [entry._replace(payload=settings(epoch=9).to_json()) if entry.seq == 0 and entry in heir.entries else entry
            for entry in whole]  # fmt: skip
    assert not replay(anew, {1: KEY}).same


class _Here:
    """Where a client's server is."""

    def __init__(self, client: redis.Redis) -> None:
        self.url = "unix://" + client.connection_pool.connection_kwargs["path"]


def test_without_a_snapshot_there_is_nothing_to_go_on_from(client: redis.Redis) -> None:
    assert follow(client) is None


def head(client: redis.Redis, **changes: Any) -> None:
    """Change the head that lies in the store."""
    table = orjson.loads(client.get("snapshot:ce:w1"))
    client.set("snapshot:ce:w1", orjson.dumps(table | changes))


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (lambda client: client.set("snapshot:ce:w1", b"{"), "head"),
        (lambda client: head(client, seq="x"), "head"),
        (lambda client: head(client, note="{"), "head"),
        (lambda client: head(client, epoch=10), "age"),
        (lambda client: client.hdel("snapshot:ce:w1:1", "0"), "pieces"),
        (lambda client: client.hset("snapshot:ce:w1:1", "0", b"FBST and not the rest"), "digest"),
        (lambda client: client.xtrim("journal:ce:w1", 3), "journal"),
        (lambda client: client.delete("journal:ce:w1"), "journal"),
        (lambda client: client.xdel("journal:ce:w1", "5-110"), "journal"),
        (lambda client: client.xadd("journal:ce:w1", {b"b": b"no journal"}, id="5-121"), "journal"),
        (lambda client: client.xadd("journal:ce:w1", {b"b": journal.pack([journal.gap(1, 2, 3)])}, id="5-121"),
         "journal"),
    ],
)  # fmt: skip
def test_what_is_not_whole_is_refused_by_name(client: redis.Redis, owner: Owner, how: Any, reason: str) -> None:
    owner.live(120)
    how(client)
    with pytest.raises(SnapshotRefused) as caught:
        follow(client)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"settings": settings(epoch=9, stale_s=4.0)}, "settings"),
        ({"settings": settings(epoch=9, contracts=(Contract(load("ce_fcr"), 61.0),))}, "settings"),
        ({"now_ns": T0 + 2000 * S}, "age"),
        ({"since": {"journal:ce:w1": "5-100"}}, "run"),
    ],
)
def test_what_is_anothers_is_refused_by_name(
    client: redis.Redis, owner: Owner, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SnapshotRefused) as caught:
        follow(client, **changes)
    assert caught.value.reason == reason


def test_a_store_that_is_away_costs_a_snapshot_and_nothing_else(owner: Owner) -> None:
    lost = Keeper("unix:///nowhere/r.sock", "ce", "w1")
    lost.keep(owner.world.core, "5-100", owner.entries[-1].seq, owner.note(), T0)
    lost.close()
    assert (lost.written, lost.failed, lost.busy) == (0, 1, False)
    assert snapshots.key("ce", "w1") == "snapshot:ce:w1"


def test_the_memory_of_a_copy_is_used_again_and_holds_the_new_one() -> None:
    world = World(Aggregator(settings()))
    for k in range(20):
        world.step(k)
    first = capture(world.core)
    for k in range(20, 40):
        world.step(k)
    second = capture(world.core, first)
    again = Aggregator(settings())
    state.restore(again, second)
    assert differing(world.core, again) == []
    assert capture(Aggregator(settings(rows=N + 8)), second) is not second
