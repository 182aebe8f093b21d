"""The utility's server against libiec61850's own client and open61850's: shown, let in, refused."""

from __future__ import annotations

import contextlib
import ctypes
import math
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telemetry.iec61850 import CertificateError, PortInUse, ServerError, UnsafeBind, commands, make_client
from telemetry.iec61850 import library as ied
from telemetry.iec61850.commands import Event, Ticket
from telemetry.iec61850.control import AddCause, Judge, Limits
from telemetry.iec61850.mapping import OLD_DATA, VALIDITY_INVALID
from telemetry.iec61850.pins import Tls, pin, tls
from telemetry.iec61850.utility import UtilityServer
from telemetry.iec61850.utility_model import Kind, Model, Point, Shown
from tests.telemetry.utility_clients import Papers, foreign, need, own, tunnel, until

POINTS = (
    Point("power", "MMXU1.TotW", Kind.MEASURED, "kW", "power"),
    Point("hz", "MMXU1.Hz", Kind.MEASURED, "Hz", "frequency"),
    Point("mode", "DRCS1.OpMod", Kind.CODE, "", "mode"),
    Point("alarm", "CALH1.GrAlm", Kind.FLAG, "", "alarm"),
    Point("text", "CALH1.AlmTxt", Kind.TEXT, "", "codes"),
    Point("setpoint", "DRCC1.OutWSet", Kind.SETPOINT, "kW", "set-point"),
)
QUICK = Limits(100.0, interval_s=0.0)
REFERENCE = "FLYBALLVPP/DRCC1.OutWSet"
VALUES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "MmsValue_newFloat": (ctypes.c_void_p, (ctypes.c_float,)),
    "MmsValue_newBoolean": (ctypes.c_void_p, (ctypes.c_bool,)),
    "MmsValue_newIntegerFromInt32": (ctypes.c_void_p, (ctypes.c_int32,)),
    "MmsValue_createEmptyStructure": (ctypes.c_void_p, (ctypes.c_int,)),
    "MmsValue_setElement": (None, (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)),
}


class Served:
    """A server with everything it told."""

    def __init__(self, server: UtilityServer, tickets: list[Ticket], events: list[Event]) -> None:
        self.server, self.tickets, self.events = server, tickets, events

    @property
    def powers(self) -> list[float]:
        return [ticket.request.power_kw for ticket in self.tickets]

    def told(self, what: str) -> list[Event]:
        return [event for event in self.events if event.what == what]


@contextlib.contextmanager
def serving(
    control: Any = "direct", limits: Limits = QUICK, settle: Callable[[Ticket], None] = Ticket.settle,
    select_s: float = 30.0, judge: Judge | None = None, heard: bool = True, **more: Any,
) -> Iterator[Served]:  # fmt: skip
    need("libiec61850")
    tickets: list[Ticket] = []
    events: list[Event] = []

    def command(ticket: Ticket) -> None:
        tickets.append(ticket)
        settle(ticket)

    more.setdefault("local", True)
    model = Model("FLYBALL", "VPP", POINTS, control, select_s)
    server = UtilityServer(model, judge or Judge(limits), command, events.append, **more)
    server.start()
    try:
        if heard:
            server.show({}, 0.0)
        yield Served(server, tickets, events)
    finally:
        server.stop()


def read(client: Any, item: str) -> Any:
    from open61850.mms.pdu import ObjectName

    return client.read(ObjectName(item, "FLYBALLVPP"))


def command(client: Any, value: Any, **more: Any) -> Any:
    """The AddCause and the error of a refusal by open61850's client, or None."""
    from open61850.mms import control

    category = more.pop("category", 3)
    try:
        control.operate(client, REFERENCE, value, origin=control.Origin(category, b"tso"), **more)
    except control.ControlError as error:
        return error.last_appl_error.add_cause if error.last_appl_error else str(error)
    return None


def analogue(power_kw: float) -> Any:
    from open61850.data import FloatData, StructureData

    return StructureData([FloatData(power_kw)])


# ---- figures


