"""Late history in statements: counted while the interval runs, a correction once it is final."""

from __future__ import annotations

import numpy as np
import pytest

from aggregator import journal
from aggregator.corrections import CORRECT_S
from aggregator.late import Late, history, place
from aggregator.settle import Settler, settle_folder, verify_folder, written
from settlement.statement import VerifyError
from telemetry import wire
from telemetry.samples import FREQUENCY
from tests.aggregator.test_settle import NS, QUARTER, START_S, Worker, settings
from tests.settlement.bills import statement

OUTAGE = range(300, 400)


class Deaf(Worker):
    """A worker that heard no frequency for a while; what the device measured meanwhile is kept."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def second(self, s, **options):
        stream_id, payload = super().second(s, **options)
        if s not in OUTAGE:
            return stream_id, payload
        entries = []
        for entry in journal.unpack(payload):
            if entry.kind is journal.Kind.SAMPLES:
                self.kept.append(wire.decode(entry.payload))
                entry = entry._replace(kind=journal.Kind.TIME, payload=journal.TIME.pack(entry.now_ns))
            entries.append(entry)
        return stream_id, journal.pack(entries)

    def told(self, at_s):
        block = np.concatenate(self.kept)
        block["rx_ns"] = (START_S + at_s) * NS
        return wire.encode(block)


def drive(settler, worker, seconds, late=None):
    for s in seconds:
        settler.feed(*worker.second(s))
        if late is not None and s == late:
            settler.feed_backfill("5-1", worker.told(s))
        if s % 5 == 0:
            settler.on_time((START_S + s) * NS + NS // 2)


def finals(told):
    return [s for s in told if s.final]


def names(folder):
    return sorted(path.name for path in (folder / "statements").glob("*.json"))


@pytest.fixture
def whole(tmp_path):
    """The first interval as it is where nothing was ever lost."""
    told = []
    settler = Settler(tmp_path / "whole", told.append)
    drive(settler, Worker(), range(QUARTER + 60))
    return finals(told)[0]


def test_history_that_comes_in_time_counts_at_once(tmp_path, whole):
    told, worker = [], Deaf()
    settler = Settler(tmp_path, told.append)
    drive(settler, worker, range(QUARTER + 60), late=500)
    settler.close()
    (found,) = finals(told)
    assert (found.history.rows, found.history.through, found.revision) == (len(OUTAGE), "5-0", 0)
    assert found.coverage["frequency"] == whole.coverage["frequency"] == 1.0
    assert found.requested_up_kwh == pytest.approx(whole.requested_up_kwh)
    assert verify_folder(tmp_path) == 1
    assert [s for s in settle_folder(tmp_path, (START_S + QUARTER + 6) * NS) if s.final] == [found]


def test_history_that_comes_too_late_is_a_correction_beside_the_first(tmp_path, whole):
    told, worker = [], Deaf()
    settler = Settler(tmp_path, told.append)
    drive(settler, worker, range(QUARTER + 300), late=QUARTER + 100)
    settler.close()
    first, second = finals(told)
    assert (first.revision, first.history.rows) == (0, 0)
    assert first.coverage["frequency"] < 0.9
    assert (second.revision, second.key, second.history.rows) == (1, first.key, len(OUTAGE))
    assert second.requested_up_kwh == pytest.approx(whole.requested_up_kwh)
    assert settler.corrected == 1
    stem = f"{first.start_ns:020d}-ce_fcr"
    assert names(tmp_path) == [f"{stem}.json", f"{stem}.r1.json"]
    assert written(tmp_path) == [first, second]
    assert verify_folder(tmp_path) == 2


def test_a_burst_is_waited_for_and_the_same_told_again_corrects_nothing(tmp_path):
    told, worker = [], Deaf()
    settler = Settler(tmp_path, told.append)
    drive(settler, worker, range(QUARTER + 20))
    settler.feed_backfill("5-1", worker.told(QUARTER + 20))
    drive(settler, worker, range(QUARTER + 20, QUARTER + 20 + CORRECT_S - 10))
    assert settler.corrections.waiting == 1
    assert len(finals(told)) == 1
    drive(settler, worker, range(QUARTER + 20 + CORRECT_S - 10, QUARTER + 40 + CORRECT_S))
    assert [s.revision for s in finals(told)] == [0, 1]
    settler.feed_backfill("5-2", worker.told(QUARTER + 200))
    drive(settler, worker, range(QUARTER + 40 + CORRECT_S, QUARTER + 300))
    assert [s.history.through for s in finals(told)] == ["", "5-0"]
    assert (settler.corrections.waiting, settler.corrected) == (0, 1)
    assert verify_folder(tmp_path) == 2


def test_a_correction_missed_by_a_life_is_made_by_the_next(tmp_path):
    told, worker = [], Deaf()
    settler = Settler(tmp_path, told.append)
    drive(settler, worker, range(QUARTER + 20))
    settler.feed_backfill("5-1", worker.told(QUARTER + 20))
    settler._write()  # killed here: history on disk, nothing corrected
    again = []
    settler = Settler(tmp_path, again.append)
    assert settler.corrections.waiting == 1
    drive(settler, worker, range(QUARTER + 20, QUARTER + 120))
    assert [s.revision for s in finals(again)] == [0, 1]
    third = []
    assert Settler(tmp_path, third.append).corrections.waiting == 0
    assert [s.revision for s in finals(third)] == [0, 1]


def test_what_the_limits_have_taken_is_not_settled_again(tmp_path, monkeypatch):
    told, worker = [], Deaf()
    settler = Settler(tmp_path, told.append)
    drive(settler, worker, range(QUARTER + 20))
    monkeypatch.setattr("aggregator.corrections.reach_ns", lambda _: (START_S + QUARTER) * NS)
    settler.feed_backfill("5-1", worker.told(QUARTER + 20))
    drive(settler, worker, range(QUARTER + 20, QUARTER + 120))
    assert [s.revision for s in finals(told)] == [0]
    assert (settler.corrections.beyond, settler.corrections.waiting) == (1, 0)


@pytest.mark.parametrize("revision", [0, 1])
def test_any_revision_is_held_against_its_rows(tmp_path, revision):
    told, worker = [], Deaf()
    settler = Settler(tmp_path, told.append)
    drive(settler, worker, range(QUARTER + 300), late=QUARTER + 100)
    settler.close()
    path = tmp_path / "statements" / names(tmp_path)[revision]
    text = path.read_text()
    item = finals(told)[revision]
    path.write_text(text.replace(f'"mileage": {item.mileage!r}', f'"mileage": {item.mileage + 0.1!r}'))
    with pytest.raises(VerifyError, match="mileage"):
        verify_folder(tmp_path)


def test_late_rows_by_time_and_by_entry():
    block = np.zeros(4, FREQUENCY)
    block["t_ns"], block["quality"][3] = [10, 20, 30, 40], 1
    late = Late()
    late.add(history(block[:2], np.array([1, 1]), np.array([7, 7])))
    late.add(history(block[2:], np.array([2, 2]), np.array([0, 1])))
    assert late.between(20, 40).t_ns.tolist() == [20, 30]
    assert late.between(50, 60).t_ns.size == 0
    assert late.between(0, 100).usable.tolist() == [True, True, True, False]
    assert late.upto((1, 7)).between(0, 100).t_ns.tolist() == [10, 20]
    assert late.upto((2, 0)).between(0, 100).t_ns.tolist() == [10, 20, 30]
    assert late.upto(place("")).between(0, 100).t_ns.size == 0
    late.forget(25)
    assert late.between(0, 100).t_ns.tolist() == [30, 40]


@pytest.mark.parametrize(
    ("product", "at_s", "reached"),
    [
        ("ce_fcr", -33, False), ("ce_fcr", -20, True), ("ce_fcr", QUARTER + 1, False),
        ("nordic_ffr_a", -900, True), ("nordic_ffr_a", -1100, False), ("afrr_up", -400, True),
        ("nem_r60", QUARTER + 200, True), ("nem_r60", QUARTER + 400, False),
    ],
)  # fmt: skip
def test_what_a_product_remembers_and_awaits_reaches_its_statements(tmp_path, product, at_s, reached):
    """A trigger's past and a score's sequel are part of what was stated, not the interval alone."""
    settler = Settler(tmp_path, lambda _: None)
    settler.feed(*Worker(own=settings((product, 100.0))).second(0))
    settler._books.feed(journal.Entry(journal.Kind.TIME, 0, 1, 0, b""))
    whole = statement(product, START_S * NS, length_s=QUARTER)
    settler.corrections._newest[whole.key] = whole
    rows = np.zeros(1, FREQUENCY)
    rows["t_ns"] = (START_S + at_s) * NS
    settler.corrections.touch(rows, (START_S + 2 * QUARTER) * NS)
    assert settler.corrections.waiting == reached
