"""IEEE C37.118.2: a client that turns a PMU's data frames into frequency blocks, a simulated PMU, captures.

    client = make_client("10.0.0.5", 4712, idcode=7, nominal_volt=63_500.0)
    client.start(on_block)

Frames, configuration and quality are pure functions (`frames`, `configuration`, `quality`); `intake` and `session` are
the client's memory and its conversation, without a clock; `client` owns the thread. `writer` and `simulator` are the
other end, written apart from the reading side so that one does not hide the other's mistakes.
"""

from __future__ import annotations

from typing import Any

from telemetry.c37118.client import PmuClient, PmuStatus
from telemetry.c37118.errors import REASONS, C37118Error, FrameError, PortInUse, ServerError

__all__ = [
    "REASONS",
    "C37118Error",
    "FrameError",
    "PmuClient",
    "PmuStatus",
    "PortInUse",
    "ServerError",
    "make_client",
]


def make_client(
    host: str,
    port: int,
    *,
    idcode: int | None = None,
    transport: str = "tcp",
    nominal_volt: float,
    silent_after_s: float = 3.0,
    source: int = 0,
    **options: Any,
) -> PmuClient:
    """A client, not started; arguments and further options are those of `client.PmuClient`.

    Raises ValueError for a parameter that cannot be.
    """
    return PmuClient(
        host, port, idcode=idcode, transport=transport, nominal_volt=nominal_volt,
        silent_after_s=silent_after_s, source=source, **options,
    )  # fmt: skip
