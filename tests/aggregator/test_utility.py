"""What a utility is shown, the settings of its door, the audit, and which of several doors' set-points stands."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator import audit as audits
from aggregator import utility as process
from aggregator.audit import Audit
from aggregator.config import Config, ConfigError, UtilityTable, validate
from aggregator.contracts import Contract, CoreSettings
from aggregator.core import Aggregator
from aggregator.embedded import EmbeddedError, EmbeddedServer, find_binary
from aggregator.figures import live as live_figures
from aggregator.figures import survey
from aggregator.process import logger
from aggregator.utility_figures import DEFAULTS, LOST, door, shown
from droop.products import load
from telemetry import wire
from telemetry.iec61850.mapping import VALIDITY_INVALID
from telemetry.iec61850.utility_model import Kind, Shown
from telemetry.redis_stream import connect
from telemetry.samples import SIGNAL
from tests.telemetry.utility_clients import foreign, need, own, until

S = 1_000_000_000
NOW = 1_700_000_000 * S


def live(**changed: Any) -> dict[str, Any]:
    """Live figures as the worker writes them."""
    return {
        "t_ns": NOW - S // 10, "rx_ns": NOW - S // 10, "now_ns": NOW, "hz": 49.97, "quality": [], "mode": "normal",
        "signal_kw": 12.0, "request_kw": 3.0, "baseline_kw": -4.0, "headroom_up_kw": 100.0, "headroom_down_kw": 80.0,
        "metered_kw": 2.5, "meter_t_ns": NOW - S,
        "capability": {"up_kw": {"15": 90.0, "30": 70.0, "60": 50.0}, "down_kw": {"15": 9.0, "30": 7.0, "60": 5.0}},
        "alarms": [{"code": "SHORTFALL", "severity": "critical"}, {"code": "NO_FLEET", "severity": "warning"}],
        **changed,
    }  # fmt: skip


# ---- figures


def test_fresh_figures_are_shown_as_they_are() -> None:
    got, setpoint_kw = shown(live(), {}, NOW + S)
    assert setpoint_kw == 12.0
    assert {name: figure.value for name, figure in got.items() if not name.startswith("alarm_")} == {
        "power": 2.5, "hz": 49.97, "requested": 3.0, "baseline": -4.0, "headroom_up": 100.0, "headroom_down": 80.0,
        "capability_up_15": 90.0, "capability_up_30": 70.0, "capability_up_60": 50.0, "capability_down_15": 9.0,
        "capability_down_30": 7.0, "capability_down_60": 5.0, "mode": 1, "critical": True, "warning": True,
        "alarms": "SHORTFALL NO_FLEET", "setpoint": 12.0,
    }  # fmt: skip
    assert {name for name, figure in got.items() if name.startswith("alarm_") and figure.value} == {
        "alarm_shortfall", "alarm_no_fleet",
    }  # fmt: skip
    assert all(figure.quality == 0 for figure in got.values())
    assert (got["hz"].t_ns, got["power"].t_ns, got["requested"].t_ns) == (NOW - S // 10, NOW - S, NOW)
    assert got.keys() == {point.figure for point in DEFAULTS}


def test_a_figure_that_is_not_current_says_so() -> None:
    for change, figure, quality in (
        ({"metered_kw": None}, "power", VALIDITY_INVALID),
        ({"meter_t_ns": NOW - 6 * S}, "power", LOST),
        ({"hz": None}, "hz", VALIDITY_INVALID),
        ({"quality": ["dead_bus"]}, "hz", VALIDITY_INVALID),
        ({"t_ns": NOW - 3 * S}, "hz", LOST),
        ({"capability": {}}, "capability_up_15", VALIDITY_INVALID),
        ({"request_kw": None}, "requested", VALIDITY_INVALID),
    ):
        got, setpoint_kw = shown(live(**change), {}, NOW)
        assert got[figure].quality == quality, change
        assert setpoint_kw == 12.0
        assert got["baseline"].quality == 0


def test_silence_marks_everything_and_takes_the_promises_back() -> None:
    before, _ = shown(live(), {}, NOW)
    for stale, now_ns in ((live(), NOW + 2 * S + 1), (None, NOW), (live(), NOW - 3 * S)):
        got, setpoint_kw = shown(stale, before, now_ns)
        assert setpoint_kw is None
        assert all(figure.quality == LOST for figure in got.values())
        assert (got["power"].value, got["hz"].value, got["power"].t_ns) == (2.5, 49.97, NOW - S)
        assert {got[f"headroom_{way}"].value for way in ("up", "down")} == {0.0}
        assert {figure.value for name, figure in got.items() if name.startswith("capability")} == {0.0}
    never, _ = shown(None, {}, NOW)
    assert never["power"] == Shown(0.0, 0, LOST)
    assert never["alarms"] == Shown("", 0, LOST)


def test_every_live_figure_of_a_real_core_is_understood() -> None:
    core = core_of(1000.0)
    core.on_time(NOW)
    figures = orjson.loads(orjson.dumps(live_figures(core, NOW, survey(core, NOW)), option=orjson.OPT_SERIALIZE_NUMPY))
    got, setpoint_kw = shown(figures, {}, NOW)
    assert setpoint_kw == 0.0
    assert got["requested"].value == figures["request_kw"]
    assert got["hz"].quality & VALIDITY_INVALID
    assert got["capability_up_60"] == Shown(figures["capability"]["up_kw"]["60"], NOW)


# ---- the door's settings


def test_names_are_settings() -> None:
    table = UtilityTable(names={"power": "MMXU2.TotW", "setpoint": "DGEN1.OutWSet"}, ied="AGGR", device="EV")
    made = door(table, 500.0, NOW)
    found = {point.figure: point.reference for point in made.model.points}
    assert made.model.domain == "AGGREV"
    assert (found["power"], found["setpoint"], found["hz"]) == ("MMXU2.TotW", "DGEN1.OutWSet", "MMXU1.Hz")
    assert made.limits.most_kw == 500.0
    assert made.limits.categories == {3, 6}
    assert made.tls is None
    references = [point.reference for point in DEFAULTS]
    assert len(set(references)) == len(references)
    assert [point.reference for point in DEFAULTS if point.kind is Kind.SETPOINT] == ["DRCC1.OutWSet"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"names": {"powr": "MMXU1.TotW"}}, "names.powr: no such figure; did you mean power?"),
        ({"names": {"power": "MMXU1"}}, "power: 'MMXU1' is no LN.DO"),
        ({"names": {"power": "MMXU1.Hz"}}, "hz: power is MMXU1.Hz already"),
        ({"ied": "no good"}, "'no good': names of an IED"),
        ({"cert": "a.pem"}, "key: TLS needs both"),
        ({"client": [{"name": "tso", "cert": "a.pem"}]}, "client: certificates mean nothing without TLS"),
        ({"cert": "a.pem", "key": "a.key", "local_operate": True}, "local_operate: with TLS"),
        ({"cert": "a.pem", "key": "a.key"}, "cert: a.pem is no certificate"),
    ],
)
def test_what_cannot_be_is_named(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"`utility`: {message}"):
        door(UtilityTable(**table), 1.0, NOW)


def test_unknown_keys_are_named_with_the_nearest() -> None:
    for table, message in (
        ({"utility": {"prt": 1}}, "unknown key `utility.prt`; did you mean `utility.port`"),
        (
            {"utility": {"client": [{"name": "a", "cert": "b", "operat": True}]}},
            "did you mean `utility.client.0.operate`",
        ),
        ({"utility": {"control": "sbo"}}, "`utility.control`"),
    ):
        with pytest.raises(ConfigError, match=message):
            validate(table, "c.toml")
    assert Config().utility is None
    assert validate({"utility": {}}, "c.toml").utility == UtilityTable()


# ---- the audit


def lines(audit: Audit) -> list[dict[str, Any]]:
    return [orjson.loads(row) for row in audit.path.read_bytes().splitlines()]


def test_the_audit_holds_a_line_an_event_for_its_owner_alone(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "audit", "utility")
    audit.flush()
    audit.put("operate", NOW, client="tso", power_kw=float("nan"))
    audit.flush()
    again = Audit(tmp_path / "audit", "utility")  # the next life appends
    again.put("published", NOW + 1, entry="1-1")
    again.flush()
    assert lines(audit) == [
        {"what": "operate", "t_ns": NOW, "client": "tso", "power_kw": None},
        {"what": "published", "t_ns": NOW + 1, "entry": "1-1"},
    ]
    assert stat.S_IMODE(audit.path.stat().st_mode) == 0o600


def test_whoever_knocks_does_not_fill_the_disk(tmp_path: Path) -> None:
    audit = Audit(tmp_path, "utility")
    for k in range(1000):
        audit.put("refused", NOW + k)
    audit.put("operate", NOW)
    audit.put("refused", NOW + S)
    audit.flush()
    assert [row["what"] for row in lines(audit)] == ["refused"] * 100 + ["operate", "refused"]
    assert lines(audit)[-1]["unwritten"] == audit.unwritten == 900


def test_a_disk_that_is_full_drops_the_newest_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audits, "EVENTS_MAX", 3)
    audit = Audit(tmp_path, "utility")
    audit.path.unlink()
    audit.path.mkdir()
    for k in range(5):
        audit.put("operate", NOW + k)
    with pytest.raises(OSError, match="directory"):
        audit.flush()
    audit.path.rmdir()
    audit.flush()
    assert [row["t_ns"] - NOW for row in lines(audit)] == [0, 1, 2]
    assert lines(audit)[-1]["dropped"] == 2
    assert audit.lines == 3


# ---- the process


class Running:
    """The process' loop in a thread of the test, on a store of its own."""

    def __init__(self, url: str, folder: Path, **table: Any) -> None:
        self.told = False
        settings = UtilityTable(port=0, local_operate=True, control="direct", interval_s=0.0, **table)
        config = Config(utility=settings, folder=folder)
        made = door(settings, 100.0, time.time_ns())
        self.utility = process.Utility(config, made, url, folder, logger("utility", "warning"))
        self.thread = threading.Thread(target=lambda: asyncio.run(self.utility.run(self)))  # type: ignore[arg-type]
        self.thread.start()
        until(self.listens)

    def listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.utility.server.port), 5.0):
            return True
        return False

    def __bool__(self) -> bool:
        return self.told

    def end(self) -> None:
        self.told = True
        self.thread.join(30)
        assert not self.thread.is_alive()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Running, EmbeddedServer]]:
    need("libiec61850", "open61850")
    try:
        find_binary()
    except EmbeddedError as error:
        pytest.skip(f"no embedded store: {error}")
    with EmbeddedServer() as server:
        made = Running(server.url, tmp_path)
        try:
            yield made, server
        finally:
            made.end()


