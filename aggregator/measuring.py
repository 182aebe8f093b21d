"""What the configuration of a measuring unit says to the client that follows it. Secrets come from the environment."""

from __future__ import annotations

import os
from typing import Any

from aggregator.config import UnitTable
from telemetry.iec61850 import TlsFiles


def client_options(unit: UnitTable) -> dict[str, Any]:
    """What the client of a measuring unit is to be given. Raises TlsError for certificates that believe anybody."""
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