def test_what_is_shown_is_read_with_its_time_quality_unit_and_description() -> None:
    need("open61850")
    t_ns = 1_700_000_000_250_000_000
    with serving() as served, foreign(served.server.port) as client:
        never = read(client, "MMXU1$MX$TotW").members
        assert never[1].value[0] & 0xC0 == 0x40  # invalid, before anything was shown
        assert never[1].value[0] & 0x01  # old data: bit 7
        assert read(client, "CALH1$ST$AlmTxt").members[0].value == ""
        served.server.show(
            {
                "power": Shown(-123.25, t_ns), "hz": Shown(49.5, t_ns, VALIDITY_INVALID | OLD_DATA),
                "mode": Shown(3, t_ns), "alarm": Shown(True, t_ns), "text": Shown("DEAD_BUS SHORTFALL", t_ns),
                "setpoint": Shown(40.0, t_ns),
            },
            40.0,
        )  # fmt: skip
        magnitude, quality, stamp = read(client, "MMXU1$MX$TotW").members
        assert magnitude.members[0].value == -123.25
        assert quality.value == b"\0\0"
        assert stamp.value == datetime.fromtimestamp(1_700_000_000, UTC) + timedelta(milliseconds=250)
        assert read(client, "MMXU1$MX$Hz").members[1].value[0] == 0b0100_0001
        assert read(client, "DRCS1$ST$OpMod").members[0].value == 3
        assert read(client, "CALH1$ST$GrAlm").members[0].value is True
        assert read(client, "CALH1$ST$AlmTxt").members[0].value == "DEAD_BUS SHORTFALL"
        assert read(client, "DRCC1$MX$OutWSet$mxVal").members[0].value == 40.0
        assert [n.value for n in read(client, "MMXU1$CF$TotW$units").members] == [62, 3]  # W, kilo
        assert [n.value for n in read(client, "MMXU1$CF$Hz$units").members] == [33, 0]
        assert read(client, "MMXU1$DC$TotW$d").value == "power"
        assert read(client, "LLN0$ST$Mod$stVal").value == 1


def test_changes_are_reported_to_a_subscriber() -> None:
    rows: list[Any] = []
    with serving() as served:
        client = make_client(
            "libiec61850", "127.0.0.1", served.server.port, "FLYBALLVPP/LLN0.RP.figuresU01", integrity_ms=60_000,
            silent_after_s=60.0,
        )  # fmt: skip
        client.start(rows.append)
        try:
            until(lambda: client.status().connected)
            sent = [(1_700_000_000 + k) * 10**9 for k in range(5)]
            for k, t_ns in enumerate(sent):
                served.server.show({"hz": Shown(50.0 + k / 8, t_ns)}, 0.0)
                until(lambda k=k: len(rows) > k)
            served.server.show({"hz": Shown(50.5, sent[-1])}, 0.0)  # nothing new: no report
            served.server.show({"hz": Shown(50.5, sent[-1], VALIDITY_INVALID)}, 0.0)
            until(lambda: len(rows) > 5)
        finally:
            client.stop()
    got = np.concatenate(rows)
    assert got["hz"].tolist() == [50.0, 50.125, 50.25, 50.375, 50.5, 50.5]
    assert np.abs(got["t_ns"][:5] - sent).max() <= 60
    assert (got["quality"][:5] == 0).all()
    assert got["quality"][5] != 0


def test_nothing_but_the_set_point_can_be_written() -> None:
    need("open61850")
    from open61850.data import FloatData, IntData, UIntData, VisibleStringData
    from open61850.mms.errors import DataAccessError
    from open61850.mms.pdu import ObjectName

    with serving("select") as served, foreign(served.server.port) as client:
        for item, value in (
            ("DRCC1$CF$OutWSet$ctlModel", IntData(3)), ("DRCC1$CF$OutWSet$sboTimeout", UIntData(1)),
            ("MMXU1$MX$TotW$mag$f", FloatData(1.0)), ("LLN0$ST$Mod$stVal", IntData(5)),
            ("MMXU1$DC$TotW$d", VisibleStringData("x")), ("MMXU1$CF$TotW$units$multiplier", IntData(6)),
            ("DRCC1$MX$OutWSet$mxVal$f", FloatData(1.0)),
        ):  # fmt: skip
            before = read(client, item)
            with pytest.raises(DataAccessError):
                client.write(ObjectName(item, "FLYBALLVPP"), value)
            assert read(client, item) == before


