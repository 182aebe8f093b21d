"""Evidence beside the journal: sealed once, in order, whatever the process or the disk goes through."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aggregator import journal, settle
from aggregator.book import LATENCY_S
from aggregator.books import Books
from aggregator.contracts import Contract, CoreSettings
from aggregator.evidence_files import EvidenceDamaged, EvidenceFiles, evidence_files, read
from aggregator.evidence_keys import evidence_keys, next_key
from aggregator.journal import Entry, Kind
from aggregator.keys import KeyFault
from aggregator.process import logger
from aggregator.sealing import Sealer
from aggregator.sealing_late import seal_folder
from aggregator.setpoints import SETPOINT, encode
from aggregator.settle import SILENCE_S, SettleError, Settler, written
from aggregator.settling import _sealer as sealer_of
from aggregator.vehiclefiles import VehicleKeeper
from droop.products import load
from settlement.ledger import Key, LedgerError
from settlement.proofs import prove
from settlement.recompute import recompute
from settlement.verifier import RECORD, verify
from telemetry import wire
from telemetry.samples import VEHICLE
from tests.aggregator import evidence_victim as victim
from tests.aggregator.test_settle import NS, QUARTER, START_S, Worker, finals, live
from tests.settlement.sealed import body

ROOT = Path(__file__).resolve().parents[2]
KEYS = [Key(b"\x07" * 32)]
SHARE = np.dtype([("vehicle", "S24"), ("start_ns", "<i8"), ("end_ns", "<i8"), ("delivered_kwh", "<f8")])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No provisional statements and no waiting for the platter: neither is what is tested."""
    monkeypatch.setattr(settle, "PROVISIONAL_S", 1e6)
    monkeypatch.setattr(os, "fsync", lambda _: None)


def shares(start_ns, end_ns):
    rows = np.zeros(5, SHARE)
    rows["vehicle"] = [f"EV{n}" for n in range(5)]
    rows["start_ns"], rows["end_ns"], rows["delivered_kwh"] = start_ns, end_ns, np.arange(5)
    return rows


def opened(folder, told, keys=KEYS, vehicles=None):
    sealer = Sealer(EvidenceFiles(folder / "evidence", keys, "CE"), vehicles)
    return Settler(folder / "journal", told.append, sealer=sealer)


def run(settler, payloads, begin=0, every_s=60):
    for s, payload in enumerate(payloads, begin):
        settler.feed(*payload)
        if s % every_s == 0:
            settler.on_time((START_S + s) * NS + NS // 2)


@pytest.fixture(scope="module")
def payloads():
    worker = Worker()
    return [worker.second(s) for s in range(2 * QUARTER + 60)]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, payloads):
    """Two intervals, settled and sealed live."""
    folder, told = tmp_path_factory.mktemp("run"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settle, "PROVISIONAL_S", 1e6)
        settler = opened(folder, told, vehicles=shares)
        run(settler, payloads)
        settler.close()
    return folder, told, settler


def checked(folder, key=KEYS[0].public, recomputed=None):
    """Everything about a folder's evidence, found whole; its statements by key."""
    paths = evidence_files(folder / "evidence")
    found = verify(paths, key, running=True)
    assert found["ok"], found["problems"]
    records = [body(line) for line in read(paths) if RECORD.fullmatch(line)]
    stated = [r["data"]["statement"] for r in records if r["kind"] == "statement"]
    assert len({item["key"] for item in stated}) == len(stated)
    if recomputed is not None:
        again = recompute(read(paths))
        assert (again.statements, again.mismatches) == (recomputed, [])
    return found, {item["key"]: item for item in stated}


def test_what_is_final_is_sealed_and_can_be_computed_again(recorded):
    folder, told, settler = recorded
    found, stated = checked(folder, recomputed=2)
    assert stated == {key: json.loads(json.dumps(item.to_dict())) for key, item in finals(told).items()}
    assert found["area"] == "CE"
    assert found["origin"] == "live"
    assert found["leaves"] == 10
    assert found["closed"]
    assert settler.sealer.files.head == found["head"]
    assert (settler.sealer.sealed, settler.sealer.waiting, settler.sealer.refused) == (2, 0, 0)


