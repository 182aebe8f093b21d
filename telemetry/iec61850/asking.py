"""Requests over one libiec61850 connection: what its model holds and what its values are.

They run on the caller's thread, one at a time, while a tick thread carries the answers, and time out by the library's
own clock. What the library answers becomes an error of ours.
"""

from __future__ import annotations

import contextlib
import ctypes as c
import threading
from collections.abc import Iterator, Sequence
from typing import Final

from telemetry.iec61850 import layout as lay
from telemetry.iec61850 import library as ied
from telemetry.iec61850.errors import BlockTaken, LinkLost, SubscribeError
from telemetry.iec61850.mapping import Report
from telemetry.iec61850.reading import Reader
from telemetry.iec61850.references import reference_of

NOT_CONNECTED: Final = 1
CONNECTION_LOST: Final = 3
TIMEOUT: Final = 20
ACCESS_DENIED: Final = 21
TEMPORARILY_UNAVAILABLE: Final = 26
UNKNOWN: Final = 99
FATAL: Final = frozenset({NOT_CONNECTED, CONNECTION_LOST, TIMEOUT})  # no use in asking this peer anything more
MMS_FATAL: Final = frozenset({2, 3})  # MmsError: connection lost, no answer in time


class Denied(SubscribeError):
    """The device does not let this be read or set."""


class Asking:
    """The asking half of an association."""

    def __init__(self, library: ied.Library, source: str, connection: int) -> None:
        self._call, self._leaf = library.call, library.leaf
        self.source = source
        self._connection: int | None = connection
        self._error = c.c_int(0)
        self._lock = threading.Lock()  # one request at a time: they share `_error`

    def domains(self) -> list[str]:
        """Names of the logical devices."""
        call = self._call
        with self._request("list logical devices", MMS_FATAL):
            found = call.MmsConnection_getDomainNames(self._mms(), c.byref(self._error))
        return self._strings(found)

    def variables(self, domain: str) -> list[str]:
        """MMS names of everything in a logical device."""
        with self._request(f"list {domain}"):
            found = self._call.IedConnection_getLogicalDeviceVariables(
                self._connection, c.byref(self._error), domain.encode()
            )
        return self._strings(found)

    def members(self, data_set: str) -> list[tuple[str, str]]:
        """(reference, functional constraint) of each member of a data set, in its order.

        Not by the library's own `getDataSetDirectory`: it turns a member's name into a reference by pointer arithmetic
        that a name without a constraint leads astray (seen in 1.6.1: a spoiled line crashed the process).
        """
        call, (domain, _, item) = self._call, data_set.partition("/")
        with self._request(f"read data set {data_set}", MMS_FATAL):
            found = call.MmsConnection_readNamedVariableListDirectory(
                self._mms(), c.byref(self._error), domain.encode(), item.replace(".", "$").encode(), c.byref(c.c_bool())
            )
        members = []
        for pointer in self._elements(found):
            entry = ied.AccessSpecification.from_address(pointer)
            members.append(reference_of(text_of(entry.domain), text_of(entry.item)))
            call.MmsVariableAccessSpecification_destroy(pointer)
        if found:
            call.LinkedList_destroyStatic(found)
        return members

    def _mms(self) -> int | None:
        connection: int | None = self._call.IedConnection_getMmsConnection(self._connection)
        return connection

    def type_of(self, ref: str) -> lay.Spec:
        """The type of a data object or attribute under MX."""
        with self._request(f"read type of {ref}"):
            spec = self._call.IedConnection_getVariableSpecification(
                self._connection, c.byref(self._error), ref.encode(), ied.FC_MX
            )
        if not spec:
            raise SubscribeError(f"read type of {ref}", reason="no answer that could be used")
        try:
            return self._spec(spec)
        finally:
            self._call.MmsVariableSpecification_destroy(spec)

    def _spec(self, spec: int) -> lay.Spec:
        call = self._call
        kind = call.MmsVariableSpecification_getType(spec)
        name = (call.MmsVariableSpecification_getName(spec) or b"").decode(errors="replace")
        if kind != lay.STRUCTURE:
            return lay.Spec(name, kind)
        size = call.MmsVariableSpecification_getSize(spec)
        child = call.MmsVariableSpecification_getChildSpecificationByIndex
        return lay.Spec(name, kind, tuple(self._spec(child(spec, index)) for index in range(size)))

    def _elements(self, found: int | None) -> Iterator[int]:
        element = self._call.LinkedList_getNext(found) if found else None
        while element:
            yield self._call.LinkedList_getData(element)
            element = self._call.LinkedList_getNext(element)

    def _strings(self, found: int | None) -> list[str]:
        texts = [text_of(c.string_at(pointer)) for pointer in self._elements(found)]
        if found:
            self._call.LinkedList_destroy(found)
        return texts

    def read(self, refs: Sequence[str], layout: lay.Layout) -> Report:
        """Read data objects once, as if they were the members of a data set with this layout."""
        roots: dict[int, int] = {}
        try:
            for index, ref in enumerate(refs):
                with self._request(f"read {ref}"):
                    value = self._call.IedConnection_readObject(
                        self._connection, c.byref(self._error), ref.encode(), ied.FC_MX
                    )
                    if value:
                        roots[index] = value
            return Reader(self._leaf, layout).values(roots)
        except ValueError as error:
            raise SubscribeError(f"read {refs[0]}", reason=str(error)) from error
        finally:
            for value in roots.values():
                self._call.MmsValue_delete(value)

    @contextlib.contextmanager
    def _request(self, step: str, fatal: frozenset[int] | None = None) -> Iterator[None]:
        """One request: what the library answers becomes an error of ours. fatal : codes of the table of MMS errors"""
        with self._lock:
            self._error.value = 0
            yield
            code = self._error.value
        if fatal is not None and code:
            code = TIMEOUT if code in fatal else UNKNOWN
        if code in FATAL:
            raise LinkLost(step, code)
        if code == TEMPORARILY_UNAVAILABLE:
            raise BlockTaken(step, code)
        if code == ACCESS_DENIED:
            raise Denied(step, code)
        if code:
            raise SubscribeError(step, code)


def text_of(octets: bytes | None) -> str:
    """A string of the library's; what is no UTF-8 shows as such."""
    return (octets or b"").decode(errors="replace")
