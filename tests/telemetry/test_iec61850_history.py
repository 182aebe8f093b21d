"""Settlement's history: each measurement once, in control's rows or in the backfill, and what is lost is said."""

from __future__ import annotations

import signal
import threading
from collections import deque
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.iec61850 import Bookmark, Gap, library, make_client, mapping, session
from telemetry.iec61850 import history as hist
from telemetry.iec61850.blocks import Blocks
from telemetry.iec61850.client import ReportClient
from telemetry.iec61850.history import FRESH_NS, REPLAY_NS, SETTLE_NS, History
from telemetry.iec61850.intake import Intake
from telemetry.iec61850.mapping import DATA_UPDATE, INTEGRITY, Report
from tests.telemetry.ieds import NAMES, T0_NS, Proxy, Rows, ends, linked, need, taking, unit_here, unit_process, until

MS = 1_000_000
BLOCK = "LD/LLN0.BR.b01"
NOW_NS = 1_700_000_000_000_000_000


def report(t_ns: int, number: int, **fields: Any) -> Report:
    utc = mapping.encode_utc(t_ns, 0x8A)
    full = Report(None, DATA_UPDATE, 50.0, 0, utc, 230.0, number.to_bytes(8, "big"))
    return full._replace(**fields)


class Settled:
    """A history and control's intake beside it, and what they delivered."""

    def __init__(self, bookmark: Bookmark | None = None, alone: bool = False, block: str = BLOCK) -> None:
        self.live: list[int] = []
        self.late: list[int] = []
        self.gaps: list[Gap] = []
        self.control = Intake(230.0, 1)
        self.control.open(lambda row: self.live.append(_stamp(row)))
        self.history = History(230.0, 1, lambda row: self.late.append(_stamp(row)), self.gaps.append, bookmark)
        self.control.on_delivered = self.history.had
        self.alone = alone
        self.connect(block)

    def connect(self, block: str = BLOCK) -> None:
        self.control.connected(buffered=False)
        self.history.connected(block, self.control if self.alone else None)

    def told(self) -> list[tuple[int, int, str]]:
        """Gaps in ms since NOW."""
        return [(_ms(gap.after_t_ns), _ms(gap.before_t_ns), gap.reason) for gap in self.gaps]


def _stamp(row: Any) -> int:
    return _ms(int(row["t_ns"][0]))


def _ms(t_ns: int) -> int:
    return round((t_ns - NOW_NS) / MS) if t_ns else -1


def at(ms: int) -> int:
    return mapping.decode_utc(mapping.encode_utc(NOW_NS + ms * MS, 0))[0]  # as a UtcTime says it


# ---- pure


def test_what_control_had_is_not_told_again_and_the_rest_comes_late() -> None:
    both = Settled()
    for k in range(10):
        if k not in (3, 4):
            both.control.take(report(at(20 * k), 0), at(20 * k))
        both.history.take(report(at(20 * k), k + 1), at(20 * k))
    assert both.live == [20 * k for k in range(10) if k not in (3, 4)]
    assert both.late == []  # the other report may still come
    assert both.history.bookmark == Bookmark(BLOCK, (3).to_bytes(8, "big"), at(40))
    both.history.take(report(at(5000), 11, reason=INTEGRITY), at(200) + SETTLE_NS)
    assert both.late == [60, 80]
    assert both.history.backfilled == 2
    both.control.take(report(at(5000), 0), at(5000))
    both.history.shut()
    assert both.late == [60, 80]
    assert both.history.bookmark == Bookmark(BLOCK, (11).to_bytes(8, "big"), at(5000))
    assert not both.gaps


def test_the_unbuffered_report_may_come_second() -> None:
    both = Settled()
    both.history.take(report(at(0), 1), at(0))
    both.control.take(report(at(0), 0), at(1))
    both.history.take(report(at(20), 2), at(20))
    both.history.shut()
    assert (both.live, both.late) == ([0], [20])


