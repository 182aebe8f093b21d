"""A recorded file as text: its head, and its lines in chunks, plain or gzipped.

Buffers: one chunk and the beginning of the line it cuts; a line longer than `LINE_BYTES` is no text trace. BOMs (on
every row, in some files), quotes and carriage returns are taken out. What a line means is not known here.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from telemetry.traces.errors import EmptyTrace, TraceError, TraceNotFound, UnknownFormat

CHUNK_BYTES: Final = 1 << 19  # read at once: the arrays of a chunk should stay in the cache
HEAD_BYTES: Final = 1 << 17  # what the readers may look at to recognise and calibrate
LINE_BYTES: Final = 1 << 20  # longest line believed
BOM: Final = b"\xef\xbb\xbf"
GZIP: Final = b"\x1f\x8b"


class Head(NamedTuple):
    """The beginning of a file."""

    path: str
    lines: list[str]  # whole lines, decoded leniently; the first piece of a file that has no lines
    data: bytes  # the same as bytes, each line ended by a newline; empty where there are no lines
    raw: bytes  # up to HEAD_BYTES as they stand in the (unzipped) file


class TextFile:
    """The lines of a file, in chunks of whole ones.

    separator : what sets lines apart: the newline, or the mark that each sentence begins with
    read_frac : how much of the file has been read, of its size on disk
    """

    def __init__(self, path: str, separator: bytes = b"\n") -> None:
        self.path, self.separator = path, separator
        self.read_frac = 0.0

    def __iter__(self) -> Iterator[bytes]:
        """Whole lines, each ended by a newline, until the end; raises TraceError."""
        rest, text_bytes = b"", 0
        try:
            with _opened(self.path) as (source, plain):
                size = max(Path(self.path).stat().st_size, 1)
                while piece := source.read(CHUNK_BYTES):
                    self.read_frac = plain.tell() / size
                    text_bytes += len(piece)
                    cut = piece.rfind(self.separator) + 1
                    if not cut:
                        rest += piece
                        if len(rest) > LINE_BYTES:
                            raise UnknownFormat(self.path, None, "no end of line within a megabyte: not a text trace")
                        continue
                    whole, rest = cleaned(rest + piece[:cut], self.separator), piece[cut:]
                    yield whole
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise TraceError(self.path, None, f"damaged gzip data behind {text_bytes} bytes of text: {error}") from None
        except OSError as error:
            raise TraceNotFound(self.path, None, error.strerror or str(error)) from None
        if rest:
            yield cleaned(rest + self.separator, self.separator)


def read_head(path: str) -> Head:
    """The head of a file; raises TraceNotFound, EmptyTrace or TraceError."""
    try:
        with _opened(path) as (source, _):
            raw = source.read(HEAD_BYTES)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TraceError(path, None, f"damaged gzip data: {error}") from None
    except OSError as error:
        raise TraceNotFound(path, None, error.strerror or str(error)) from None
    whole = raw + b"\n" if len(raw) < HEAD_BYTES and not raw.endswith(b"\n") else raw[: raw.rfind(b"\n") + 1]
    data = cleaned(whole)
    lines = decoded(data).split("\n")[:-1] if data else [decoded(raw[:200])]
    if not any(line.strip() for line in lines):
        raise EmptyTrace(path, None, "the file is empty")
    return Head(path, lines, data, raw)


def cleaned(data: bytes, separator: bytes = b"\n") -> bytes:
    """Lines ended by newlines, without what means nothing."""
    for unwanted in (BOM, b"\r", b'"'):
        if unwanted[:1] in data:  # one byte is found by the fastest search there is
            data = data.replace(unwanted, b"")
    if separator != b"\n":
        data = data.replace(b"\n", b"").replace(separator, b"\n")
    return data


def decoded(data: bytes) -> str:
    """UTF-8, or else Latin-1, which takes anything."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


@contextmanager
def _opened(path: str) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """(the content, the file on disk); gzip is told by content, not by name."""
    with Path(path).open("rb") as plain:
        if plain.peek(2)[:2] == GZIP:
            with gzip.GzipFile(fileobj=plain) as zipped:
                yield zipped, plain  # type: ignore[misc]
        else:
            yield plain, plain