def test_a_vehicles_share_can_be_proven(recorded, tmp_path):
    folder, _, _ = recorded
    path = tmp_path / "proof.json"
    document = prove(read(evidence_files(folder / "evidence")), "EV3")
    path.write_text(json.dumps(document, separators=(",", ":")))
    found = verify([path], KEYS[0].public)
    assert found["ok"]
    assert [row["delivered_kwh"] for row in found["rows"]] == [3.0, 3.0]


def test_no_statement_is_sealed_that_is_not_on_disk(recorded, tmp_path, payloads, monkeypatch):
    seen = []
    real = EvidenceFiles.append

    def append(self, *args):
        seen.append(len(written(tmp_path / "journal")))
        return real(self, *args)

    monkeypatch.setattr(EvidenceFiles, "append", append)
    settler = opened(tmp_path, [])
    run(settler, payloads)
    assert seen == [1, 2]


@pytest.mark.parametrize(
    ("stop", "clean"),
    [(300, False), (QUARTER + LATENCY_S + 1, True), (QUARTER + 400, False), (2 * QUARTER + 30, False)],
)
def test_a_restart_seals_nothing_twice_and_leaves_nothing_out(recorded, tmp_path, payloads, stop, clean):
    told = []
    first = opened(tmp_path, told)
    run(first, payloads[:stop])
    if clean:
        first.close()
    second = opened(tmp_path, told)
    resume = second.resume_id()
    at = 0 if resume is None else [stream_id for stream_id, _ in payloads].index(resume) + 1
    run(second, payloads[at:], at)
    second.close()
    _, stated = checked(tmp_path, recomputed=2)
    assert stated.keys() == finals(recorded[1]).keys()


def test_what_was_final_before_it_could_be_sealed_is_sealed_by_the_next_life(tmp_path, payloads, monkeypatch):
    """Killed between the statement and its evidence."""
    told = []
    with monkeypatch.context() as patch:
        patch.setattr(Sealer, "flush", lambda *_: None)
        first = opened(tmp_path, told)
        run(first, payloads)
        first.close()
    assert len(finals(told)) == 2
    assert evidence_files(tmp_path / "evidence") == []
    second = opened(tmp_path, told)
    second.close()
    checked(tmp_path, recomputed=2)


def test_a_disk_that_does_not_take_it_is_waited_for(tmp_path, payloads, monkeypatch):
    """ENOSPC in the middle of a batch: nothing half is left, nobody is told, and it is written once there is room."""
    real, told = os.write, []
    room = [9_000]

    def write(handle, data):
        if room[0] < len(data):
            taken = real(handle, data[: room[0]]) if room[0] else 0
            room[0] = 0
            if taken:
                return taken
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data)

    settler = opened(tmp_path, told)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        run(settler, payloads[: QUARTER + 30])
        assert settler.stalled is not None
        assert "No space" in settler.stalled.why
        assert settler.sealer.waiting == 1
    assert [path.stat().st_size for path in evidence_files(tmp_path / "evidence")] in ([], [0])
    run(settler, payloads[QUARTER + 30 :], QUARTER + 30, every_s=10)
    assert settler.stalled is None
    checked(tmp_path, recomputed=2)


def test_rows_that_cannot_be_sealed_stop_no_statement(tmp_path, payloads):
    told = []
    settler = opened(tmp_path, told, vehicles=lambda *_: np.zeros(1, [("slot", "<u4")]))
    run(settler, payloads[: QUARTER + 30])
    assert len(finals(told)) == 1
    assert settler.sealer.refused == 1
    assert "`vehicle` is missing" in settler.sealer.why