def test_a_run_resumes_after_its_bookmark() -> None:
    mark = Bookmark(BLOCK, (7).to_bytes(8, "big"), at(100))
    assert Bookmark.from_dict(mark.as_dict()) == mark
    both = Settled(mark)
    assert both.history.ask(BLOCK) == mark.entry
    assert both.history.ask("LD/LLN0.BR.b02") == hist.OLDEST
    for number, ms in ((8, 90), (9, 100), (10, 110)):  # two that were settled before
        both.history.take(report(at(ms), number), at(3000))
    both.history.shut()
    assert both.late == [110]
    assert both.history.repeats == 2
    assert both.history.bookmark == Bookmark(BLOCK, (10).to_bytes(8, "big"), at(110))
    assert not both.gaps


def test_without_a_bookmark_everything_is_ours_and_an_overflow_is_nobodys() -> None:
    both = Settled()
    assert both.history.ask(BLOCK) == hist.OLDEST
    both.history.refused()
    both.history.take(report(at(0), 5, overflow=True), at(9000))
    both.history.shut()
    assert both.late == [0]
    assert not both.gaps


MARK = Bookmark(BLOCK, (7).to_bytes(8, "big"), at(100))


def test_losses_are_told_with_the_rows_around_them() -> None:
    overflow = Settled(MARK)
    overflow.history.take(report(at(500), 30, overflow=True), at(9000))
    overflow.history.take(report(at(520), 31), at(9000))
    overflow.history.take(report(at(900), 60, overflow=True), at(9000))  # too slow for the device, later
    assert overflow.told() == [(100, 500, "overflow"), (520, 900, "overflow")]
    assert overflow.history.gaps == 2

    unknown = Settled(MARK)
    unknown.history.refused()
    unknown.history.take(report(at(500), 30, overflow=True), at(9000))
    assert unknown.told() == [(100, 500, "entry_unknown")]  # one loss, told once

    anew = Settled(MARK)
    anew.history.take(report(at(500), 1), at(9000))
    anew.history.take(report(at(520), 2), at(9000))
    assert anew.told() == [(100, 500, "renumbered")]

    other = Settled(MARK, block="LD/LLN0.BR.b02")
    other.history.take(report(at(90), 1), at(9000))
    other.history.take(report(at(110), 2), at(9000))
    assert other.told() == [(100, 110, "other_block")]

    skipped = Settled(MARK)
    for number, ms in ((0, 110), (1, 130), (3, 170)):
        skipped.history.take(report(at(ms), 10 + number, sequence=number), at(9000))
    skipped.history.surprise("nonsense", at(9001))
    skipped.history.take(report(at(210), 15, sequence=5), at(9002))
    assert skipped.told() == [(130, 170, "skipped"), (170, 210, "skipped")]
    assert skipped.history.surprises == 1


def test_alone_old_rows_are_history_and_fresh_ones_control() -> None:
    one = Settled(MARK, alone=True)
    now = at(10_000)
    for k in range(5):
        one.history.take(report(at(110 + 20 * k), 8 + k), now)
    one.history.take(report(at(190), 13, reason=INTEGRITY), now)
    assert (one.live, one.late) == ([], [110, 130, 150, 170, 190])
    assert one.control.reports == 6  # the watchdog hears of each
    one.history.take(report(at(9_000), 14), now)
    one.history.take(report(at(7_000), 15), now)  # later old ones are the gate's to judge
    one.history.take(report(now, 16, reason=INTEGRITY), now)
    assert one.live == [9_000, 7_000, 10_000]
    assert one.history.bookmark == Bookmark(BLOCK, (16).to_bytes(8, "big"), now)
    assert one.control.reports == 9


def test_a_device_whose_clock_is_wrong_is_not_taken_for_a_replay_for_ever() -> None:
    one = Settled(alone=True)
    begin = at(100_000)
    one.history.take(report(at(0), 1), begin)
    one.history.take(report(at(1), 2), begin + REPLAY_NS - 1)
    assert (one.live, one.late) == ([], [0, 1])
    one.history.take(report(at(2), 3), begin + REPLAY_NS)
    assert (one.live, one.late) == ([2], [0, 1])
    assert one.history.backfilled == 2


