"""The server that a utility reads from and operates: figures out, one set-point in, over libiec61850.

It shows what it is given and asks its `Judge` about commands; what a command leads to is the caller's affair: a ticket
is handed over in the library's thread, and settled later from any other. The answer to Oper says that the command was
let in, the CommandTermination that the caller has done with it. Plain listeners on loopback only.

The library's thread never waits and sees no exception, see `commands`. Nothing is queued here.
"""

from __future__ import annotations

import ctypes as c
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from telemetry.iec61850 import control_library as ctl
from telemetry.iec61850 import library as ied
from telemetry.iec61850 import pins, utility_model
from telemetry.iec61850.address import claim
from telemetry.iec61850.commands import Commands, Event, Ticket
from telemetry.iec61850.control import Judge
from telemetry.iec61850.errors import ServerError
from telemetry.iec61850.mapping import OLD_DATA, VALIDITY_INVALID, encode_utc, time_quality
from telemetry.iec61850.utility_model import Kind, Model, Shown

MAX_CONNECTIONS: Final = 8


class UtilityServer:
    """One server with one set-point.

    model      : names, see `utility_model.check`
    judge      : asked in the library's thread, one request at a time
    on_command : takes a ticket; called in the library's thread, must return at once
    on_event   : likewise, for the record
    host, port : where to listen; 0 takes a free port
    tls        : certificate, key and pinned clients; needed unless `host` is loopback
    local      : without TLS, whether a program of this machine may operate

    Raises ValueError, UnsafeBind, CertificateError, PortInUse, ServerError, BackendMissing, LibraryVersion.
    """

    def __init__(
        self,
        model: Model,
        judge: Judge,
        on_command: Callable[[Ticket], None],
        on_event: Callable[[Event], None],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: pins.Tls | None = None,
        local: bool = False,
    ) -> None:
        if tls is None:
            pins.expect_loopback(host)
        self._ied, self._ctl = ied.load(), ctl.load()
        self._shape = utility_model.check(model)
        self._commands = Commands(judge, self._who, on_command, on_event)
        self.host, self.port = host, claim(host, port)
        self._tls, self._local = tls, local
        self._lock = threading.Lock()
        self._model = self._server = self._secrets = 0
        self._handles: dict[str, utility_model.Handles] = {}
        self._shown: dict[str, Shown] = {}
        self._by_octets = {one.octets: place for place, one in enumerate(tls.pins if tls else (), 1)}
        self.connections = 0
        # The library calls them until destroyed: keep them alive.
        self._handlers = ctl.Authenticator(self._admit), ctl.ConnectionHandler(self._connected)

    @property
    def counts(self) -> Counter[str]:
        """What was let in and refused, by reason."""
        return self._commands.counts

    # ---- life

    def start(self) -> None:
        """Listen; every figure is invalid until it is shown. Raises PortInUse, ServerError, CertificateError."""
        call = self._ied.call
        with self._lock:
            if self._server:
                raise ServerError("the utility server is running: stop it before it is started again")
            claim(self.host, self.port)
            self._secrets = pins.configure(self._tls) if self._tls else 0
            self._model = utility_model.build(self._shape)
            self._server = self._create()
            try:
                self._prepare()
            except ServerError:
                self._destroy()
                raise
            call.IedServer_setLocalIpAddress(self._server, self.host.encode())
            call.IedServer_start(self._server, self.port)
            if not call.IedServer_isRunning(self._server):
                self._destroy()
                raise ServerError(f"libiec61850 would not listen on {self.host}:{self.port}: is the address ours?")

    def stop(self) -> None:
        """Stop listening and close every association; a second call does nothing."""
        with self._lock:
            if self._server:
                self._ied.call.IedServer_stop(self._server)
                self._destroy()

    def show(self, figures: Mapping[str, Shown], setpoint_kw: float | None) -> None:
        """Figures by name, all under one lock; those whose value, time and quality have not changed cost nothing.

        setpoint_kw : the set-point in force, from which a step is counted; None: the fleet is not heard, and commands
        are refused

        Raises ServerError if the server is not running, KeyError for a figure the model lacks.
        """
        with self._lock:
            if not self._server:
                raise ServerError("the utility server is not running: start it before showing figures")
            self._commands.shown_kw = setpoint_kw
            points = {point.figure: point for point in self._shape.points}
            changed = [(points[name], shown) for name, shown in figures.items() if self._shown.get(name) != shown]
            self._ied.call.IedServer_lockDataModel(self._server)
            try:
                for point, shown in changed:
                    self._put(point, shown)
            finally:
                self._ied.call.IedServer_unlockDataModel(self._server)

    # ---- setting up, under our lock

    def _create(self) -> int:
        """A server with what is needed and no more; nobody writes but to the set-point."""
        call = self._ied.call
        config = call.IedServerConfig_create()
        call.IedServerConfig_enableFileService(config, False)
        call.IedServerConfig_enableDynamicDataSetService(config, False)
        call.IedServerConfig_enableLogService(config, False)
        call.IedServerConfig_setMaxMmsConnections(config, MAX_CONNECTIONS)
        server = int(call.IedServer_createWithConfig(self._model, self._secrets or None, config))
        call.IedServerConfig_destroy(config)
        for constraint in ctl.WRITABLE:
            self._ctl.call.IedServer_setWriteAccessPolicy(server, constraint, ctl.ACCESS_POLICY_DENY)
        return server

    def _prepare(self) -> None:
        """Constants, handlers, and every figure as never known."""
        self._handles = utility_model.handles(self._shape, self._model, self._server)
        self._set_constants()
        self._install()
        for point in self._shape.points:
            nothing = Shown("" if point.kind is Kind.TEXT else 0.0, 0, VALIDITY_INVALID | OLD_DATA)
            self._put(point, nothing)

    def _set_constants(self) -> None:
        call = self._ctl.call
        for reference, value in utility_model.constants(self._shape):
            node = utility_model.node(self._shape, self._model, reference)
            if isinstance(value, str):
                call.IedServer_updateVisibleStringAttributeValue(self._server, node, value.encode())
            else:
                call.IedServer_updateInt32AttributeValue(self._server, node, value)
        if self._shape.control == "select":
            place = f"{self._shape.setpoint.reference}.{utility_model.SELECTION}"
            node = utility_model.node(self._shape, self._model, place)
            call.IedServer_updateUnsignedAttributeValue(self._server, node, round(self._shape.select_s * 1000))

    def _install(self) -> None:
        call = self._ctl.call
        (check, operate, selected), (admit, connected) = self._commands.handlers, self._handlers
        target = utility_model.node(self._shape, self._model, self._shape.setpoint.reference)
        call.IedServer_setPerformCheckHandler(self._server, target, check, None)
        call.IedServer_setControlHandler(self._server, target, operate, None)
        call.IedServer_setSelectStateChangedHandler(self._server, target, selected, None)
        call.IedServer_setAuthenticator(self._server, admit, None)
        call.IedServer_setConnectionIndicationHandler(self._server, connected, None)

    def _destroy(self) -> None:
        call = self._ied.call
        call.IedServer_destroy(self._server)
        call.IedModel_destroy(self._model)
        if self._secrets:
            self._ctl.call.TLSConfiguration_destroy(self._secrets)
        self._model = self._server = self._secrets = 0
        self._shown.clear()
        self._commands.forget()
        self.connections = 0

    def _put(self, point: utility_model.Point, shown: Shown) -> None:
        """One figure: the time in silence, then quality and value, which trigger once each (see `server`)."""
        call, more, found = self._ied.call, self._ctl.call, self._handles[point.figure]
        self._ied.leaf.MmsValue_setUtcTimeByBuffer(found.time, encode_utc(shown.t_ns, time_quality(shown.t_ns > 0)))
        call.IedServer_updateQuality(self._server, found.quality, shown.quality)
        if point.kind in (Kind.MEASURED, Kind.SETPOINT):
            call.IedServer_updateFloatAttributeValue(self._server, found.value, float(shown.value))
        elif point.kind is Kind.FLAG:
            more.IedServer_updateBooleanAttributeValue(self._server, found.value, bool(shown.value))
        elif point.kind is Kind.CODE:
            more.IedServer_updateInt32AttributeValue(self._server, found.value, int(shown.value))
        else:
            text = str(shown.value).encode("ascii", "replace")[:255]
            more.IedServer_updateVisibleStringAttributeValue(self._server, found.value, text)
        self._shown[point.figure] = shown

    # ---- handlers, in the library's thread

    def _admit(self, _parameter: Any, shown: int | None, token: Any, _application: Any) -> bool:
        """Whether a client may associate; its place among the pins becomes its token."""
        now_ns = time.time_ns()
        try:
            if self._tls is None:
                return True
            place = self._place(shown)
            if place and self._tls.pins[place - 1].in_time(now_ns):
                token[0] = place
                return True
            reason = "certificate_out_of_time" if place else "certificate_unknown"
        except Exception:
            reason = "fault"
        self._commands.counts[f"refused_{reason}"] += 1
        self._commands.tell(Event("refused_client", now_ns, None, reason))
        return False

    def _place(self, shown: int | None) -> int:
        if not shown:
            return 0
        found = ctl.Shown.from_address(shown)
        if found.mechanism != ctl.AUTH_TLS or not found.octets or found.length <= 0:
            return 0
        return self._by_octets.get(c.string_at(found.octets, found.length), 0)

    def _connected(self, _server: Any, _connection: Any, connected: bool, _parameter: Any) -> None:
        self.connections += 1 if connected else -1

    def _who(self, place: int | None) -> tuple[str, bool]:
        """(name, may operate) by the token of a connection."""
        if self._tls is None:
            return "loopback", self._local
        if not place or place > len(self._tls.pins):
            return "", False
        one = self._tls.pins[place - 1]
        return one.name, one.may_operate
