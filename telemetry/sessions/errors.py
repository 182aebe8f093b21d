"""What can be wrong with a file of charging sessions or of vehicles: each message one line, with place and remedy.

SessionError
+-- UnknownSessions   no reader recognises it, or it cannot be read at all
+-- MalformedSession  a row that is none (`.line`, `.field`, `.reason`); `skip_bad` counts it instead
+-- BadSessionOption  an option's value is not usable
"""

from __future__ import annotations

from os import PathLike, fspath


class SessionError(ValueError):
    """A file that cannot be used: `path`, `line` (of text, or number of the item, from 1; None for the whole)."""

    def __init__(self, path: str | PathLike[str], line: int | None, text: str) -> None:
        self.path, self.line = fspath(path), line
        text = " ".join(text.split())
        super().__init__(f"{self.path}:{line}: {text}" if line else f"{self.path}: {text}")


class UnknownSessions(SessionError):
    """Not a file of sessions (or of vehicles) that is known."""


class BadSessionOption(SessionError):
    """An option that cannot be used with this file."""


class MalformedSession(SessionError):
    """A row that says what cannot be; `reason` is what it is counted by."""

    def __init__(self, path: str | PathLike[str], line: int, fault: Fault) -> None:
        self.field, self.reason = fault.field, fault.reason
        super().__init__(path, line, f"field `{fault.field}`: {fault.text}; mend the row, or count it with --skip-bad")


class Fault(Exception):
    """What is wrong with one row: its field, the reason it is counted by, and a sentence. Raised within readers."""

    def __init__(self, field: str, reason: str, text: str) -> None:
        super().__init__(text)
        self.field, self.reason, self.text = field, reason, text
