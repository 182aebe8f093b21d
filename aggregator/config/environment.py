"""What the environment says in place of the file: which servers to use, and where their passwords are."""

from __future__ import annotations

import os
from pathlib import Path

from aggregator.config.table import ConfigError


def redis_url(embedded_url: str | None) -> str | None:
    """The store to use: the environment's, or the embedded one."""
    return os.environ.get("FLYBALL_REDIS_URL") or embedded_url


def store_keys() -> Path | None:
    """The folder of passwords for the users of a server of one's own, where the environment names one."""
    named = os.environ.get("FLYBALL_STORE_KEYS")
    return Path(named) if named and redis_url(None) else None


def redis_url_b(embedded_url: str | None) -> str | None:
    """The second server, for the frequency: the environment's, or the embedded one beside an embedded first.

    Raises ConfigError for a second one without a first, and for one that is the first.
    """
    first, second = os.environ.get("FLYBALL_REDIS_URL"), os.environ.get("FLYBALL_REDIS_URL_B")
    if second and not first:
        raise ConfigError("FLYBALL_REDIS_URL_B is set and FLYBALL_REDIS_URL is not; set both, or neither")
    if second and second == first:
        raise ConfigError("FLYBALL_REDIS_URL_B names the same server as FLYBALL_REDIS_URL; name an independent one")
    return second or (None if first else embedded_url)
