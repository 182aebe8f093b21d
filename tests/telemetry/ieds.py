"""Devices to test the client against: units here and in processes of their own, and a line that spoils its load."""

from __future__ import annotations

import random
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telemetry.iec61850 import Unit, backends, make_client, make_connect, make_unit
from telemetry.iec61850.discovery import layout_of
from telemetry.iec61850.link import Ask, Link
from telemetry.samples import FREQUENCY
from telemetry.source import FrequencySource

ROOT = Path(__file__).resolve().parents[2]
T0_NS = 1_700_000_000_123_456_789
NAMES = ("libiec61850", "open61850")


def need(*names: str) -> None:
    for name in names:
        if name not in backends():
            pytest.skip(f"{name} is not installed here: pip install 'flyball[iec61850]'")


class Rows:
    """Collects what a client delivers."""

    def __init__(self) -> None:
        self.blocks: list[Any] = []

    def __call__(self, block: Any) -> None:
        assert block.dtype == FREQUENCY
        assert block.shape == (1,)
        self.blocks.append(block)

    def __len__(self) -> int:
        return len(self.blocks)

    def all(self) -> Any:
        return np.concatenate(self.blocks) if self.blocks else np.zeros(0, FREQUENCY)


def until(true: Callable[[], bool], within_s: float = 60.0) -> None:
    """Wait for a condition; the bound is there to end a hung test, not to measure."""
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def ends(call: Callable[[], None], within_s: float = 60.0) -> None:
    """`call` returns at all."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(within_s)
    assert not thread.is_alive(), "hangs"


@contextmanager
def subscribed(backend: str, port: int, **options: Any) -> Iterator[tuple[FrequencySource, Rows]]:
    rows = Rows()
    client = make_client(backend, "127.0.0.1", port, **options)
    assert isinstance(client, FrequencySource)
    client.start(rows)
    try:
        yield client, rows
    finally:
        ends(client.stop)
    assert not client.status().connected
    assert client.status().detail == "stopped"


@contextmanager
def unit_here(backend: str, **options: Any) -> Iterator[Unit]:
    unit = make_unit(backend, 0, **options)
    unit.start()
    try:
        yield unit
    finally:
        unit.stop()


def linked(client: FrequencySource) -> None:
    until(lambda: client.status().connected)


@contextmanager
def closing_unit(unit: Unit) -> Iterator[None]:
    try:
        yield
    finally:
        unit.stop()


SERVER = """
import os, sys, time
from telemetry.iec61850 import make_unit
unit = make_unit(sys.argv[1], int(sys.argv[2]))
unit.start()
print("up", unit.port, flush=True)
parent = os.getppid()
while os.getppid() == parent:
    unit.publish(time.time_ns(), 50.0 + time.time_ns() % 997 * 1e-5, 230.0)
    time.sleep(0.02)
"""


@contextmanager
def unit_process(backend: str, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, backend, str(port)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        word, _, got = process.stdout.readline().partition(" ")
        assert word == "up"
        yield process, int(got)
    finally:
        process.kill()
        process.communicate()


class Proxy:
    """Passes bytes between client and unit, spoiling some of the unit's on demand."""

    def __init__(self, port: int, seed: int) -> None:
        self._target = port
        self._random = random.Random(seed)  # noqa: S311
        self.spoil = 0.0
        self.spoiled = 0
        self.swallow = False  # a cable that is out: nothing arrives, nothing is closed
        self._lines: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no new line."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def cut(self) -> None:
        """End the lines there are."""
        for line in self._lines:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._lines.append(client)
        with client, socket.create_connection(("127.0.0.1", self._target)) as unit:
            try:
                while True:
                    for ready in select.select([client, unit], [], [])[0]:
                        data = ready.recv(65536)
                        if not data:
                            return
                        if self.swallow:
                            continue
                        (client if ready is unit else unit).sendall(self._pass(data) if ready is unit else data)
            except OSError:
                return

    def _pass(self, data: bytes) -> bytes:
        if self._random.random() >= self.spoil:
            return data
        self.spoiled += 1
        octets = bytearray(data)
        match self._random.randrange(4):
            case 0:
                octets[self._random.randrange(len(octets))] ^= 1 << self._random.randrange(8)
            case 1:
                for _ in range(5):
                    octets[self._random.randrange(len(octets))] = self._random.randrange(256)
            case 2:
                del octets[self._random.randrange(len(octets)) :]
            case _:
                octets += self._random.randbytes(40)
        return bytes(octets)


class Nothing:
    """Hears reports and does nothing."""

    def take(self, *_: Any) -> None:
        pass

    surprise = take


def taking(backend: str, port: int, blocks: list[str]) -> Link:
    """Another client, which has taken these blocks."""
    link = make_connect(backend, "127.0.0.1", port, connect_timeout_s=5.0)(lambda: False)
    for block in blocks:
        status = link.status(block)
        link.enable(status, Ask(60_000), layout_of(link, status, None, None)[0], Nothing())
    return link
