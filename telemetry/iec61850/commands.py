"""The handlers of a set-point's commands: what libiec61850 asks before and while a command is carried out.

Called by the library's thread, which must never wait and sees no exception: a handler that fails refuses the command
(`fault`), and is counted. Nothing is queued here; one command is under way at most, and a second is refused by the
library until the first is settled. A ticket that nobody settles within `ANSWER_S` is answered as failed.
"""

from __future__ import annotations

import ctypes as c
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from telemetry.iec61850 import control as rules
from telemetry.iec61850 import control_library as ctl
from telemetry.iec61850 import library as ied
from telemetry.iec61850.control import AddCause, Judge, Refusal, Request
from telemetry.iec61850.mapping import decode_utc

ANSWER_S: Final = 15.0
IDENT_MAX: Final = 64
ENDED: Final = {1: "cancelled", 2: "lapsed", 4: "unselected", 5: "disconnected"}  # SelectStateChangedReason


class Event(NamedTuple):
    """Something an auditor asks about: a select, an operate, a refusal, the end of a selection, a connection."""

    what: str
    t_ns: int
    request: Request | None = None
    reason: str = ""
    cause: int = 0


class Ticket:
    """One command under way. Settle it once, from any thread."""

    def __init__(self, request: Request, now_ns: int) -> None:
        self.request, self.t_ns = request, now_ns
        self.outcome: AddCause | None = None
        self.done = False

    def settle(self, failure: AddCause | None = None) -> None:
        """The command was carried out, or not, with its AddCause. The first word stands."""
        if not self.done:
            self.outcome = failure
            self.done = True


class Commands:
    """The handlers of one set-point.

    judge      : asked in the library's thread, one request at a time
    who        : (name, may operate) of a connection, by its token
    on_command : takes a ticket; called in the library's thread, must return at once
    on_event   : likewise, for the record
    """

    def __init__(
        self,
        judge: Judge,
        who: Callable[[int | None], tuple[str, bool]],
        on_command: Callable[[Ticket], None],
        on_event: Callable[[Event], None],
    ) -> None:
        self._ied, self._ctl = ied.load(), ctl.load()
        self._judge, self._who, self._on_command, self._on_event = judge, who, on_command, on_event
        self._ticket: Ticket | None = None
        self._under_way: Ticket | None = None
        self.shown_kw: float | None = None  # set-point in force; None: the fleet is not heard
        self.counts: Counter[str] = Counter()  # what was let in and refused, by reason; written by the library's thread
        # The library calls them until its server is destroyed: keep them alive.
        self.handlers = (
            ctl.CheckHandler(self._check), ctl.OperateHandler(self._operate), ctl.SelectHandler(self._selected)
        )  # fmt: skip

    def forget(self) -> None:
        """The server has ended: nothing is under way, nothing is known of the fleet."""
        self.shown_kw = self._ticket = self._under_way = None

    def tell(self, event: Event) -> None:
        """Record an event; a record that fails is counted."""
        try:
            self._on_event(event)
        except Exception:
            self.counts["unrecorded"] += 1

    def number(self, value: int | None) -> float:
        """The number in a ctlVal, an AnalogueValue or a bare FLOAT; NaN where there is none."""
        leaf = self._ied.leaf
        if value and leaf.MmsValue_getType(value) == ctl.MMS_STRUCTURE:
            value = leaf.MmsValue_getElement(value, 0) if self._ctl.leaf.MmsValue_getArraySize(value) == 1 else None
        if not value or leaf.MmsValue_getType(value) != ctl.MMS_FLOAT:
            return math.nan
        return float(leaf.MmsValue_toDouble(value))

    # ---- handlers, in the library's thread

    def _check(self, action: int, _parameter: Any, value: int | None, test: bool, _interlock: bool) -> int:
        """A select or an operate, before anything is done: -1, or the error that the write answers."""
        now_ns = time.time_ns()
        request = None
        try:
            request = self._request(action, value, test)
            refusal = self._judge.refuse(request, now_ns, self.shown_kw)
        except Exception:
            refusal = rules.FAULT
        if refusal is None and request is not None:
            # What is carried out is what was judged: the library's own copy may be of an earlier command.
            self._ticket = None if request.select else Ticket(request, now_ns)
            return int(rules.Access.ACCEPTED)
        return self._refused(action, request, refusal or rules.FAULT, now_ns)

    def _refused(self, action: int, request: Request | None, refusal: Refusal, now_ns: int) -> int:
        self._ticket = None
        self.counts[f"refused_{refusal.reason}"] += 1
        self._ctl.leaf.ControlAction_setAddCause(action, int(refusal.cause))
        self.tell(Event("refused", now_ns, request, refusal.reason, refusal.cause))
        return int(refusal.access)

    def _operate(self, action: int, _parameter: Any, _value: int | None, _test: bool) -> int:
        """Called again and again until the ticket is settled."""
        try:
            return self._carry_out(action, time.time_ns())
        except Exception:
            self.counts["fault"] += 1
            self._under_way = None
            return ctl.RESULT_FAILED

    def _carry_out(self, action: int, now_ns: int) -> int:
        ticket = self._ticket
        if ticket is not None:
            self._ticket, self._under_way = None, ticket
            self._judge.take(ticket.request.power_kw, now_ns)
            self.counts["operated"] += 1
            self.tell(Event("operate", now_ns, ticket.request))
            self._on_command(ticket)
            return ctl.RESULT_WAITING
        ticket = self._under_way
        if ticket is None:
            return ctl.RESULT_FAILED
        late = now_ns - ticket.t_ns > ANSWER_S * 1e9
        if not ticket.done and not late:
            return ctl.RESULT_WAITING
        self._under_way = None
        failure = ticket.outcome if ticket.done else AddCause.TIME_LIMIT_OVER
        if failure is None:
            self.counts["confirmed"] += 1
            return ctl.RESULT_OK
        self.counts["failed"] += 1
        self._ctl.leaf.ControlAction_setAddCause(action, int(failure))
        return ctl.RESULT_FAILED

    def _selected(self, action: int, _parameter: Any, selected: bool, reason: int) -> None:
        """A selection began or ended."""
        now_ns = time.time_ns()
        try:
            what = "select" if selected else ENDED.get(reason, "")
            if what:  # the end by an operate is told by the operate
                self.counts[what] += 1
                self.tell(Event(what, now_ns, self._request(action, None, False)))
        except Exception:
            self.counts["fault"] += 1

    def _request(self, action: int, value: int | None, test: bool) -> Request:
        leaf, call = self._ctl.leaf, self._ctl.call
        size = c.c_int(0)
        ident = leaf.ControlAction_getOrIdent(action, c.byref(size))
        stamp = leaf.ControlAction_getT(action)
        connection = call.ControlAction_getClientConnection(action)
        client, may_operate = self._who(call.ClientConnection_getSecurityToken(connection) if connection else None)
        address = call.ClientConnection_getPeerAddress(connection) if connection else None
        return Request(
            bool(leaf.ControlAction_isSelect(action)),
            self.number(value),
            decode_utc(c.string_at(stamp, 8))[0] if stamp else 0,
            test,
            leaf.ControlAction_getOrCat(action),
            c.string_at(ident, min(size.value, IDENT_MAX)) if ident and size.value > 0 else b"",
            leaf.ControlAction_getCtlNum(action),
            client,
            (address or b"").decode(errors="replace"),
            may_operate,
        )