# ---- commands


@pytest.mark.parametrize(("control", "number"), [("direct", 3), ("select", 4)])
def test_the_librarys_client_operates(control: str, number: int) -> None:
    with serving(control) as served, own(served.server.port, ident="control room 7", category=6) as client:
        assert client.model == number
        if control == "select":
            assert client.operate(50.0) == 18  # object not selected
            assert client.select(50.0) is None
        assert client.operate(50.0) is None
        until(lambda: client.terminations)
        assert client.terminations == [0]
        assert served.powers == [50.0]
        request = served.tickets[0].request
        assert (request.ident, request.category, request.client) == (b"control room 7", 6, "loopback")
        assert request.address.startswith("127.0.0.1:")
        assert abs(request.t_ns - time.time_ns()) < 60e9
        assert [event.what for event in served.events if event.what != "cancelled"] == (
            ["select", "operate"] if control == "select" else ["operate"]
        )
        assert served.server.counts["confirmed"] == 1


@pytest.mark.parametrize("control", ["direct", "select"])
def test_a_client_we_did_not_write_operates(control: str) -> None:
    need("open61850")
    with serving(control) as served, foreign(served.server.port) as client:
        for power_kw in (50.0, -12.5, 0.0, 100.0, -100.0):
            assert command(client, analogue(power_kw)) is None
        assert served.powers == [50.0, -12.5, 0.0, 100.0, -100.0]


@pytest.mark.parametrize("control", ["direct", "select"])
def test_refusals_carry_their_cause_and_move_nothing(control: str) -> None:
    need("open61850")
    limits = Limits(100.0, step_kw=60.0, interval_s=0.0, age_s=10.0)
    with serving(control, limits) as served, foreign(served.server.port) as client:
        for refused, cause, reason in (
            (command(client, analogue(100.5)), AddCause.INCONSISTENT_PARAMETERS, "range"),
            (command(client, analogue(-1e30)), AddCause.INCONSISTENT_PARAMETERS, "range"),
            (command(client, analogue(math.nan)), AddCause.INCONSISTENT_PARAMETERS, "value"),
            (command(client, analogue(math.inf)), AddCause.INCONSISTENT_PARAMETERS, "value"),
            (command(client, analogue(61.0)), AddCause.STEP_LIMIT, "step"),
            (command(client, analogue(1.0), test=True), AddCause.BLOCKED_BY_MODE, "test"),
            (command(client, analogue(1.0), category=2), AddCause.BLOCKED_BY_SWITCHING_HIERARCHY, "origin"),
        ):
            assert refused == cause, reason
        reasons = [event.reason for event in served.told("refused")]
        assert reasons == ["range", "range", "value", "value", "step", "test", "origin"]
        assert served.server.counts.total() == 7
        assert not served.tickets
        # A client that stays is served on.
        assert command(client, analogue(60.0)) is None
        served.server.show({}, 60.0)
        assert command(client, analogue(100.0)) is None
        assert served.powers == [60.0, 100.0]


def test_a_value_of_another_type_is_refused_before_it_is_looked_at() -> None:
    need("open61850")
    with serving() as served, foreign(served.server.port) as client:
        for value in (5.0, 5, True):
            assert "type-inconsistent" in command(client, value)
        assert not served.tickets


def test_a_number_is_read_from_both_forms_of_a_value_and_from_nothing_else() -> None:
    with serving() as served:
        make = ied.declare(ctypes.CDLL(ied.load().path), VALUES)

        def structure(*members: int) -> int:
            made = make.MmsValue_createEmptyStructure(len(members))
            for place, member in enumerate(members):
                make.MmsValue_setElement(made, place, member)
            return int(made)

        number = served.server._commands.number
        assert number(make.MmsValue_newFloat(-2.5)) == -2.5
        assert number(structure(make.MmsValue_newFloat(7.25))) == 7.25
        for wrong in (
            None, make.MmsValue_newBoolean(True), make.MmsValue_newIntegerFromInt32(5), structure(),
            structure(make.MmsValue_newIntegerFromInt32(5)), structure(structure(make.MmsValue_newFloat(1.0))),
            structure(make.MmsValue_newFloat(1.0), make.MmsValue_newFloat(2.0)),
        ):  # fmt: skip
            assert math.isnan(number(wrong))


