"""Is a server's port free? Asked by us, because the libraries fail without saying why."""

from __future__ import annotations

import errno
import socket

from telemetry.iec61850.errors import PortInUse, ServerError


def claim(host: str, port: int) -> int:
    """`port`, or a free one for 0, after a trial bind to it.

    Raises PortInUse if another socket listens there, ServerError if the address cannot be bound at all.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        # As the servers do: an old connection in TIME_WAIT does not occupy the port, a listener does.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
            return int(trial.getsockname()[1])
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(host, port) from error
            raise ServerError(f"cannot listen on host {host}, port {port}: {error.strerror or error}") from error
        except OverflowError as error:
            raise ServerError(f"port {port} is out of range: give 1..65535, or 0 for a free one") from error
