"""Settlement from the journal: live, after a restart and from the files alone it must be the same."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import redis

from aggregator import journal, journal_reader, settle, settling
from aggregator.book import LATENCY_S
from aggregator.contracts import Contract, CoreSettings
from aggregator.growing import ROWS_MAX, Rows
from aggregator.journal import Entry, JournalError, Kind
from aggregator.records import DECLARATION, TICK
from aggregator.settle import SILENCE_S, SettleError, Settler, settle_folder, verify_folder, written
from droop.products import load
from droop.reasons import Reason
from settlement.interval import LEAD_S
from settlement.statement import StatementError, VerifyError
from telemetry import wire
from telemetry.samples import FREQUENCY, POWER, SESSION, SIGNAL, VEHICLE, Quality

NS = 1_000_000_000
QUARTER = 900
START_S = 1_700_000_100  # on a quarter of an hour
BASELINE_KW = -800.0


def settings(*contracts):
    sold = contracts or (("ce_fcr", 1000.0),)
    return CoreSettings("CE", 4, tuple(Contract(load(name), kw) for name, kw in sold))


class Worker:
    """Writes what a worker would: one stream payload a second, perfect delivery."""

    def __init__(self, epoch=7, own=None):
        self.epoch, self.counter, self.seq = epoch, itertools.count(1), itertools.count()
        self.head = [(Kind.START, 0, (own or settings()).to_json())]
        self.declared_until_s = 0

    def second(self, s, *, hz=None, quality=0, meter=True):
        """Payload of the second [s, s + 1); its calls come half a second later."""
        now_ns = (START_S + s) * NS + NS // 2
        rng = np.random.default_rng(s + 100_000)
        hz = 50.0 + 0.03 * np.sin(s / 40) + 0.005 * rng.standard_normal() if hz is None else hz
        dev = hz - 50.0
        calls = self.head + [(kind, now_ns, data) for kind, data in self._rows(s, now_ns, hz, dev, quality, meter)]
        self.head = []
        entries = [Entry(kind, 0, next(self.seq), at_ns, data) for kind, at_ns, data in calls]
        return f"{self.epoch}-{next(self.counter)}", journal.pack(entries)

    def _rows(self, s, now_ns, hz, dev, quality, meter):
        t_ns = (START_S + s) * NS
        if s >= self.declared_until_s:
            row = np.zeros(1, DECLARATION)
            end = (s // QUARTER + 1) * QUARTER
            late = not self.declared_until_s
            row["declared_ns"] = t_ns if late else t_ns - 60 * NS
            row["start_ns"], row["end_ns"] = (START_S + end - QUARTER) * NS, (START_S + end) * NS
            row["power_kw"], row["flags"] = BASELINE_KW, late
            self.declared_until_s = end
            yield Kind.BASELINE, row.tobytes()
            session = np.zeros(1, SESSION)
            session["t_ns"], session["session"], session["state"] = t_ns, 1, 1
            session["capacity_kwh"], session["soh_frac"], session["soc_frac"] = 1e6, 1, 0.5
            session["eta_charge_frac"] = session["eta_discharge_frac"] = 1
            if late:
                yield Kind.SESSIONS, wire.encode(session)
        sample = np.zeros(1, FREQUENCY)
        sample["t_ns"], sample["hz"], sample["quality"] = t_ns, hz, quality
        yield Kind.SAMPLES, wire.encode(sample)
        net_kw = -dev / 0.2 * 1000.0 if abs(dev) >= 0.01 and not quality else 0.0
        power = np.zeros(1, POWER)
        power["t_ns"], power["power_kw"] = t_ns, BASELINE_KW + net_kw
        if meter:
            yield Kind.METERS, wire.encode(power)
        report = np.zeros(1, VEHICLE)
        report["t_ns"], report["session"], report["power_kw"] = t_ns, 1, BASELINE_KW + net_kw
        report["soc_frac"], report["state"] = 0.5 + 1e-7 * s, 1
        yield Kind.VEHICLES, wire.encode(report)
        row = np.zeros(1, TICK)
        row["t_ns"], row["now_ns"], row["hz"] = t_ns, now_ns, hz
        row["unserved_by_reason"][0, Reason.SOC] = 3.6
        yield Kind.TICKS, row.tobytes()


def finals(statements):
    return {s.key: s for s in statements if s.final}


def live(folder, worker, seconds, told, until_s=None, every_s=5):
    settler = Settler(folder, told.append)
    for s in seconds:
        settler.feed(*worker.second(s))
        if s % every_s == 0:
            settler.on_time((START_S + s) * NS + NS // 2)
    if until_s is not None:
        settler.on_time((START_S + until_s - SILENCE_S) * NS)
        settler.on_time((START_S + until_s) * NS)
    return settler


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Two whole intervals and a bit, settled live."""
    folder, told = tmp_path_factory.mktemp("journal"), []
    settler = live(folder, Worker(), range(2 * QUARTER + 60), told)
    settler.close()
    return folder, told


