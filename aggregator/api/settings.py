"""What the API process needs to know, checked before anything listens.

Plain values with units in their names; where they come from (TOML, options, environment) is the caller's business.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from aggregator.api.errors import BadSetting, UnsafeBind

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class Settings:
    """One API process.

    redis_url    : redis://, rediss:// or unix:// of the store that the worker writes to
    token        : bearer token of POST requests (aggregator.auth)
    name         : this replica's name; the one writer of streams `signal:{area}:{name}` and `wishes:{area}:{name}`
    signal_max_kw: largest magnitude of a set-point that is let in
    """

    redis_url: str = field(repr=False)  # may hold a password
    token: str = field(repr=False)
    area: str = "ce"
    name: str = "a1"
    host: str = "127.0.0.1"
    port: int = 8080
    cert: Path | None = None
    key: Path | None = None
    allowed_hosts: tuple[str, ...] = ()
    signal_max_kw: float = 1000.0
    signal_valid_max_s: float = 3600.0
    wish_valid_max_s: float = 7 * 86_400.0  # a car that stays longer is asked again
    explain_wait_s: float = 2.0  # for the worker's answer; it takes five questions a second
    source: int = 1  # SIGNAL.source of this replica
    history: Path | None = None  # the run's folder, whose journal bids are learned from
    bids_wait_s: float = 120.0
    poll_s: float = 0.2  # the worker writes five times a second
    silent_s: float = 2.0  # without news for this long the worker counts as lost
    process_silent_s: float = 10.0  # counters are written once a second
    history_s: float = 300.0
    websockets_max: int = 200
    websocket_stall_s: float = 10.0  # a client that takes no frame for this long is dropped
    store_timeout_s: float = 2.0

    def __post_init__(self) -> None:
        positive = (
            "signal_valid_max_s",
            "wish_valid_max_s",
            "explain_wait_s",
            "bids_wait_s",
            "poll_s",
            "silent_s",
            "process_silent_s",
            "history_s",
            "websocket_stall_s",
            "store_timeout_s",
        )
        for name in positive:
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise BadSetting(f"{name} is {value}", name, "give a finite number above 0")
        if not (math.isfinite(self.signal_max_kw) and self.signal_max_kw >= 0):
            raise BadSetting(
                f"signal_max_kw is {self.signal_max_kw}", "signal_max_kw", "give a finite number, 0 or more"
            )
        if not 0 <= self.port <= 65535:
            raise BadSetting(f"port is {self.port}", "port", "give 0 (any free port) to 65535")
        if self.websockets_max < 1:
            raise BadSetting(f"websockets_max is {self.websockets_max}", "websockets_max", "give 1 or more")
        if not self.token:
            raise BadSetting("no token", "token", "set FLYBALL_API_TOKEN or let the token file be made")
        if (self.cert is None) != (self.key is None):
            missing = "key" if self.key is None else "cert"
            raise BadSetting(f"TLS without {missing}", missing, "give both the certificate and its private key")
        if self.cert is None and not is_loopback(self.host):
            raise UnsafeBind(
                f"host {self.host} is reachable from outside and there is no TLS",
                "host",
                "bind 127.0.0.1 (the default), or give cert and key",
            )


def is_loopback(host: str) -> bool:
    """Whether binding `host` stays on this machine. A name other than localhost may resolve anywhere: no."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
