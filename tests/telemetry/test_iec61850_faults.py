"""Devices that are shared, shut off, slow, gone or lying; many at once; and a library that is not what it should be."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from telemetry.iec61850 import LibraryVersion, library, make_client, make_unit, selftest, session
from telemetry.iec61850.layout import Layout
from telemetry.iec61850.mapping import DATA_UPDATE, encode_utc
from telemetry.iec61850.reading import Reader
from tests.telemetry.ieds import (
    NAMES,
    ROOT,
    T0_NS,
    Proxy,
    Rows,
    ends,
    linked,
    need,
    subscribed,
    taking,
    unit_here,
    unit_process,
    until,
)
from tests.telemetry.test_iec61850_discovery import STRANGER, served

RUNS = int(os.environ.get("FLYBALL_SPOILED_RUNS", "6"))
BLOCKS = [f"GRIDMEAS/LLN0.{kind}0{n}" for kind in ("RP.urcb", "BR.brcb") for n in (1, 2, 3)]


@pytest.fixture(params=[NAMES, NAMES[::-1]], ids=lambda pair: "->".join(pair))
def foreign(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Each client with the other library's device."""
    need(*request.param)
    unit, name = request.param
    return unit, name


@pytest.fixture(params=NAMES)
def backend(request: pytest.FixtureRequest) -> str:
    need(request.param)
    return str(request.param)


# ---- no block is free


def test_values_are_asked_for_where_every_block_serves_others(
    foreign: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "RETRY_S", 0.2)
    with unit_here(foreign[0]) as unit:
        other = taking(foreign[1], unit.port, BLOCKS)
        with subscribed(foreign[1], unit.port, poll_ms=5) as (asking, rows):
            linked(asking)
            assert asking.status().mode == "polling"
            assert asking.status().detail == "subscribed to GRIDMEAS/MMXU1.Hz, asked every 5 ms"
            until(lambda: asking.status().polls >= 5)
            assert len(rows) == 0  # never measured
            for k in range(3):
                unit.publish(T0_NS + k * 20_000_000, 50.0 + k, 115.0)
                until(lambda k=k: len(rows) == k + 1)
                seen = asking.status().polls
                until(lambda seen=seen: asking.status().polls >= seen + 3)
            assert len(rows) == 3  # asked for often, delivered once
            np.testing.assert_array_equal(rows.all()["hz"], [50.0, 51.0, 52.0])
            assert set(rows.all()["volt_frac"]) == {0.5}
            assert asking.status().repeats >= 9
            ends(other.close)
            until(lambda: asking.status().mode == "reports")  # and back, without a new association
            assert asking.status().detail == f"subscribed to {BLOCKS[0]}"
            unit.publish(T0_NS + 10**9, 49.0, 115.0)
            until(lambda: len(rows) == 4)
            assert asking.status().reconnects == 0