def test_a_command_that_was_long_on_its_way_is_refused() -> None:
    need("open61850")
    from open61850.mms import control
    from open61850.mms.errors import DataAccessError
    from open61850.mms.pdu import ObjectName

    oper = ObjectName("DRCC1$CO$OutWSet$Oper", "FLYBALLVPP")
    origin = control.Origin(3, b"tso")
    with serving() as served, foreign(served.server.port) as client:
        for off_s in (-11, 11, -86_400):
            value = control.oper_value(
                analogue(5.0), origin=origin, ctl_num=1, t=datetime.now(UTC) + timedelta(seconds=off_s)
            )
            with pytest.raises(DataAccessError):
                client.write(oper, value)
        assert [event.cause for event in served.told("refused")] == [AddCause.TIME_LIMIT_OVER] * 3
        client.write(oper, control.oper_value(analogue(5.0), origin=origin, ctl_num=1))
        until(lambda: served.powers == [5.0])


def test_too_fast_is_refused_until_the_interval_is_over() -> None:
    with serving("direct", Limits(100.0, interval_s=3600.0)) as served, own(served.server.port) as client:
        assert client.operate(10.0) is None
        until(lambda: served.server.counts["confirmed"])
        assert client.operate(20.0) == AddCause.BLOCKED_BY_PROCESS
        assert served.powers == [10.0]


def test_without_news_of_the_fleet_nothing_is_let_in() -> None:
    with serving("direct", heard=False) as served, own(served.server.port) as client:
        assert client.operate(10.0) == AddCause.BLOCKED_BY_HEALTH
        served.server.show({}, 0.0)
        assert client.operate(10.0) is None
        served.server.show({}, None)
        until(lambda: served.server.counts["confirmed"])
        assert client.operate(11.0) == AddCause.BLOCKED_BY_HEALTH
        assert served.powers == [10.0]


def test_on_loopback_a_program_reads_and_operates_only_where_that_is_allowed() -> None:
    with serving("direct", local=False) as served, own(served.server.port) as client:
        assert client.operate(10.0) == AddCause.NO_ACCESS_AUTHORITY
        assert served.told("refused")[0].request.client == "loopback"  # type: ignore[union-attr]
        assert not served.tickets


def test_one_selection_at_a_time_and_only_its_owner_operates() -> None:
    with serving("select") as served, own(served.server.port) as ours, own(served.server.port) as other:
        assert ours.select(10.0) is None
        assert other.select(20.0) == 19  # object already selected
        assert other.operate(20.0) == 27  # locked by other client
        assert not other.cancel()
        assert ours.operate(10.0) is None
        until(lambda: ours.terminations)
        assert served.powers == [10.0]
        assert other.select(20.0) is None  # an operate ends the selection
        other.close()
        until(lambda: served.told("disconnected"))
        assert ours.select(30.0) is None
        assert ours.cancel()
        assert served.told("cancelled")
        assert ours.operate(30.0) == 18  # object not selected
        assert served.powers == [10.0]


def test_what_is_operated_is_what_was_selected() -> None:
    with serving("select") as served, own(served.server.port) as client:
        assert client.select(10.0) is None
        assert client.operate(99.0) == 26  # inconsistent parameters
        assert not served.tickets


def test_a_selection_lapses() -> None:
    with serving("select", select_s=0.2) as served, own(served.server.port) as client:
        assert client.select(10.0) is None
        until(lambda: served.told("lapsed"))
        assert client.operate(10.0) == 18
        assert not served.tickets


def test_a_command_that_could_not_be_carried_out_is_terminated_with_its_cause() -> None:
    def fail(ticket: Ticket) -> None:
        ticket.settle(AddCause.COMMUNICATION_LOST)

    with serving(settle=fail) as served, own(served.server.port) as client:
        assert client.operate(10.0) is None
        until(lambda: client.terminations)
        assert client.terminations == [AddCause.COMMUNICATION_LOST]
        assert served.server.counts["failed"] == 1


