"""Every refusal of the API, named: what is wrong, which field, what to do about it.

Two trees: `StartError` for a process that must not start (the command line prints it and exits 2), `Refusal` for
one request (becomes a JSON body `{"error", "field", "remedy"}`). No aiohttp in here.
"""

from __future__ import annotations

from collections.abc import Mapping


class StartError(RuntimeError):
    """The API process cannot start as it was told to."""

    def __init__(self, error: str, field: str, remedy: str) -> None:
        super().__init__(f"{field}: {error}; {remedy}")
        self.field = field
        self.remedy = remedy


class BadSetting(StartError):
    """A setting outside what makes sense."""


class UnsafeBind(StartError):
    """A listener that others could reach, in plain text."""


class PortInUse(StartError):
    """Another process listens there already."""


class CannotListen(StartError):
    """The address cannot be bound: not ours, or not permitted."""


class BadCertificate(StartError):
    """The certificate or its key cannot be loaded."""


class Refusal(Exception):
    """One request that is not served, with its HTTP status."""

    def __init__(
        self,
        status: int,
        error: str,
        field: str | None = None,
        remedy: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.field = field
        self.remedy = remedy
        self.headers = dict(headers or {})


class StoreLost(Refusal):
    """Redis or Valkey does not answer; the request is worth repeating."""

    def __init__(self) -> None:
        super().__init__(
            503,
            "store lost: Redis/Valkey does not answer",
            "redis_url",
            "retry in a few seconds; the API reconnects by itself",
            {"Retry-After": "2"},
        )
