"""What the configuration says of an IEC 61850 device to the client that follows it.

A `[[source]]` of that kind says in its `options` what `[unit]` would say of it, by the same names; what it leaves open
is as `[unit]` has it. Secrets come from the environment, one for all devices.
"""

from __future__ import annotations

import os
from typing import Any, Final

from pydantic import ValidationError

from aggregator.config import SourceTable, UnitTable
from telemetry.iec61850 import TlsFiles

OPTIONS: Final = frozenset(("backend", "report_block", "hz_ref", "volt_ref", "poll_ms", "tls", "plaintext", "history"))


def device(table: SourceTable, unit: UnitTable) -> UnitTable:
    """`[unit]` with what one source has of its own. Raises ValueError for an option that no device has."""
    for name in table.options:
        if name not in OPTIONS:
            raise ValueError(f"unknown {name!r}; known are {', '.join(sorted(OPTIONS))}")
    own = {
        "host": table.host, "port": table.port, "nominal_volt": table.nominal_volt or unit.nominal_volt,
        "silent_after_s": table.silent_after_s or unit.silent_after_s, **table.options,
    }  # fmt: skip
    try:
        return UnitTable.model_validate({**unit.model_dump(), **own})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"`{'.'.join(map(str, first['loc']))}`: {first['msg']}, got {first['input']!r}") from error


def client_options(unit: UnitTable) -> dict[str, Any]:
    """What the client of a device is to be given. Raises TlsError for certificates that believe anybody."""
    tls = unit.tls
    return {
        "hz_ref": unit.hz_ref,
        "volt_ref": unit.volt_ref,
        "nominal_volt": unit.nominal_volt,
        "silent_after_s": unit.silent_after_s,
        "poll_ms": unit.poll_ms or None,
        "plaintext": unit.plaintext,
        "password": os.environ.get("FLYBALL_UNIT_PASSWORD"),
        "tls": tls and TlsFiles.of(tls.model_dump(), os.environ.get("FLYBALL_UNIT_KEY_PASSWORD")),
    }
