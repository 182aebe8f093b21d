"""`flyball discover`: what an IEC 61850 device, or its SCL file, has that a frequency can be followed by."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.table import Table

from aggregator.cli.output import Json, app, emit, writable

if TYPE_CHECKING:
    from telemetry.iec61850 import TlsFiles

PORT: Final = 102  # of MMS, IEC 61850-8-1
TLS_PORT: Final = 3782


@app.command(epilog="Example: flyball discover 127.0.0.1:10102 --json -")
def discover(
    where: Annotated[str, typer.Argument(help="HOST or HOST:PORT of a device, or an .icd, .cid, .iid, .scd file.")],
    backend: Annotated[str | None, typer.Option(help="libiec61850 or open61850.")] = None,
    hz_ref: Annotated[str | None, typer.Option(help="Only blocks that carry this MV, e.g. LD/MMXU1.Hz.")] = None,
    timeout_s: Annotated[float, typer.Option(help="For the connection and each request [s].", min=0.05, max=600)] = 5.0,
    plaintext: Annotated[bool, typer.Option(help="Ask a device elsewhere without TLS.")] = False,
    cert: Annotated[Path | None, typer.Option(help="Our certificate (PEM); with --key.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its key; password in FLYBALL_UNIT_KEY_PASSWORD.")] = None,
    pin: Annotated[list[Path] | None, typer.Option(help="The device's certificate; may be repeated.")] = None,
    ca: Annotated[list[Path] | None, typer.Option(help="An authority to believe; may be repeated.")] = None,
    json: Json = None,
) -> None:
    """Say what a device offers, which report control block would be used, and why the others not."""
    from telemetry.iec61850.discovery import browse
    from telemetry.iec61850.scl import SUFFIXES, SclModel

    writable(json)
    if Path(where).is_file() or where.lower().endswith(SUFFIXES):
        found = browse(SclModel(Path(where)), hz_ref)
    else:
        from telemetry.iec61850 import make_connect

        tls = _tls(cert, key, pin or [], ca or [])
        host, port = _address(where, TLS_PORT if tls else PORT)
        password = os.environ.get("FLYBALL_UNIT_PASSWORD")
        link = make_connect(backend, host, port, timeout_s, tls, password, plaintext)(lambda: False)
        try:
            found = browse(link, hz_ref)
        finally:
            link.close()
    result = found.as_dict()
    emit(result, json, _table(result))


def _tls(cert: Path | None, key: Path | None, pins: list[Path], ca: list[Path]) -> TlsFiles | None:
    if cert is None or key is None:
        if cert or key or pins or ca:
            raise ValueError("--cert, --key and one of --pin, --ca belong together: give all of them, or none")
        return None
    from telemetry.iec61850 import TlsFiles

    return TlsFiles(cert, key, tuple(pins), tuple(ca), os.environ.get("FLYBALL_UNIT_KEY_PASSWORD"))


def _address(where: str, default: int) -> tuple[str, int]:
    host, colon, port = where.rpartition(":")
    if not colon:
        return where, default
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65536:
        raise ValueError(f"WHERE: {where!r} is neither a file nor HOST:PORT; give e.g. 127.0.0.1:10102")
    return host, int(port)


def _table(result: dict[str, Any]) -> Table:
    """Points, then blocks; the one that would be taken is marked."""
    table = Table(title=f"{result['source']}: {', '.join(result['devices'])}", title_justify="left")
    for heading in ("", "reference", "frequency", "voltages", "why not"):
        table.add_column(heading, overflow="fold")
    for point in result["points"]:
        power = f", {point['power']}" if point["power"] else ""
        table.add_row("point", point["node"], f"{point['hz']}{power}", str(point["phases"]), point["why_not"])
    for block in result["blocks"]:
        use = {result["report_block"]: "control", result["history_block"]: "history"}.get(block["ref"], "")
        phases = str(block["phases"]) if block["hz"] else ""
        table.add_row(use, block["ref"], block["hz"], phases, block["why_not"])
    return table