def test_who_was_seen_to_obey():
    """Obeyed and said so twice, near enough, not, told another session, told too long ago, never told."""
    sealer = Sealer(Nowhere())
    now_ns = START_S * NS
    for until_ns, slots in ((now_ns + 6 * NS, [0, 1, 2, 3]), (now_ns - NS, [4])):
        rows = np.zeros(len(slots), SETPOINT)
        rows["slot"], rows["session"], rows["setpoint_kw"] = slots, 1, 10.0
        message = encode(
            rows, b"k" * 32, key_id=1, epoch=1, sequence=1, t_ns=now_ns, issued_ns=now_ns, valid_until_ns=until_ns
        )
        sealer.feed(Entry(Kind.COMMANDS, 0, 0, now_ns, message))
    reports = np.zeros(7, VEHICLE)
    reports["t_ns"] = now_ns
    reports["slot"], reports["session"] = [0, 1, 2, 3, 4, 5, 0], [1, 1, 1, 2, 1, 1, 1]
    reports["power_kw"] = [10.0, 10.59, 10.61, 10.0, 10.0, 0.0, 10.0]
    sealer.feed(Entry(Kind.VEHICLES, 0, 1, now_ns, wire.encode(reports)))
    quality, _, reported, acknowledged = sealer._seconds[START_S]
    assert (quality, reported, acknowledged) == (0, 6, 2)
    for kind in (Kind.COMMANDS, Kind.VEHICLES, Kind.SAMPLES, Kind.TICKS):
        sealer.feed(Entry(kind, 0, 2, now_ns, b"x"))
    assert sealer.unreadable == 4


class Nowhere:
    """No file."""

    sealed: dict = {}  # noqa: RUF012 - never written
    public = ""

    def append(self, *_):
        raise AssertionError


# ---- files -------------------------------------------------------------------------------------------------------