def test_a_command_nobody_settles_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "ANSWER_S", 0.1)
    with serving(settle=lambda _: None) as served, own(served.server.port) as client:
        assert client.operate(10.0) is None
        until(lambda: client.terminations)
        assert client.terminations == [AddCause.TIME_LIMIT_OVER]
        served.tickets[0].settle()  # late: means nothing any more
        assert client.operate(20.0) is None
        until(lambda: len(client.terminations) == 2)
        assert served.powers == [10.0, 20.0]


def test_while_one_is_under_way_another_is_refused_and_a_client_that_leaves_blocks_nobody() -> None:
    with serving(settle=lambda _: None) as served, own(served.server.port) as client:
        with own(served.server.port) as hasty:
            assert hasty.operate(10.0) is None
            until(lambda: served.tickets)
            assert client.operate(20.0) == 12  # command already in execution
        until(lambda: served.server.connections == 1)
        served.tickets[0].settle()
        until(lambda: client.operate(30.0) is None)
        until(lambda: len(served.tickets) == 2)
        served.tickets[1].settle()
        until(lambda: client.terminations)
        assert client.terminations == [0]
        assert served.powers == [10.0, 30.0]


def test_an_exception_in_a_handler_refuses_and_stops_nothing() -> None:
    class Broken(Judge):
        def refuse(self, *_: Any) -> Any:
            raise RuntimeError("no judgement")

    with serving(judge=Broken(QUICK)) as served, own(served.server.port) as client:
        assert client.operate(10.0) is not None
        assert client.operate(10.0) is not None
        assert served.server.counts["refused_fault"] == 2
        assert not served.tickets

    def explode(_: Ticket) -> None:
        raise RuntimeError("no room")

    with serving(settle=explode) as served, own(served.server.port) as client:
        client.operate(10.0)
        until(lambda: served.server.counts["fault"])
        until(lambda: client.terminations)
        assert served.server.counts["confirmed"] == 0


def test_it_stops_under_traffic_with_a_command_under_way_and_starts_again() -> None:
    need("open61850")
    with serving(settle=lambda _: None) as served:
        port, ended = served.server.port, threading.Event()

        def knock() -> None:
            with contextlib.suppress(Exception), foreign(port) as client:
                while not ended.is_set():
                    read(client, "MMXU1$MX$TotW")

        knockers = [threading.Thread(target=knock) for _ in range(3)]
        for knocker in knockers:
            knocker.start()
        with own(port) as client:
            assert client.operate(10.0) is None
            until(lambda: served.tickets)
            stopper = threading.Thread(target=served.server.stop)
            stopper.start()
            stopper.join(20.0)
            assert not stopper.is_alive(), "hangs"
            ended.set()
        for knocker in knockers:
            knocker.join(30.0)
        served.tickets[0].settle()  # to nobody any more
        served.server.start()
        served.server.show({}, 0.0)
        with own(port) as client:
            assert client.operate(20.0) is None
            until(lambda: served.powers == [10.0, 20.0])


def test_noise_on_the_port_moves_nothing_and_disturbs_nobody() -> None:
    seeded = random.Random(4)  # noqa: S311
    cotp = bytes.fromhex("0300001611e00000000100c0010dc2020001c1020000")  # a connection request, and noise behind it
    with serving() as served, own(served.server.port) as client:
        for k in range(60):
            with socket.create_connection(("127.0.0.1", served.server.port), 5.0) as peer:
                noise = seeded.randbytes(seeded.randrange(1, 400))
                head = b"\x03\x00" + (len(noise) + 4).to_bytes(2, "big") if k % 3 else b""
                with contextlib.suppress(OSError):
                    peer.sendall((cotp if k % 2 else b"") + head + noise)
        assert client.operate(10.0) is None
        until(lambda: client.terminations)
        assert served.powers == [10.0]


# ---- who may come in


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    pytest.importorskip("cryptography")
    return Papers(tmp_path)


def comes_in(port: int, papers: tuple[Path, Path]) -> bool:
    """Whether a client with these papers can read a figure."""
    with tunnel(port, *papers) as plain:
        try:
            with foreign(plain) as client:
                return read(client, "LLN0$ST$Mod$stVal").value == 1
        except Exception:
            return False