def test_voltage_alone_and_a_first_value_never_measured() -> None:
    one = Settled(alone=True)
    one.history.take(report(0, 1), at(0))
    assert (one.live, one.late, one.history.repeats) == ([], [], 1)
    one.history.take(report(at(0), 2), at(0))
    one.history.take(report(at(0), 3, hz=None, utc=b"", reason=0, volts=2.3), at(1))
    one.history.take(report(at(20), 4, volts=None), at(20))
    assert one.live == [0, 20]
    assert one.control._volts == 2.3


def test_waiting_rows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hist, "WAITING", 3)
    both = Settled()
    for k in range(6):
        both.history.take(report(at(k), k + 1), at(0))
    assert both.late == [0, 1, 2]


def test_handlers_that_fail_are_counted() -> None:
    def fail(_: Any) -> None:
        raise KeyError("theirs")

    history = History(230.0, 1, fail, fail, MARK)
    history.connected(BLOCK, None)
    history.take(report(at(500), 30, overflow=True), at(9000))
    assert history.handler_errors == 1
    assert "on_gap" in history.detail
    history.shut()
    assert history.handler_errors == 2
    assert "on_backfill raised KeyError" in history.detail


class Device:
    """A device as slow and obvious as can be: a buffer, what control hears, what is connected."""

    def __init__(self, keeps: int) -> None:
        self.buffer: deque[tuple[int, int]] = deque(maxlen=keeps)  # (number, ms)
        self.number = 0
        self.made: list[int] = []


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 30), st.booleans()), min_size=1, max_size=12),
    st.integers(1, 60),
)
def test_each_measurement_once_or_in_a_gap(runs: list[tuple[bool, int, bool]], keeps: int) -> None:
    """Runs of being connected and not, some after a restart of ours with its bookmark; a buffer that may be short."""
    device, settled, ms = Device(keeps), Settled(), 0
    live, late, gaps = settled.live, settled.late, settled.gaps
    for connected, samples, restart in runs:
        if connected:
            if restart:
                settled.history.shut()
                again = Settled(settled.history.bookmark)
                again.live, again.late, again.gaps = live, late, gaps
                settled = _joined(again, live, late, gaps)
            else:
                settled.connect()
            replay(device, settled, at(ms))
        for _ in range(samples):
            ms += 20
            device.number += 1
            device.buffer.append((device.number, ms))
            device.made.append(ms)
            if connected:
                settled.control.take(report(at(ms), 0), at(ms))
                settled.history.take(report(at(ms), device.number), at(ms))
    settled.connect()
    replay(device, settled, at(ms))
    settled.history.shut()
    got = live + late
    assert len(got) == len(set(got))
    begun = min(got, default=0)
    told = [range(_ms(gap.after_t_ns) + 1, _ms(gap.before_t_ns)) for gap in gaps]
    due = {made for made in device.made if made >= begun and not any(made in gap for gap in told)}
    assert due <= set(got)


def _joined(settled: Settled, live: list[int], late: list[int], gaps: list[Gap]) -> Settled:
    settled.control.open(lambda row: live.append(_stamp(row)))
    settled.history._on_backfill = lambda row: late.append(_stamp(row))
    settled.history._on_gap = gaps.append
    return settled


def replay(device: Device, settled: Settled, now_ns: int) -> None:
    """What a device does when a block is enabled after an EntryID (7-2 17.2.2)."""
    asked = int.from_bytes(settled.history.ask(BLOCK), "big")
    kept = [number for number, _ in device.buffer]
    overflow = False
    if asked and asked not in kept:
        settled.history.refused()
        asked, overflow = 0, True
    for number, ms in device.buffer:
        if number > asked:
            settled.history.take(report(at(ms), number, overflow=overflow), now_ns)
            overflow = False


# ---- real devices


@pytest.fixture(params=[(unit, client) for unit in NAMES for client in NAMES], ids=lambda pair: "->".join(pair))
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    need(*request.param)
    unit, client = request.param
    return unit, client