def say(server: EmbeddedServer, **changed: Any) -> None:
    now_ns = time.time_ns()
    row = live(**{"t_ns": now_ns, "rx_ns": now_ns, "now_ns": now_ns, "meter_t_ns": now_ns, **changed})
    connect(server.url).set("live:ce", orjson.dumps(row))


def headroom(client: Any) -> tuple[float, bytes]:
    from open61850.mms.pdu import ObjectName

    value, quality, _ = client.read(ObjectName("DRCS1$MX$HdrUp", "FLYBALLVPP")).members
    return value.members[0].value, quality.value


def test_a_command_is_on_the_stream_before_it_is_confirmed(running: tuple[Running, EmbeddedServer]) -> None:
    made, server = running
    say(server)
    with foreign(made.utility.server.port) as reader, own(made.utility.server.port) as client:
        until(lambda: headroom(reader) == (100.0, b"\0\0"))
        say(server)
        assert client.operate(33.0) is None
        until(lambda: client.terminations)
        assert client.terminations == [0]
        entry = connect(server.url).xrevrange("signal:ce:u1", count=1)[0]  # type: ignore[index]
    row = wire.decode(entry[1][b"b"])[0]
    assert (row["power_kw"], row["source"], row["quality"]) == (33.0, 2, 0)
    assert row["valid_until_ns"] - row["t_ns"] == 60 * S
    until(lambda: [row["what"] for row in lines(made.utility._audit)] == ["started", "operate", "published"])
    assert lines(made.utility._audit)[-1]["entry"] == entry[0].decode()