def test_live_tells_provisional_then_final_once(recorded):
    _, told = recorded
    done = [s for s in told if s.final]
    assert [s.start_ns for s in done] == [START_S * NS, (START_S + QUARTER) * NS]
    first = [s for s in told if s.start_ns == START_S * NS]
    assert first.index(done[0]) == len(first) - 1
    assert len(first) > QUARTER / 5 - 5
    untils = [s.until_ns for s in first]
    assert untils == sorted(untils)
    last = told[-1]
    assert not last.final
    assert last.until_ns == (START_S + 2 * QUARTER + 59) * NS + NS // 2  # closing tells all there is


def test_the_figures(recorded):
    found = [s for s in recorded[1] if s.final][1]
    assert found.score == pytest.approx(1.0, abs=1e-9)
    assert found.coverage_frac == 1.0
    assert found.baseline.mean_kw == pytest.approx(BASELINE_KW)
    assert not found.baseline.late
    assert found.samples.count == QUARTER + LEAD_S
    assert found.unserved_kwh == pytest.approx({"soc": 0.9})
    assert found.energy_balance.grid_kwh == pytest.approx(found.energy_balance.reported_kwh, rel=1e-3)
    assert found.energy_balance.stored_kwh == pytest.approx(90.0, rel=1e-4)


def test_the_files_alone_give_the_same_finals(recorded):
    folder, told = recorded
    assert finals(settle_folder(folder)) == finals(told)
    assert finals(written(folder)) == finals(told)
    assert verify_folder(folder) == 2