def test_killed_at_any_byte_the_chain_goes_on(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.aggregator.evidence_victim", str(tmp_path), "80", "4"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["killed"] >= 30
    assert told["ledgers"] >= 3
    for number in range(told["ledgers"]):
        paths = evidence_files(tmp_path / str(number))
        found = verify(paths, victim.KEYS[0].public)
        assert found["ok"], found["problems"]
        assert len(paths) >= 3
        keys = [body(line)["data"]["key"] for line in read(paths) if b'"kind":"statement"' in line]
        assert keys == [victim.keys_of(k) for k in range(victim.BATCHES)]


def test_torn_at_any_byte_it_goes_on_before_the_tear(tmp_path):
    """Every length of a file of two batches: what is signed stays, the rest is cut and sealed again."""
    whole = tmp_path / "whole"
    files = EvidenceFiles(whole, KEYS, "ce")
    files.append(victim.day(0), victim.fill(0), NS)
    (path,) = evidence_files(whole)
    first = path.stat().st_size
    files.append(victim.day(1), victim.fill(1), NS)
    data = path.read_bytes()
    assert evidence_files(whole) == [path]
    sizes = [0, 1, 100, first - 1, first, first + 1, len(data) - 1, len(data)]
    for size in sorted({*sizes, *np.random.default_rng(2).integers(0, len(data), 60).tolist()}):
        folder = tmp_path / str(size)
        folder.mkdir()
        (folder / path.name).write_bytes(data[:size])
        again = EvidenceFiles(folder, KEYS, "ce")
        assert again.cut_bytes == size - (len(data) if size == len(data) else first if size >= first else 0)
        assert [p.stat().st_size for p in evidence_files(folder)] == ([size - again.cut_bytes] if size >= first else [])
        assert len(again.sealed) == (2 if size == len(data) else size >= first)
        for k in range(2):
            if victim.keys_of(k) not in again.sealed:
                again.append(victim.day(k), victim.fill(k), NS)
        assert verify(evidence_files(folder), KEYS[0].public, running=True)["ok"]


def test_what_an_attempt_left_is_gone_after_the_next(tmp_path, monkeypatch):
    """Refused in the middle of a long batch, and not even cut back; a shorter one takes its place."""
    files = EvidenceFiles(tmp_path, KEYS, "ce")
    files.append(victim.day(0), victim.fill(0), NS)
    real_write, real_cut, calls = os.write, os.ftruncate, []

    def cut(handle, size):
        calls.append(size)
        if len(calls) % 2 == 0:
            raise OSError(errno.EIO, "Input/output error")
        real_cut(handle, size)

    def write(handle, data):
        if len(data) > 1000:
            return real_write(handle, data[:-1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        patch.setattr(os, "ftruncate", cut)
        with pytest.raises(OSError, match="No space"):
            files.append(victim.day(0), victim.fill(2), NS)
    (path,) = evidence_files(tmp_path)
    left = path.stat().st_size
    files.append(victim.day(0), lambda ledger, contract: (ledger.head(NS) and {}, contract), NS)
    assert path.stat().st_size < left
    assert verify([path], running=True)["ok"]


def test_an_interval_that_waits_twice_is_sealed_once(tmp_path, payloads):
    seen = []
    books = Books(closed=seen.append)
    for _, payload in payloads[: QUARTER + 30]:
        for entry in journal.unpack(payload):
            books.feed(entry)
    sealer = Sealer(EvidenceFiles(tmp_path, KEYS, "CE"))
    sealer.close(seen[0])
    sealer.close(seen[0])
    assert sealer.waiting == 2
    sealer.flush(NS)
    assert (sealer.sealed, sealer.waiting) == (1, 0)
    sealer.close(seen[0])
    assert sealer.waiting == 0
    assert verify(evidence_files(tmp_path), running=True)["ok"]


def test_damage_is_not_taken_for_a_crash(tmp_path):
    """A line that is whole and wrong is not cut off: the file is left as it is, and refused by name."""
    files = EvidenceFiles(tmp_path, KEYS, "ce")
    files.append(victim.day(0), victim.fill(0), NS)
    (path,) = evidence_files(tmp_path)
    data = path.read_bytes()
    ends = [k for k, byte in enumerate(data) if byte == 10]
    rng = np.random.default_rng(6)
    for place in rng.integers(0, len(data) - 1, 80).tolist():
        line = data[data.rfind(b"\n", 0, place) + 1 :]
        if place in ends or line.startswith(b'{"leaf"'):
            continue  # leaves are passed over here; `verify` reads them
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        with pytest.raises(EvidenceDamaged, match=f"line {sum(end < place for end in ends) + 1} "):
            EvidenceFiles(tmp_path, KEYS, "ce")
        assert path.read_bytes() == flipped
    path.write_bytes(data)
    EvidenceFiles(tmp_path, KEYS, "ce")
    whole = data.splitlines(keepends=True)
    path.write_bytes(b"".join([*whole[:2], *whole[3:]]))
    with pytest.raises(EvidenceDamaged, match="line 3 does not follow"):
        EvidenceFiles(tmp_path, KEYS, "ce")
    path.write_bytes(b"".join(whole[1:]))
    with pytest.raises(EvidenceDamaged, match="line 1 is no `open`"):
        EvidenceFiles(tmp_path, KEYS, "ce")


def test_a_day_is_a_file_and_each_says_what_is_sold(tmp_path):
    files = EvidenceFiles(tmp_path, KEYS, "ce")
    for k in range(6):
        files.append(victim.day(k), victim.fill(k), NS)
    paths = evidence_files(tmp_path)
    assert [path.name[:10] for path in paths] == ["2023-11-14", "2023-11-15"]
    assert verify(paths, KEYS[0].public, running=True)["ok"]
    assert verify(paths[:1], KEYS[0].public)["ok"]  # closed, and whole by itself
    assert verify(paths[1:], KEYS[0].public, running=True)["ok"]
    assert not verify(paths[::-1], KEYS[0].public, running=True)["ok"]
    # An interval of the day before that is closed late stays with the day that runs.
    again = EvidenceFiles(tmp_path, KEYS, "ce")
    again.append("2023-11-14", victim.fill(6), NS)
    assert evidence_files(tmp_path) == paths
    assert verify(paths, KEYS[0].public, running=True)["ok"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in paths)


def test_a_torn_file_with_another_after_it_is_damage(tmp_path):
    files = EvidenceFiles(tmp_path, KEYS, "ce")
    for k in (0, 3):
        files.append(victim.day(k), victim.fill(k), NS)
    first, _ = evidence_files(tmp_path)
    first.write_bytes(first.read_bytes()[:-5])
    with pytest.raises(EvidenceDamaged, match="bytes after its last head"):
        EvidenceFiles(tmp_path, KEYS, "ce")


# ---- keys --------------------------------------------------------------------------------------------------------


def test_the_key_is_private_made_once_and_followed_by_the_next(tmp_path):
    (key,) = evidence_keys(tmp_path / "keys")
    path = tmp_path / "keys" / "evidence-1.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys" / "evidence-1.pub").read_text() == key.public + "\n"
    assert [again.public for again in evidence_keys(tmp_path / "keys")] == [key.public]
    files = EvidenceFiles(tmp_path / "e", evidence_keys(tmp_path / "keys"), "ce")
    files.append(victim.day(0), victim.fill(0), NS)
    new = next_key(tmp_path / "keys")
    assert new.public != key.public
    files = EvidenceFiles(tmp_path / "e", evidence_keys(tmp_path / "keys"), "ce")
    files.append(victim.day(1), victim.fill(1), NS)
    files.close(NS)
    assert files.public == new.public
    paths = evidence_files(tmp_path / "e")
    assert verify(paths, key.public)["ok"]  # the old one vouched for the new one
    assert verify(paths)["key"] == new.public
    assert not verify(paths, KEYS[0].public)["ok"]
    with pytest.raises(LedgerError, match="not among the keys"):
        EvidenceFiles(tmp_path / "e", KEYS, "ce").append(victim.day(2), victim.fill(2), NS)
    path.chmod(0o644)
    with pytest.raises(KeyFault, match="can be read by others"):
        evidence_keys(tmp_path / "keys")
    path.chmod(0o600)
    (tmp_path / "keys" / "evidence-x.key").touch()
    with pytest.raises(KeyFault, match="takes a number"):
        evidence_keys(tmp_path / "keys")


def test_settlement_goes_on_without_evidence_that_cannot_be_gone_on_with(tmp_path, capfd):
    journal_folder, log = tmp_path / "journal", logger("settle")
    assert sealer_of("ce", journal_folder, None, log) is None
    assert sealer_of("ce", journal_folder, tmp_path / "keys", log) is not None
    (tmp_path / "evidence" / "2023-11-14-0000000000.jsonl").write_bytes(b"no evidence\n")
    assert sealer_of("ce", journal_folder, tmp_path / "keys", log) is None
    assert "line 1 was changed" in capfd.readouterr().err


# ---- after the fact ----------------------------------------------------------------------------------------------


def test_a_recorded_run_is_sealed_after_the_fact_and_says_so(recorded, tmp_path):
    folder, _, _ = recorded
    out = tmp_path / "late.jsonl"
    said = seal_folder(folder, out, (START_S + 90_000) * NS)
    assert (said["intervals"], said["statements"], said["refused"]) == (2, 2, 0)
    found = verify([out], said["key"])
    assert found["ok"], found["problems"]
    assert (found["origin"], found["closed"], found["area"]) == ("journal", True, "CE")
    with out.open("rb") as lines:
        again = recompute(lines)
    assert (again.statements, again.mismatches) == (2, [])
    assert [path.name for path in tmp_path.iterdir()] == ["late.jsonl"]


def test_sealed_late_it_holds_what_was_sealed_live(recorded, tmp_path):
    folder, _, _ = recorded
    seal_folder(folder, tmp_path / "late.jsonl", (START_S + 90_000) * NS, vehicles=shares)

    def told(lines):
        records = [body(line) for line in lines if RECORD.fullmatch(line)]
        kept = ("contract", "statement", "pool", "facts")
        return [record["data"] for record in records if record["kind"] in kept]

    with (tmp_path / "late.jsonl").open("rb") as late:
        assert told(late) == told(read(evidence_files(folder / "evidence")))


def test_sealed_late_the_vehicles_rows_come_from_the_journal_itself(recorded, tmp_path, monkeypatch):
    folder, _, _ = recorded
    fed = []

    class Keeper(VehicleKeeper):
        def feed(self, entry):
            fed.append(entry.kind)
            super().feed(entry)

        def rows(self, start_ns, end_ns):
            return shares(start_ns, end_ns)

    monkeypatch.setattr("aggregator.sealing_late.VehicleKeeper", Keeper)
    said = seal_folder(folder, tmp_path / "late.jsonl", (START_S + 90_000) * NS)
    found = verify([tmp_path / "late.jsonl"], said["key"])
    assert (found["ok"], found["leaves"]) == (True, 2 * shares(0, 1).size)
    assert {Kind.START, Kind.TICKS} <= set(fed)
    assert not (folder / "journal" / "accounts").exists()


def test_a_run_without_an_interval_has_nothing_to_seal_and_leaves_no_file(tmp_path, payloads):
    settler = Settler(tmp_path / "journal", lambda _: None)
    run(settler, payloads[:100])
    settler.close()
    with pytest.raises(SettleError, match="no interval of it is over"):
        seal_folder(tmp_path, tmp_path / "out.jsonl", START_S * NS)
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]
    settler = Settler(tmp_path / "other" / "journal", lambda _: None)
    settler.feed("7-1", journal.pack([Entry(Kind.START, 0, 0, 0, b"{}"), Entry(Kind.TIME, 0, 1, START_S * NS, b"")]))
    settler.close()
    with pytest.raises(SettleError, match="START settings cannot be read"):
        seal_folder(tmp_path / "other", tmp_path / "out.jsonl", START_S * NS)


def test_what_was_final_once_its_sequel_had_come_is_sealed_after_the_fact_too(tmp_path):
    """A score that awaits an answer is closed by a later time: the last interval of such a run is in the evidence."""
    folder, told = tmp_path / "journal", []
    product = dataclasses.replace(load("nem_r6"), id="mine")
    worker = Worker(own=CoreSettings("AU", 4, (Contract(product, 1000.0),)))
    settler = live(folder, worker, range(301), told, until_s=300 + 60 + LATENCY_S + SILENCE_S)
    settler.close()
    stated = [item.key for item in written(folder)]
    assert stated
    said = seal_folder(tmp_path, tmp_path / "late.jsonl", (START_S + 90_000) * NS)
    assert (said["statements"], said["refused"]) == (len(stated), 0)


def test_a_ledger_of_another_key_stops_the_evidence_and_not_the_statements(tmp_path):
    folder, told = tmp_path / "journal", []
    EvidenceFiles(tmp_path / "evidence", KEYS, "CE").append("2023-11-14", lambda ledger, _: ({}, [ledger.head(1)]), 1)
    sealer = Sealer(EvidenceFiles(tmp_path / "evidence", [Key(b"\x09" * 32)], "CE"))
    settler = Settler(folder, told.append, sealer=sealer)
    worker = Worker()
    for s in range(0, QUARTER + 20, 10):
        settler.feed(*worker.second(s))
    settler.close()
    assert len(finals(told)) == len(written(folder)) == 1
    assert (sealer.refused, sealer.sealed, sealer.waiting) == (1, 0, 0)
    assert "not among the keys" in sealer.why
