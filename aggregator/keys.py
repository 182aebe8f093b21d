"""The key that signs set-points: from the environment or a private file, made when absent.

`FLYBALL_COMMAND_KEY` (hexadecimal, 32 bytes or more) takes the place of the file. Keys are named by an id in
messages and journals; the key itself is written nowhere else.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path
from typing import Final

ENV: Final = "FLYBALL_COMMAND_KEY"
KEY_ID: Final = 1
BYTES: Final = 32


class KeyFault(ValueError):
    """A key that cannot be trusted; the message names its source and the remedy."""


def command_keys(folder: Path, *, make: bool = True) -> dict[int, bytes]:
    """key id -> key. folder : where the key file is, or is made with mode 0600 if `make`; else no key is no key"""
    named = os.environ.get(ENV)
    if named is not None:
        return {KEY_ID: _parse(named, ENV)}
    path = folder / f"command-{KEY_ID}.key"
    if not make and not path.exists():
        return {}
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        make_private(path)
    return {KEY_ID: private(path)}


def private(path: Path) -> bytes:
    """The key in a file that its owner alone can read. Raises KeyFault."""
    try:
        if path.stat().st_mode & 0o077:
            raise KeyFault(f"{path} can be read by others: chmod 600 it, or remove it to have a new one")
        return _parse(path.read_text(encoding="ascii", errors="replace"), str(path))
    except OSError as error:
        raise KeyFault(f"{path}: cannot be read ({error.strerror}); give it to this user, or remove it") from error


def make_private(path: Path) -> None:
    """A new key; if another process made one meanwhile, that one stands. No reader ever sees half of it."""
    handle, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_bytes(BYTES).hex() + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink()


def _parse(text: str, where: str) -> bytes:
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        raise KeyFault(f"{where}: takes hexadecimal digits") from None
    if len(key) < BYTES:
        raise KeyFault(f"{where}: {len(key)} bytes, take at least {BYTES}")
    return key
