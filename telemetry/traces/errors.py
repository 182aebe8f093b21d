"""What can be wrong with a trace file: one tree, each message one line that names the place and the remedy.

TraceError
+-- TraceNotFound   no such file, or not readable
+-- EmptyTrace      nothing in it
+-- UnknownFormat   no reader recognises it
+-- NotFrequency    a regulation signal, where a frequency is asked for
+-- MissingOption   the format needs a fact from the caller (`.option`)
+-- BadOption       an option's value is not usable (`.option`)
+-- UnknownColumn   a column asked for, or needed, is not there
+-- UnknownUnit     values like neither Hz nor a deviation in mHz
+-- AmbiguousDates  day and month are, or may be, written the wrong way round
+-- MalformedRow    a row that cannot be read (`.line`)
    +-- BadChecksum      a sentence whose check sum is of another
    +-- IncompleteTrace  fewer or more rows than the file itself says
"""

from __future__ import annotations

from os import PathLike, fspath
from typing import ClassVar


class TraceError(ValueError):
    """A trace that cannot be read: `path`, `line` (1-based, None for the file as a whole) and `reason`."""

    def __init__(self, path: str | PathLike[str], line: int | None, reason: str) -> None:
        self.path, self.line, self.reason = fspath(path), line, " ".join(reason.split())
        super().__init__(f"{self.path}:{line}: {self.reason}" if line else f"{self.path}: {self.reason}")


class TraceNotFound(TraceError):
    """There is no such file, or it cannot be opened."""


class EmptyTrace(TraceError):
    """The file holds no rows."""


class UnknownFormat(TraceError):
    """No reader recognises the content."""


class NotFrequency(TraceError):
    """The file is understood, and holds a regulation signal."""


class MissingOption(TraceError):
    """The format leaves something out that the caller must say."""

    def __init__(self, path: str | PathLike[str], option: str, reason: str) -> None:
        super().__init__(path, None, f"{reason}: give {option}")
        self.option = option


class BadOption(TraceError):
    """An option of the caller's has a value that cannot be used."""

    def __init__(self, path: str | PathLike[str], option: str, reason: str) -> None:
        super().__init__(path, None, f"{option}: {reason}")
        self.option = option


class UnknownColumn(TraceError):
    """A column is not in the header, or several fit."""


class UnknownUnit(TraceError):
    """The values look like neither hertz nor a deviation in millihertz."""


class AmbiguousDates(TraceError):
    """Dates that are, or may be, written with day and month swapped; never mended unless told to."""


class MalformedRow(TraceError):
    """A row that is not what the format says; `skip_bad` counts it as `counted` instead."""

    counted: ClassVar[str] = "malformed"


class BadChecksum(MalformedRow):
    """A sentence that was damaged on its way."""

    counted = "checksum"


class IncompleteTrace(MalformedRow):
    """Rows are missing, or there are too many: the file says how many it should hold."""

    counted = "incomplete"