@pytest.fixture(params=[NAMES, NAMES[::-1]], ids=lambda pair: "->".join(pair))
def foreign(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Each client with the other library's device."""
    need(*request.param)
    unit, client = request.param
    return unit, client


class Kept:
    """A client with a history, and everything it delivered over its restarts."""

    def __init__(self, backend: str, port: int, **options: Any) -> None:
        self.backend, self.port, self.options = backend, port, options
        self.live, self.late, self.gaps = Rows(), Rows(), list[Gap]()
        self.mark: Bookmark | None = None

    def start(self) -> ReportClient:
        self.client = make_client(
            self.backend, "127.0.0.1", self.port, on_backfill=self.late, on_gap=self.gaps.append, bookmark=self.mark,
            connect_timeout_s=0.5, **self.options,
        )  # fmt: skip
        self.client.start(self.live)
        return self.client

    def stop(self) -> None:
        ends(self.client.stop)
        self.mark = self.client.bookmark()

    def stamps(self) -> Any:
        return np.concatenate([self.live.all()["t_ns"], self.late.all()["t_ns"]])


def test_an_outage_is_filled_without_a_gap_or_a_repeat(pair: tuple[str, str]) -> None:
    sent: list[int] = []

    def publish(unit: Any, count: int) -> None:
        for _ in range(count):
            sent.append(T0_NS + len(sent) * 20 * MS)
            unit.publish(sent[-1], 50.0 + len(sent) / 1000, 230.0)

    with unit_here(pair[0]) as unit:
        proxy = Proxy(unit.port, seed=1)
        kept = Kept(pair[1], proxy.port)
        linked(kept.start())
        publish(unit, 50)
        until(lambda: len(kept.live) == 50)
        proxy.close()  # a new line to the same device is cut as well: nothing listens
        proxy.cut()
        until(lambda: not kept.client.status().connected)
        publish(unit, 150)
        kept.stop()  # and we are started again
        assert kept.mark is not None
        kept.port = unit.port
        linked(kept.start())
        until(lambda: kept.client.bookmark() is not None)
        publish(unit, 30)
        until(lambda: len(kept.live) == 80)
        kept.stop()
    stamps = np.sort(kept.stamps())
    assert len(stamps) == len(set(stamps)) == len(sent)
    assert np.abs(stamps - np.array(sent)).max() <= 1100  # open61850 keeps microseconds
    assert len(kept.late) == 150
    assert not kept.gaps


@pytest.mark.parametrize("device", NAMES)
def test_a_report_gathered_while_the_block_is_set_does_not_end_the_resumption(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """open61850 moves its EntryID on with each report that it gathers: what we asked to go on after is asked again."""
    need(device, "libiec61850")
    write, between = Blocks._write, list[int]()

    with unit_here(device) as unit:

        def publish(*numbers: int) -> None:
            for k in numbers:
                unit.publish(T0_NS + k * 20 * MS, 50.0 + k / 1000, 230.0)

        def interrupted(blocks: Blocks, ref: str, field: int, value: int | None, **more: Any) -> None:
            write(blocks, ref, field, value, **more)
            if field == library.RCB_ENTRY_ID and between:
                publish(between.pop())

        monkeypatch.setattr(Blocks, "_write", interrupted)
        kept = Kept("libiec61850", unit.port)
        linked(kept.start())
        publish(*range(20))
        until(lambda: len(kept.live) == 20)
        kept.stop()
        publish(*range(20, 50))
        between.append(50)
        linked(kept.start())
        until(lambda: not between and kept.client.bookmark() is not None)
        publish(*range(51, 60))
        until(lambda: len(kept.live) == 30)  # control had its block before
        kept.stop()
    assert not between
    numbers = np.rint((np.sort(kept.stamps()) - T0_NS) / (20 * MS)).astype(int).tolist()
    assert numbers == list(range(60))
    assert not kept.gaps


def test_beyond_the_devices_buffer_the_loss_is_a_gap(foreign: tuple[str, str]) -> None:
    with unit_here(foreign[0]) as unit:
        kept = Kept(foreign[1], unit.port)
        linked(kept.start())
        for k in range(20):
            unit.publish(T0_NS + k * MS, 50.0 + k / 1000, 230.0)
        until(lambda: len(kept.live) == 20)
        kept.stop()
        for k in range(20, 3000):  # more than either library keeps
            unit.publish(T0_NS + k * MS, 50.0 + k % 100 / 1000, 230.0)
        linked(kept.start())
        unit.publish(T0_NS + 3000 * MS, 50.5, 230.0)
        until(lambda: len(kept.live) == 21)
        kept.stop()
    assert kept.client.status().history_gaps == 1
    (gap,) = kept.gaps
    assert gap.reason in ("entry_unknown", "overflow")
    late = kept.late.all()["t_ns"]
    assert abs(gap.after_t_ns - (T0_NS + 19 * MS)) < 1100
    assert gap.before_t_ns == late.min()
    assert (np.diff(late) > 0).all()
    assert len(late) == round((T0_NS + 3000 * MS - gap.before_t_ns) / MS)  # from there on everything


def test_a_device_that_lost_its_memory_is_a_gap(foreign: tuple[str, str]) -> None:
    with unit_process(foreign[0]) as (process, port):
        kept = Kept(foreign[1], port)
        kept.start()
        until(lambda: kept.client.bookmark() is not None and len(kept.live) >= 10)
        process.send_signal(signal.SIGKILL)
        process.wait()
        until(lambda: not kept.client.status().connected)
        with unit_process(foreign[0], port):
            seen = len(kept.live)
            until(lambda: kept.client.status().history_gaps == 1 and len(kept.live) > seen + 5)
            kept.stop()
    assert [gap.reason for gap in kept.gaps] in (["entry_unknown"], ["renumbered"])
    stamps = kept.stamps()
    assert len(stamps) == len(set(stamps))


def test_one_buffered_block_serves_control_and_history(foreign: tuple[str, str]) -> None:
    with unit_process(foreign[0]) as (_, port):
        kept = Kept(foreign[1], port, report_block="GRIDMEAS/LLN0.BR.brcb02")
        kept.start()
        until(lambda: len(kept.live) >= 10)
        assert kept.client.status().mode == "buffered reports"
        kept.stop()
        seen = len(kept.live)
        threading.Event().wait(1.3)  # longer than FRESH_NS of the device's own time
        kept.start()
        until(lambda: len(kept.live) > seen + 5 and len(kept.late.all()))
        kept.stop()
    stamps = np.sort(kept.stamps())
    assert len(stamps) == len(set(stamps))
    late, live = kept.late.all(), kept.live.all()
    assert (live["rx_ns"] - live["t_ns"]).max() < FRESH_NS
    assert len(late)
    assert not kept.gaps


def test_history_that_cannot_be_had_leaves_control_alone(foreign: tuple[str, str]) -> None:
    with unit_here(foreign[0]) as unit:
        kept = Kept(foreign[1], unit.port, history_block="GRIDMEAS/LLN0.BR.none")
        linked(kept.start())
        unit.publish(T0_NS, 50.0, 230.0)
        until(lambda: len(kept.live) == 1)
        assert "history:" in kept.client.status().detail
        assert "GRIDMEAS/LLN0.BR.none" in kept.client.status().detail
        kept.stop()
        with pytest.raises(ValueError, match="history_block"):
            make_client(foreign[1], "127.0.0.1", unit.port, history_block="GRIDMEAS/LLN0.RP.urcb01")


def test_the_bookmarks_block_is_waited_for_while_a_device_thinks_it_serves(
    foreign: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a cut line: our old association holds it until the device gives that up."""
    monkeypatch.setattr(session, "HISTORY_RETRY_S", 0.1)
    block = "GRIDMEAS/LLN0.BR.brcb02"
    with unit_here(foreign[0]) as unit:
        kept = Kept(foreign[1], unit.port)
        kept.mark = Bookmark(block, (7).to_bytes(8, "big"), T0_NS - MS)
        old = taking(foreign[1], unit.port, [block])
        linked(kept.start())
        until(lambda: f"history: enable {block}: taken" in kept.client.status().detail)
        unit.publish(T0_NS, 50.0, 230.0)
        until(lambda: len(kept.live) == 1)
        ends(old.close)
        until(lambda: "history" not in kept.client.status().detail)
        assert kept.client._history is not None
        assert kept.client._history.block == block
        kept.stop()
        monkeypatch.setattr(session, "PATIENCE_S", 0.0)
        old = taking(foreign[1], unit.port, [block])
        linked(kept.start())
        until(lambda: kept.client._history.block == "GRIDMEAS/LLN0.BR.brcb01")  # its own, when it takes too long
        kept.stop()
        ends(old.close)