def test_over_tls_the_pinned_come_in_and_only_who_may_operates(papers: Papers) -> None:
    need("open61850")
    server, tso, viewer, stranger = (papers.make(name) for name in ("server", "tso", "viewer", "stranger"))
    late = papers.make("late", (-3, -1))
    pins = [pin("tso", tso[0], True), pin("viewer", viewer[0], False), pin("late", late[0], True)]
    made = tls(*server, pins, time.time_ns())
    with serving(tls=made, host="127.0.0.1", local=False) as served:
        port = served.server.port
        assert comes_in(port, tso)
        assert comes_in(port, viewer)
        assert not comes_in(port, stranger)
        assert not comes_in(port, papers.forge(tso[0]))
        assert not comes_in(port, late)
        with contextlib.suppress(Exception), foreign(port) as client:
            pytest.fail(f"plain text was served: {read(client, 'LLN0$ST$Mod$stVal')}")
        with tunnel(port, *viewer) as plain, foreign(plain) as client:
            assert command(client, analogue(5.0)) == AddCause.NO_ACCESS_AUTHORITY
        with tunnel(port, *tso) as plain, foreign(plain) as client:
            assert command(client, analogue(6.0)) is None
        assert served.powers == [6.0]
        assert served.tickets[0].request.client == "tso"
        assert served.told("refused")[0].request.client == "viewer"  # type: ignore[union-attr]
        assert {event.reason for event in served.told("refused_client")} == {"certificate_out_of_time"}
        # Whatever the library lets in, the last word is ours: octet by octet.
        served.server._by_octets = {pins[1].octets: 2, tso[1].read_bytes(): 1}
        assert not comes_in(port, tso)
        assert comes_in(port, viewer)
        assert served.events[-1].reason == "certificate_unknown"


def test_what_cannot_be_served_is_named(papers: Papers, tmp_path: Path) -> None:
    need("libiec61850")
    server, tso = papers.make("server"), papers.make("tso")
    now_ns = time.time_ns()
    model = Model("FLYBALL", "VPP", POINTS)
    for host in ("0.0.0.0", "192.0.2.1", "example.org"):  # noqa: S104 - it is refused
        with pytest.raises(UnsafeBind, match="no TLS"):
            UtilityServer(model, Judge(QUICK), lambda _: None, lambda _: None, host=host)
    with pytest.raises(CertificateError, match=r"client.cert of tso: .*none\.pem"):
        pin("tso", tmp_path / "none.pem", True)
    with pytest.raises(CertificateError, match="none is pinned"):
        tls(*server, [], now_ns)
    with pytest.raises(CertificateError, match="does not go with"):
        tls(server[0], tso[1], [pin("tso", tso[0], True)], now_ns)
    with pytest.raises(CertificateError, match="not within its time"):
        tls(*server, [pin("tso", tso[0], True)], now_ns + 10 * 86_400 * 10**9)
    with pytest.raises(CertificateError, match="also that of tso"):
        tls(*server, [pin("tso", tso[0], True), pin("twin", tso[0], False)], now_ns)
    unread = Tls(tso[1], tso[1], (pin("tso", tso[0], True),))
    unserved = UtilityServer(model, Judge(QUICK), lambda _: None, lambda _: None, tls=unread)
    with pytest.raises(CertificateError, match="libiec61850 cannot read it"):
        unserved.start()
    for wrong, message in (
        (POINTS[:-1], "one set-point"),
        ((*POINTS, Point("again", "MMXU1.Hz", Kind.FLAG)), "again: hz is MMXU1.Hz already"),
        ((*POINTS, Point("odd", "MMXU1", Kind.FLAG)), "odd: 'MMXU1' is no LN.DO"),
    ):
        with pytest.raises(ValueError, match=message):
            UtilityServer(model._replace(points=wrong), Judge(QUICK), lambda _: None, lambda _: None)
    with serving() as served:
        with pytest.raises(PortInUse):
            UtilityServer(model, Judge(QUICK), lambda _: None, lambda _: None, port=served.server.port)
        with pytest.raises(ServerError, match="is running"):
            served.server.start()
        served.server.stop()
        served.server.stop()
        with pytest.raises(ServerError, match="not running"):
            served.server.show({}, 0.0)