@pytest.mark.parametrize("stop", [300, QUARTER + 2, QUARTER + LATENCY_S + 1, 2 * QUARTER + 4])
@pytest.mark.parametrize("clean", [True, False], ids=["closed", "killed"])
def test_a_restart_changes_nothing(recorded, tmp_path, stop, clean):
    """Stopped anywhere, flushed or not, the stream is read again from `resume_id` and the finals are the same."""
    worker, told = Worker(), []
    payloads = [worker.second(s) for s in range(2 * QUARTER + 60)]
    first = Settler(tmp_path, told.append)
    for s, payload in enumerate(payloads[:stop]):
        first.feed(*payload)
        if s % 60 == 0:
            first.on_time((START_S + s) * NS + NS // 2)
    if clean:
        first.close()
    again = []
    second = Settler(tmp_path, again.append)
    resume = second.resume_id()
    at = 0 if resume is None else [stream_id for stream_id, _ in payloads].index(resume) + 1
    assert at <= stop
    for s, payload in enumerate(payloads[at:], at):
        second.feed(*payload)
        if s % 60 == 0:
            second.on_time((START_S + s) * NS + NS // 2)
    second.close()
    assert finals(told + again) == finals(recorded[1])
    assert finals(again) == finals(recorded[1])  # what was final before is told again
    keys = [s.key for s in again if s.final]
    assert len(keys) == len(set(keys))
    assert second.writer.gaps == 0
    assert finals(settle_folder(tmp_path)) == finals(recorded[1])


def test_a_final_statement_rests_on_files(tmp_path):
    """Whoever is told a final can read its rows, and itself, from disk at that moment."""
    on_disk = []

    def tell(item):
        if item.final:
            last_ns = max(entry.now_ns for entry in journal_reader.entries(tmp_path))
            on_disk.append((last_ns > item.end_ns, item in written(tmp_path)))

    settler = Settler(tmp_path, tell)
    worker = Worker()
    for s in range(QUARTER + 10):
        settler.feed(*worker.second(s))
    assert on_disk == [(True, True)]


def test_rows_of_after_the_close_do_not_reopen_it(tmp_path):
    """A meter row that comes after its interval is closed is in the files and in no statement, live and again."""
    worker, told = Worker(), []
    settler = live(tmp_path, worker, range(QUARTER + LATENCY_S + 2), told)
    late = np.zeros(1, POWER)
    late["t_ns"], late["power_kw"] = (START_S + 100) * NS + 1, 1e6
    now_ns = (START_S + QUARTER + 20) * NS
    settler.feed("7-5000", journal.pack([Entry(Kind.METERS, 0, next(worker.seq), now_ns, wire.encode(late))]))
    settler.close()
    assert finals(settle_folder(tmp_path)) == finals(told)


def test_a_silent_journal_is_closed_by_time(tmp_path):
    told = []
    settler = live(tmp_path, Worker(), range(600), told, until_s=QUARTER + LATENCY_S + 1)
    settler.close()
    (found,) = finals(told).values()
    assert found.partial
    assert found.coverage["frequency"] == pytest.approx(602 / QUARTER)  # held for three periods
    now_ns = (START_S + QUARTER + LATENCY_S + 1) * NS
    assert finals(settle_folder(tmp_path, now_ns)) == finals(told)
    assert finals(settle_folder(tmp_path)) == {}


def test_a_late_reader_closes_nothing_before_it_has_read_it(tmp_path, recorded):
    """Hours behind after a restart, or the store away for a moment: the clock must not run ahead of the stream."""
    worker, told = Worker(), []
    settler = Settler(tmp_path, told.append)
    much_later_ns = (START_S + 10 * QUARTER) * NS
    for s in range(2 * QUARTER + 60):
        settler.feed(*worker.second(s))
        if s % 50 == 0:
            settler.on_time(much_later_ns + s * NS)
            settler.on_time(much_later_ns + (s + 30) * NS)
    settler.close()
    assert finals(told) == finals(recorded[1])


def test_every_interval_of_a_crash_is_settled(tmp_path):
    """The worker is away for more than an interval: what was sold then is not forgotten."""
    told = []
    settler = live(tmp_path, Worker(), range(600), told, every_s=60)
    again = Worker(epoch=8, own=settings(("ce_fcr", 500.0)))
    for s in range(2 * QUARTER + 300, 3 * QUARTER + 10):
        settler.feed(*again.second(s))
    settler.close()
    done = sorted(finals(told).values(), key=lambda s: s.start_ns)
    assert [(s.start_ns // NS - START_S) // QUARTER for s in done] == [0, 1, 2]
    # What ran before is closed under its own contract, which also held for the first minutes of the last.
    assert [s.sold_kw for s in done] == [1000.0, 1000.0, 1000.0]
    assert done[1].coverage_frac == 0.0
    assert done[2].baseline.late
    assert done[2].baseline.refused == 0
    assert done[2].coverage["baseline"] == pytest.approx(600 / QUARTER)  # from its declaration on
    assert any("restarted" in note for note in done[2].notes)
    assert finals(settle_folder(tmp_path)) == finals(told)


def test_a_worker_restarted_within_the_interval_may_declare_late_again(tmp_path):
    told = []
    settler = live(tmp_path, Worker(), range(300), told, every_s=60)
    again = Worker(epoch=8)
    for s in range(400, QUARTER + 10):
        settler.feed(*again.second(s))
    settler.close()
    (found,) = finals(told).values()
    assert (found.baseline.rows, found.baseline.refused, found.baseline.late) == (2, 0, True)
    assert found.coverage["baseline"] == 1.0
    assert finals(settle_folder(tmp_path)) == finals(told)


def test_a_restart_remembers_vehicles_plugged_in_hours_ago(tmp_path):
    """Old hours are not read again in full, but who is plugged in and what is sold is in them."""
    begin = 4 * 3600
    told, again, whole = [], [], []
    for folder, stop in (("restarted", begin + 300), ("whole", None)):
        worker = Worker()
        worker_seconds = [*range(5), *range(begin, begin + QUARTER + 10)]
        settler = Settler(tmp_path / folder, (whole if stop is None else told).append)
        for s in worker_seconds:
            if s == stop:
                settler.close()
                settler = Settler(tmp_path / folder, again.append)
            settler.feed(*worker.second(s))
        settler.close()
    assert finals(again) == finals(whole)
    assert max(finals(again).values(), key=lambda s: s.start_ns).energy_balance.stored_kwh is not None


def test_a_set_point_that_the_core_refuses_is_no_set_point(tmp_path):
    own = CoreSettings("CE", 4, settings().contracts, signal_max_kw=100.0)
    worker, told = Worker(own=own), []
    settler = live(tmp_path, worker, range(10), told, every_s=60)
    signal = np.zeros(2, SIGNAL)
    signal["t_ns"], signal["valid_until_ns"] = (START_S + 10) * NS, (START_S + QUARTER) * NS
    signal["power_kw"], signal["quality"] = [300.0, 50.0], [0, 1]
    entry = Entry(Kind.SIGNAL, 0, next(worker.seq), (START_S + 10) * NS, wire.encode(signal))
    settler.feed(f"7-{next(worker.counter)}", journal.pack([entry]))
    for s in range(10, QUARTER + 10):
        settler.feed(*worker.second(s))
    (found,) = finals(told).values()
    assert found.signal.count == 0
    assert found.score == pytest.approx(1.0, abs=1e-9)


def test_vehicles_that_wait_before_the_service_open_no_interval(tmp_path):
    worker, told = Worker(), []
    settler = Settler(tmp_path, told.append)
    _, payload = worker.second(0)
    start, *calls = journal.unpack(payload)
    early = [e._replace(seq=1, now_ns=(START_S - 100) * NS) for e in calls if e.kind is Kind.SESSIONS]
    settler.feed("7-1", journal.pack([start, *early]))
    settler.feed("7-2", journal.pack([e._replace(seq=k) for k, e in enumerate(calls, 2)]))
    settler.close()
    assert {s.start_ns for s in told} == {START_S * NS}


def test_a_jump_of_days_does_not_settle_every_quarter(tmp_path):
    told = []
    settler = live(tmp_path, Worker(), range(60), told)
    again = Worker(epoch=8)
    for s in range(30 * 86_400, 30 * 86_400 + QUARTER + 10):
        settler.feed(*again.second(s))
    settler.close()
    assert len(finals(told)) == 2
    last = max(finals(told).values(), key=lambda s: s.start_ns)
    assert last.start_ns == (START_S + 30 * 86_400) * NS
    assert any("nothing was recorded after" in note for note in last.notes)


def test_intervals_of_different_length_are_settled_side_by_side(tmp_path):
    told = []
    both = settings(("ce_fcr", 1000.0), ("gb_dc_low", 200.0))
    settler = live(tmp_path, Worker(own=both), range(-QUARTER, QUARTER + 20), told, every_s=60)
    settler.close()
    done = finals(told).values()
    lengths = {(s.product, (s.end_ns - s.start_ns) // NS) for s in done}
    assert lengths == {("ce_fcr", 900), ("gb_dc_low", 1800)}
    assert all(s.stack == {"ce_fcr": 1000.0, "gb_dc_low": 200.0} for s in done)


def test_bad_rows_are_counted_and_noted(tmp_path):
    worker, told = Worker(), []
    settler = Settler(tmp_path, told.append)
    for s in range(QUARTER + 10):
        settler.feed(*worker.second(s, hz=10.0 if s == 50 else None, quality=Quality.RANGE if s == 50 else 0))
    settler.feed("7-99999", b"\xff no journal")
    settler.close()
    assert settler.malformed == 1
    (found,) = finals(told).values()
    assert found.coverage["frequency"] == pytest.approx(899 / 900)


def test_rows_out_of_order_neither_cover_nor_interrupt(tmp_path):
    worker, told = Worker(), []
    settler = Settler(tmp_path, told.append)
    for s in range(QUARTER + 10):
        settler.feed(*worker.second(s))
        stray = np.zeros(1, FREQUENCY)
        stray["t_ns"], stray["hz"], stray["quality"] = (START_S + s) * NS + 1, 47.0, Quality.ORDER
        now_ns = (START_S + s) * NS + NS // 2
        entry = Entry(Kind.SAMPLES, 0, next(worker.seq), now_ns, wire.encode(stray))
        settler.feed(f"7-{next(worker.counter)}", journal.pack([entry]))
    (found,) = finals(told).values()
    assert found.coverage["frequency"] == 1.0
    assert found.score == pytest.approx(1.0, abs=1e-9)


def test_an_unreadable_start_is_named(tmp_path):
    settler = Settler(tmp_path, lambda _: None)
    settler.feed("7-1", journal.pack([Entry(Kind.START, 0, 0, 0, b"{}"), Entry(Kind.TIME, 0, 1, START_S * NS, b"")]))
    settler.close()
    with pytest.raises(SettleError, match="START settings cannot be read"):
        settle_folder(tmp_path)


def test_a_forged_statement_is_found(recorded, tmp_path):
    folder, _ = recorded
    copy = tmp_path / "copy"
    for path in folder.rglob("*"):
        if path.is_file():
            target = copy / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    path = sorted((copy / settle.FOLDER).glob("*.json"))[0]
    text = path.read_text()
    found = written(copy)[0]
    path.write_text(text.replace(f'"score": {found.score!r}', '"score": 0.5'))
    with pytest.raises(VerifyError) as caught:
        verify_folder(copy)
    assert caught.value.field == "score"
    path.write_text("{")
    with pytest.raises(StatementError, match=path.name):
        written(copy)


def test_rows_in_memory_are_bounded(monkeypatch):
    rows = Rows(POWER)
    monkeypatch.setattr("aggregator.growing.ROWS_MAX", 1000)
    for _ in range(30):
        rows.extend(np.zeros(100, POWER))
    assert rows.view.size == 1000
    assert rows.dropped == 2000
    assert ROWS_MAX > 1000
    rows.keep(np.arange(1000) >= 990)
    assert rows.view.size == 10


def test_an_empty_folder_has_no_statement(tmp_path):
    assert settle_folder(tmp_path) == []
    assert verify_folder(tmp_path) == 0
    with pytest.raises(JournalError, match="stream_id"):
        Settler(tmp_path, lambda _: None).feed("x", b"")


def test_an_interval_waits_for_the_sequel_that_its_score_wants(tmp_path):
    """Five minutes for PJM's score; live, from the files alone and on check it is the same statement."""
    product = replace(load("ce_fcr"), id="reg", score={"fn": "pjm_v1"})
    own = CoreSettings("CE", 4, (Contract(product, 1000.0),))
    told = []
    settler = live(tmp_path, Worker(own=own), range(QUARTER + 320), told)
    settler.close()
    done = [s for s in told if s.final]
    assert [s.start_ns for s in done] == [START_S * NS]
    assert done[0].samples.last_t_ns == (START_S + QUARTER + 299) * NS
    waiting = [s for s in told if not s.final and s.start_ns == START_S * NS]
    assert waiting[-1].until_ns == (START_S + QUARTER) * NS
    assert verify_folder(tmp_path) == 1


@pytest.mark.parametrize("why", ["full", "away"])
def test_while_nothing_is_read_the_clock_closes_nothing(tmp_path, monkeypatch, why):
    """A disk that takes nothing, or a store that cannot be asked: the rest of the interval is still to be read."""
    told, worker = [], Worker()
    settler = live(tmp_path, worker, range(QUARTER - 100), told)
    if why == "full":
        monkeypatch.setattr(settle, "WAITING_BYTES", 0)
    for s in range(QUARTER - 100, QUARTER + 200, 10):
        if why == "away":
            settler.unheard()
        settler.on_time((START_S + s) * NS)
    assert not finals(told)
    monkeypatch.undo()
    for s in range(QUARTER - 100, QUARTER + 60):
        settler.feed(*worker.second(s))
    settler.close()
    (found,) = finals(told).values()
    assert found.coverage_frac == 1.0
    assert verify_folder(tmp_path) == 1


def test_a_store_that_is_away_is_no_silence(tmp_path):
    class Away:
        def read(self, **_):
            raise redis.ConnectionError("gone")

    settler = Settler(tmp_path, lambda _: None)
    settler.on_time(NS)
    stop = SimpleNamespace(wait=lambda _: None)
    log = SimpleNamespace(warning=lambda *_, **__: None)
    assert settling._read(Away(), settler, {}, stop, log) == 0
    assert settler._fed