def test_a_store_that_is_away_is_answered_and_marked(running: tuple[Running, EmbeddedServer]) -> None:
    made, server = running
    say(server)
    with foreign(made.utility.server.port) as reader, own(made.utility.server.port) as client:
        until(lambda: headroom(reader) == (100.0, b"\0\0"))
        say(server, now_ns=time.time_ns() + S)  # so that it is heard for three seconds more
        until(lambda: (made.utility._read or {})["now_ns"] > time.time_ns())
        server.stop()
        assert client.operate(33.0) is None
        until(lambda: client.terminations)
        assert client.terminations == [23]
        until(lambda: headroom(reader) == (0.0, b"\x41\0"))
        assert client.operate(34.0) == 13
    until(lambda: "failed" in [row["what"] for row in lines(made.utility._audit)])


def test_a_store_that_hesitates_makes_figures_older_and_not_void(tmp_path: Path) -> None:
    need("libiec61850")
    table = UtilityTable(port=0)
    url = f"unix://{tmp_path}/nowhere.sock"
    made = process.Utility(
        Config(utility=table), door(table, 1.0, NOW), url, tmp_path, logger("utility", "warning")
    )  # fmt: skip
    made._read = live()

    async def read() -> dict[str, Any] | None:
        try:
            return await made._live()
        finally:
            await made._store.aclose()

    assert asyncio.run(read()) == live()


