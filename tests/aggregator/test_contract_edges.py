"""Contracts that change at a restart: each interval is settled by what was sold in it, whenever that comes out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aggregator import journal, settle
from aggregator.books import Books
from aggregator.contracts import Contract, CoreSettings
from droop.products import load
from telemetry import wire
from tests.aggregator.test_settle import QUARTER, START_S, Worker, settings

NS = 1_000_000_000


def run(books, own, seconds, epoch=7):
    """Every tenth second of a worker with these contracts; statements of the intervals it closes."""
    worker, done = Worker(epoch, settings(*own)), []
    for s in seconds:
        for entry in journal.unpack(worker.second(s)[1]):
            done += books.feed(entry)
    return done


def sold(done):
    return {(item.start_ns // NS - START_S, item.product): item.sold_kw for item in done}


@pytest.mark.parametrize("at_s", [QUARTER + 1, QUARTER + 4])
def test_an_interval_that_is_over_keeps_its_contracts(at_s):
    """The worker is stopped at the end of a block and started again with what is sold in the next."""
    books = Books()
    run(books, [("ce_fcr", 1000.0)], range(0, QUARTER, 10))
    done = run(books, [("ce_fcr_de", 700.0)], range(at_s, 2 * QUARTER + 20, 10), epoch=8)
    assert sold(done) == {(0, "ce_fcr"): 1000.0, (QUARTER, "ce_fcr_de"): 700.0}
    assert not [note for item in done for note in item.notes if "changed" in note]


def test_a_sequel_that_is_awaited_does_not_change_what_was_sold():
    books = Books()
    run(books, [("nem_r60", 1000.0)], range(0, 600, 10))
    done = run(books, [("nem_r60", 10.0)], range(600, 1300, 10), epoch=8)
    assert [kw for _, kw in sorted(sold(done).items())] == [1000.0, 1000.0, 10.0]


def test_no_restart_takes_back_what_was_promised():
    books = Books()
    run(books, [("ce_fcr", 1000.0), ("afrr_up", 50.0)], range(0, 600, 10))
    done = run(books, [("ce_fcr", 1.0)], range(600, 2 * QUARTER + 20, 10), epoch=8)
    assert sold(done) == {(0, "ce_fcr"): 1000.0, (0, "afrr_up"): 50.0, (QUARTER, "ce_fcr"): 1.0}
    noted = [
        item.product for item in done if "contracts changed within the interval; settled by the larger" in item.notes
    ]
    assert noted == ["ce_fcr", "afrr_up"]


def test_twice_within_an_interval_the_largest_counts_and_then_the_last():
    books = Books()
    run(books, [("ce_fcr", 10.0)], range(0, 300, 10))
    run(books, [("ce_fcr", 30.0)], range(300, 600, 10), epoch=8)
    done = run(books, [("ce_fcr", 20.0)], range(600, 2 * QUARTER + 20, 10), epoch=9)
    assert sold(done) == {(0, "ce_fcr"): 30.0, (QUARTER, "ce_fcr"): 20.0}
    assert "worker restarted within the interval" in done[0].notes
    assert "worker restarted within the interval" not in done[1].notes


def test_a_worker_that_stays_away_does_not_lose_its_contract():
    books = Books()
    run(books, [("ce_fcr", 1000.0)], range(0, QUARTER, 10))
    done = run(books, [("ce_fcr", 1.0)], range(QUARTER + 400, 3 * QUARTER + 20, 10), epoch=8)
    assert [kw for _, kw in sorted(sold(done).items())] == [1000.0, 1000.0, 1.0]


def test_a_meter_that_falls_silent_for_whole_intervals_is_missed(tmp_path, monkeypatch):
    """Without it the sum would be another fleet's, and might look better: for an hour it is unknown, and said so."""
    monkeypatch.setattr(settle, "PROVISIONAL_S", 1e6)

    class Two(Worker):
        def _rows(self, s, *given):
            for kind, data in super()._rows(s, *given):
                yield kind, data
                if kind is journal.Kind.METERS and s < QUARTER:
                    row = wire.decode(data).copy()
                    row["meter"], row["power_kw"] = 7, -300.0
                    yield kind, wire.encode(row)

    worker, settler = Two(), settle.Settler(tmp_path, lambda _: None)
    for s in range(6 * QUARTER + 10):
        if s % 5 == 0 or s > 5 * QUARTER:
            settler.feed(*worker.second(s))
    settler.close()
    known = [item.coverage["meter"] > 0.5 for item in settle.written(tmp_path)]
    assert known == [True, False, False, False, False, True]
    assert "meter 7: not one reading" in settle.written(tmp_path)[2].notes
    assert settle.verify_folder(tmp_path) == 6


def test_a_restart_reads_back_as_far_as_a_trigger_remembers(tmp_path, monkeypatch):
    """Its past is part of what a statement rests on: live, after a restart and from the files alone."""
    monkeypatch.setattr(settle, "PROVISIONAL_S", 1e6)
    product = load("nordic_ffr_a")
    long = replace(product, interval_s=3600, trigger=replace(product.trigger, ready_s=7200.0, ready_from="release"))
    worker = Worker(own=CoreSettings("nordic", 4, (Contract(long, 100.0),)))
    begin = -START_S % 3600
    settler = settle.Settler(tmp_path, lambda _: None)
    # The threshold is passed more than an hour before the interval: then nothing is promised for two hours.
    for s in range(begin, begin + 4 * 3600 + 40, 20):
        if s == begin + 3 * 3600 + 1800:
            settler.close()
            settler = settle.Settler(tmp_path, lambda _: None)
        settler.feed(*worker.second(s, hz=49.0 if s == begin + 1800 else 50.0))
    settler.close()
    assert settle.verify_folder(tmp_path) == 4