def test_a_named_block_that_is_taken_is_asked_around_and_a_wrong_name_is_not(backend: str) -> None:
    with unit_here(backend) as unit:
        other = taking(backend, unit.port, BLOCKS[:3])
        with subscribed(backend, unit.port, report_block=BLOCKS[0], poll_ms=5) as (asking, _):
            linked(asking)
            assert asking.status().mode == "polling"
        with subscribed(backend, unit.port, report_block=BLOCKS[0], poll_ms=None) as (waiting, rows):
            until(lambda: "no report control block is free" in waiting.status().detail)
            assert "urcb03" in waiting.status().detail
            ends(other.close)
            linked(waiting)  # it was tried for again
            unit.publish(T0_NS, 50.0, 230.0)
            until(lambda: len(rows) == 1)
        options = {"report_block": "GRIDMEAS/LLN0.RP.wrong", "hz_ref": "GRIDMEAS/MMXU1.Hz"}
        with subscribed(backend, unit.port, **options) as (wrong, _):
            until(lambda: "LLN0.RP.wrong" in wrong.status().detail)
            assert not wrong.status().connected
    with pytest.raises(ValueError, match="poll_ms 0"):
        make_client(backend, "127.0.0.1", 1, poll_ms=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_device_without_blocks_is_asked(name: str, tmp_path: Path) -> None:
    need(name)
    from open61850.data import BitStringData, FloatData, IntData, StructureData, TimestampData
    from open61850.mms.pdu import ObjectName

    from telemetry.iec61850 import permissive_server as ps

    path = tmp_path / "bare.cid"
    path.write_text(re.sub("<ReportControl .*?</ReportControl>", "", STRANGER, flags=re.DOTALL), "utf-8")
    with served(path, "BAY7") as (model, port), subscribed(name, port, poll_ms=5) as (asking, rows):
        linked(asking)
        assert asking.status().mode == "polling"
        assert "BAY7PQ/BMMXU1.Hz" in asking.status().detail  # the point with voltage
        tail = [BitStringData(b"\x00\x00", 3), TimestampData(ps.EPOCH + ps.timedelta(seconds=1_700_000_000), 10)]
        both = [StructureData([IntData(1), FloatData(hz)]) for hz in (12.5, 49.5)]
        with model.batch():
            model.set(ObjectName("BMMXU1$MX$Hz", "BAY7PQ"), StructureData([*both, IntData(3), *tail]))
        until(lambda: len(rows) == 1)
        assert rows.all()["hz"][0] == 49.5


# ---- many devices


def test_devices_of_one_model_in_one_process_never_mix(backend: str) -> None:
    """Same names, same blocks, same report IDs: only the association tells them apart."""
    count = 5
    with ExitStack() as stack:
        units = [stack.enter_context(unit_here(backend)) for _ in range(count)]
        options: list[dict[str, Any]] = [{"source": k, "on_backfill": Rows()} for k in range(count)]
        options[-1]["report_block"] = BLOCKS[3]  # and one by its buffered block
        followed = [stack.enter_context(subscribed(backend, units[k].port, **options[k])) for k in range(count)]
        for source, _ in followed:
            linked(source)
        rnd = np.random.default_rng(1)
        sent = [0] * count
        for k in rnd.integers(0, count, 400).tolist():
            if sent[k] >= 60:
                continue
            t_ns = time.time_ns() // 10**6 * 10**6
            units[k].publish(t_ns, 45.0 + k + sent[k] / 64, 100.0 * (k + 1))
            sent[k] += 1
        for k, (_, rows) in enumerate(followed):
            until(lambda rows=rows, k=k: len(rows) >= sent[k])
        ends(followed[0][0].stop)
        units[1].publish(time.time_ns(), 46.0, 200.0)  # one less, and the others go on
        until(lambda: len(followed[1][1]) == sent[1] + 1)
        for k, (source, rows) in enumerate(followed):
            got = rows.all()
            assert set(got["source"]) == {k}
            np.testing.assert_array_equal(got["hz"][: sent[k]], 45.0 + k + np.arange(sent[k]) / 64)
            np.testing.assert_allclose(got["volt_frac"], 100.0 * (k + 1) / 230.0, rtol=1e-6)
            assert source.status().surprises == source.status().gaps == 0


# ---- lines and peers


def test_a_cut_cable_is_noticed_by_silence_and_nothing_is_lost_for_settlement(foreign: tuple[str, str]) -> None:
    late = Rows()
    with unit_process(foreign[0]) as (_, port), closing(Proxy(port, seed=1)) as line:
        options = {"silent_after_s": 0.5, "connect_timeout_s": 0.3, "on_backfill": late}
        with subscribed(foreign[1], line.port, **options) as (source, rows):
            # A device keeps a buffered block's reports from its first enabling on: not before the history has it.
            until(lambda: source.bookmark() is not None and len(rows) >= 10)
            line.swallow = True
            until(lambda: not source.status().connected)
            until(lambda: "no answer in time" in source.status().detail or "timed" in source.status().detail)
            line.cut()
            line.swallow = False
            seen = len(rows)
            until(lambda: source.status().connected and len(rows) >= seen + 10 and len(late))
        stamps = np.sort(np.concatenate([rows.all()["t_ns"], late.all()["t_ns"]]))
    assert len(stamps) == len(set(stamps))
    began = np.searchsorted(stamps, rows.all()["t_ns"][0])
    assert len(stamps) > began + 20


def test_a_device_that_freezes_while_it_is_asked_is_noticed(backend: str) -> None:
    """And asked again once it answers; each `until` fails where it waits in vain."""
    with unit_process(backend) as (process, port):
        other = taking(backend, port, BLOCKS[:3])
        options = {"report_block": BLOCKS[0], "poll_ms": 10, "silent_after_s": 60.0, "connect_timeout_s": 0.3}
        with subscribed(backend, port, **options) as (asking, rows):
            until(lambda: len(rows) >= 5)
            process.send_signal(signal.SIGSTOP)
            until(lambda: not asking.status().connected)
            process.send_signal(signal.SIGCONT)
            seen = len(rows)
            until(lambda: asking.status().connected and len(rows) >= seen + 5)
        ends(other.close)


FAST = """
import sys, threading, time
from telemetry.iec61850 import make_unit
unit = make_unit(sys.argv[1], 0)
unit.start()
print(unit.port, flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), __import__("os")._exit(0)), daemon=True).start()
begin_s, k = time.monotonic(), 0
while True:
    unit.publish(time.time_ns(), 50.0 + k % 997 * 1e-5, 230.0)
    k += 1
    time.sleep(max(0.0, begin_s + k / 1000 - time.monotonic()))
"""


def test_stop_under_a_thousand_reports_a_second(backend: str) -> None:
    command = [sys.executable, "-c", FAST, "libiec61850"]
    need("libiec61850")
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        history = {"on_backfill": Rows()} if backend == "libiec61850" else {}  # twice the reports
        source = make_client(backend, "127.0.0.1", port, **history)
        for _ in range(4):
            rows = Rows()
            source.start(rows)
            until(lambda rows=rows: len(rows) >= 200)
            ends(source.stop)
            seen = len(rows)
            assert source.status().detail == "stopped"
            assert not [thread for thread in threading.enumerate() if thread.name.startswith("iec61850")]
            threading.Event().wait(0.02)
            assert len(rows) == seen
        assert source.status().surprises == source.status().gaps == 0
        process.kill()


@pytest.mark.parametrize("name", NAMES)
def test_spoiled_lines_crash_nothing_and_give_nothing_wrong(name: str) -> None:
    """FLYBALL_SPOILED_RUNS=1000 for the long one. A flip in a number's last bits is within any gate: see the bound."""
    need(name)
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.telemetry.spoiled_lines", name, "1", str(RUNS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60 + 2 * RUNS, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["runs"] == RUNS
    assert told["hangs"] == told["left"] == 0
    assert told["spoiled"] > 0
    assert told["worst_hz"] <= 0.15  # the gate's largest step believed at once


# ---- the library


def test_a_library_that_answers_otherwise_is_refused_by_name() -> None:
    need("libiec61850")
    loaded = library.load()
    selftest.check(loaded.call, loaded.leaf)
    for table, name, answer in (
        ("leaf", "MmsValue_toDouble", lambda _: 49.0),
        ("leaf", "MmsValue_getType", lambda _: 0),
        ("leaf", "MmsValue_getBitStringAsInteger", lambda _: 0x20B),
        ("leaf", "MmsValue_getOctetStringSize", lambda _: 4),
        ("leaf", "MmsValue_getElement", lambda value, index: loaded.leaf.MmsValue_getElement(value, index % 3)),
        ("call", "ClientReportControlBlock_getTrgOps", lambda _: 0),
        ("call", "ClientReportControlBlock_getIntgPd", lambda _: 0),
        ("call", "ClientReportControlBlock_getResvTms", lambda _: 65535),
    ):
        spaces = {kind: SimpleNamespace(**getattr(loaded, kind).__dict__) for kind in ("call", "leaf")}
        setattr(spaces[table], name, answer)
        with pytest.raises(LibraryVersion, match=name.replace("Size", "Buffer") + ".*choose backend open61850"):
            selftest.check(spaces["call"], spaces["leaf"])


def test_the_self_test_is_done_at_every_load(monkeypatch: pytest.MonkeyPatch) -> None:
    need("libiec61850")

    def refuse(*_: Any) -> None:
        raise LibraryVersion("not this one")

    library.load.cache_clear()
    monkeypatch.setattr(library, "check", refuse)
    with pytest.raises(LibraryVersion, match="not this one"):
        make_unit("libiec61850", 0)
    library.load.cache_clear()


def test_a_value_the_library_could_not_renew_is_not_read_again() -> None:
    """It writes reports into one tree of values, stops where a type does not fit, and says nothing."""
    need("libiec61850")
    loaded = library.load()
    leaf, new = loaded.leaf, loaded.leaf.MmsValue_createEmptyStructure
    root, magnitude = new(3), new(1)
    number, bits, stamp = leaf.MmsValue_newFloat(0.0), leaf.MmsValue_newBitString(13), leaf.MmsValue_newUtcTime(0)
    for parent, index, child in ((magnitude, 0, number), (root, 0, magnitude), (root, 1, bits), (root, 2, stamp)):
        leaf.MmsValue_setElement(parent, index, child)
    said = SimpleNamespace(**leaf.__dict__)
    said.ClientReport_hasSeqNum = lambda _: False
    said.ClientReport_getDataSetValues = lambda _: holder
    said.ClientReport_getReasonForInclusion = lambda *_: DATA_UPDATE
    holder = new(1)
    leaf.MmsValue_setElement(holder, 0, root)
    reader = Reader(said, Layout((0, 0, 0), (0, 1), (0, 2), (), 1))

    utc = encode_utc(T0_NS, 0x8A)
    leaf.MmsValue_setFloat(number, 50.5)
    leaf.MmsValue_setUtcTimeByBuffer(stamp, utc)
    assert reader.report(1)[:5] == (None, DATA_UPDATE, 50.5, 0, utc)
    with pytest.raises(ValueError, match="another type than before"):  # nothing was written
        reader.report(1)
    leaf.MmsValue_setUtcTimeByBuffer(stamp, utc)  # the time alone
    assert np.isnan(reader.report(1).hz)
    leaf.MmsValue_setFloat(number, 50.25)  # the number alone
    assert reader.report(1).utc == bytes(8)
    leaf.MmsValue_setFloat(number, 50.125)
    leaf.MmsValue_setUtcTimeByBuffer(stamp, utc)
    assert reader.report(1).hz == 50.125
    loaded.call.MmsValue_delete(holder)