def test_figures_of_another_version_are_as_good_as_none(running: tuple[Running, EmbeddedServer]) -> None:
    made, server = running
    say(server)
    with foreign(made.utility.server.port) as reader:
        until(lambda: headroom(reader) == (100.0, b"\0\0"))
        for data in (b"[]", b"{", orjson.dumps(live(mode="other")), orjson.dumps({"now_ns": time.time_ns()})):
            connect(server.url).set("live:ce", data)
            until(lambda: headroom(reader) == (0.0, b"\x41\0"))
            say(server)
            until(lambda: headroom(reader) == (100.0, b"\0\0"))
        assert headroom(reader) == (100.0, b"\0\0")
    until(lambda: orjson.loads(connect(server.url).get("stats:ce:utility") or b"{}").get("live_not_understood"))  # type: ignore[arg-type]


# ---- several doors


def core_of(signal_max_kw: float) -> Aggregator:
    return Aggregator(CoreSettings("ce", 4, (Contract(load("ce_fcr"), 1.0),), signal_max_kw=signal_max_kw))


def said(power_kw: float, t_ns: int, source: int, valid_s: float = 60.0) -> Any:
    row = np.zeros(1, SIGNAL)
    row["t_ns"] = row["rx_ns"] = t_ns
    row["valid_until_ns"] = t_ns + int(valid_s * S)
    row["power_kw"], row["source"] = power_kw, source
    return row


def test_of_two_doors_the_one_accepted_last_stands_in_whatever_order_they_are_read() -> None:
    core = core_of(1000.0)
    core.on_signal(said(10.0, NOW, 1), NOW + S)
    core.on_signal(said(20.0, NOW + S, 2), NOW + S)
    assert core.signal_kw_at(NOW + S) == 20.0
    core.on_signal(said(30.0, NOW + S // 2, 1), NOW + S)  # said before, read after
    assert core.signal_kw_at(NOW + S) == 20.0
    assert core.rejected() == {"signal_older": 1}
    core.on_signal(said(40.0, NOW + 2 * S, 1), NOW + 2 * S)
    assert core.signal_kw_at(NOW + 2 * S) == 40.0


def test_an_older_set_point_does_not_come_back_when_the_newer_expires() -> None:
    for order in ((0, 1), (1, 0)):
        core = core_of(1000.0)
        blocks = [said(10.0, NOW, 1, 3600.0), said(20.0, NOW + S, 2, 1.0)]
        for k in order:
            core.on_signal(blocks[k], NOW + 5 * S)  # as a worker reads them that begins again
        assert core.signal_kw_at(NOW + 5 * S) == 0.0


def test_one_door_whose_clock_was_set_back_is_still_heard() -> None:
    core = core_of(1000.0)
    core.on_signal(said(10.0, NOW, 1), NOW)
    core.on_signal(said(20.0, NOW - 3600 * S, 1, 7200.0), NOW + S)
    assert core.signal_kw_at(NOW + S) == 20.0
    # And one whose clock runs ahead shuts the other out for no longer than now.
    core.on_signal(said(30.0, NOW + 3600 * S, 1), NOW + 2 * S)
    core.on_signal(said(40.0, NOW + 3 * S, 2), NOW + 3 * S)
    assert core.signal_kw_at(NOW + 3 * S) == 40.0


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.integers(1, 3), st.integers(-100, 100)), min_size=1, unique_by=lambda x: x[0]
    )
)
def test_the_last_said_stands_however_the_doors_are_interleaved(rows: list[tuple[int, int, int]]) -> None:
    """Each door's own order is kept by its stream; what comes between is chance."""
    core = core_of(1000.0)
    doors = {k: sorted(row for row in rows if row[1] == k) for k in (1, 2, 3)}
    order = [row[1] for row in rows]  # a random interleaving of the doors
    for number in order:
        t_s, source, power_kw = doors[number].pop(0)
        core.on_signal(said(float(power_kw), NOW + t_s * S, source, 3600.0), NOW + 60 * S)
    assert core.signal_kw_at(NOW + 60 * S) == float(max(rows)[2])
