"""What is sold changes within a run: asked at once, journalled, replayed, and settled block by block."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from aggregator import journal
from aggregator.books import Books, beginning
from aggregator.contracts import Contract, CoreSettings
from aggregator.core import Aggregator
from aggregator.journal import Entry, Kind
from aggregator.replay import replay
from aggregator.settle import Settler
from droop.products import load
from telemetry.samples import FREQUENCY, SIGNAL
from tests.aggregator.test_core import KEY, T0, S, reports, sessions
from tests.aggregator.test_settle import NS, QUARTER, START_S, Worker, settings


def sample(now_ns, hz):
    block = np.zeros(1, FREQUENCY)
    block["t_ns"] = block["rx_ns"] = now_ns
    block["hz"], block["volt_frac"] = hz, 1.0
    return block


def line(core, seconds, hz=49.9, change=None):
    """A core through some seconds; what it asked in each, and its commands signed."""
    core.on_sessions(sessions(), T0)
    asked = []
    for k in range(seconds):
        now_ns = T0 + k * S
        if k % 2 == 0:
            core.on_vehicles(reports(now_ns), now_ns)
        if change is not None:
            change(core, k, now_ns)
        core.on_samples(sample(now_ns, hz), now_ns)
        asked.append(core.last.response_kw)
        for command in core.drain_commands():
            core.sign(command, KEY)
    return asked


def test_from_then_on_that_much_is_asked():
    core = Aggregator(CoreSettings("ce", 12, (Contract(load("ce_fcr"), 40.0),)))
    asked = line(core, 6, change=lambda core, k, now_ns: core.sell([60.0 if k < 5 else 0.0], now_ns) if k > 2 else None)
    assert asked == pytest.approx([20.0, 20.0, 20.0, 30.0, 30.0, 0.0])
    assert core.settings.contracts[0].sold_kw == 0.0


def test_a_signals_products_are_clipped_to_what_is_sold_now():
    core = Aggregator(CoreSettings("ce", 12, (Contract(load("afrr_up"), 10.0),), signal_max_kw=1e9))
    core.on_sessions(sessions(), T0)
    said = np.zeros(1, SIGNAL)
    said["t_ns"] = said["rx_ns"] = T0
    said["valid_until_ns"], said["power_kw"] = T0 + 60 * S, 30.0
    core.on_signal(said, T0)
    core.sell([40.0], T0 + S)
    core.on_signal(said, T0 + S)
    assert core.sums.clipped == 1
    assert core.engine.terms.signal_kw.tolist() == [40.0, 0.0]


def test_a_journal_with_a_sale_replays_to_the_same_bytes():
    core = Aggregator(CoreSettings("ce", 12, (Contract(load("ce_fcr"), 40.0),)))
    line(core, 8, change=lambda core, k, now_ns: core.sell([66.0], now_ns) if k == 4 else None)
    entries = core.drain_entries()
    (sold,) = [entry for entry in entries if entry.kind is Kind.SOLD]
    assert orjson.loads(sold.payload) == [66.0]
    assert replay(journal.unpack(journal.pack(entries)), {1: KEY}).same
    without = [entry for entry in entries if entry.kind is not Kind.SOLD]
    assert not replay(without, {1: KEY}).same


@pytest.mark.parametrize("wrong", [[], [1.0, 2.0], [-1.0], [float("nan")]])
def test_powers_that_are_none_are_refused_and_change_nothing(wrong):
    core = Aggregator(CoreSettings("ce", 12, (Contract(load("ce_fcr"), 40.0),)))
    core.drain_entries()
    with pytest.raises(ValueError, match="sold_kw"):
        core.sell(wrong, T0)
    assert core.engine.terms.sold_kw.tolist() == [40.0]
    assert core.drain_entries() == []


class Selling(Worker):
    """A worker that sells something else from some seconds on."""

    def __init__(self, sales, own):
        super().__init__(own=own)
        self.sales = sales

    def _rows(self, s, now_ns, hz, dev, quality, meter):
        if s in self.sales:
            yield Kind.SOLD, orjson.dumps(self.sales[s])
        yield from super()._rows(s, now_ns, hz, dev, quality, meter)


def settled(worker, seconds, books=None):
    books, done = books or Books(), []
    for s in seconds:
        for entry in journal.unpack(worker.second(s)[1]):
            done += books.feed(entry)
    assert not books.problems
    return done


def test_each_interval_is_settled_by_what_was_sold_at_its_beginning():
    worker = Selling({QUARTER: [700.0], 2 * QUARTER: [400.0]}, settings(("ce_fcr", 1000.0)))
    done = settled(worker, range(0, 3 * QUARTER + 20, 10))
    assert [(item.start_ns // NS - START_S, item.sold_kw) for item in done] == [
        (0, 1000.0), (QUARTER, 700.0), (2 * QUARTER, 400.0)
    ]  # fmt: skip
    assert not [note for item in done for note in item.notes if "changed" in note or "restarted" in note]


def test_within_an_interval_the_larger_counts_and_says_so():
    worker = Selling({300: [700.0]}, settings(("ce_fcr", 1000.0)))
    done = settled(worker, range(0, 2 * QUARTER + 20, 10))
    assert [item.sold_kw for item in done] == [1000.0, 700.0]
    assert "contracts changed within the interval; settled by the larger" in done[0].notes


def test_a_restarted_settlement_knows_what_was_sold_since(tmp_path):
    worker = Selling({QUARTER: [700.0]}, settings(("ce_fcr", 1000.0)))
    settler = Settler(tmp_path, lambda _: None)
    for s in range(0, QUARTER + 40, 10):
        settler.feed(*worker.second(s))
    settler.close()
    kinds = [entry.kind for entry in beginning(tmp_path, (START_S + 2 * QUARTER) * NS)]
    assert kinds == [Kind.START, Kind.SESSIONS, Kind.SOLD]
    books, done = Books(), []
    for entry in beginning(tmp_path, (START_S + 2 * QUARTER) * NS):
        done += books.feed(entry)
    done += settled(worker, range(2 * QUARTER, 3 * QUARTER + 20, 10), books)
    assert [item.sold_kw for item in done] == [700.0]


def test_a_sale_that_cannot_be_read_is_told_and_changes_nothing():
    books = Books()
    settled(Worker(own=settings(("ce_fcr", 1000.0))), range(0, 20, 10), books)
    for payload in (b"{", b"[1, 2, 3]", b'"x"', b"[-5]"):
        books.feed(Entry(Kind.SOLD, 0, 99, (START_S + 30) * NS, payload))
    assert len(books.problems) == 4
    assert all("entry 99: what is sold cannot be read" in text for text in books.problems)
