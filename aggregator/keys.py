"""The key that signs set-points: from the environment or a private file, made when absent.

`FLYBALL_COMMAND_KEY` (hexadecimal, 32 bytes or more) takes the place of the file. Keys are named by an id in
messages and journals; the key itself is written nowhere else.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

ENV: Final = "FLYBALL_COMMAND_KEY"
KEY_ID: Final = 1
BYTES: Final = 32


class KeyFault(ValueError):
    """A key that cannot be trusted; the message names its source and the remedy."""


def command_keys(folder: Path) -> dict[int, bytes]:
    """key id -> key. folder : where the key file is, or is made with mode 0600"""
    named = os.environ.get(ENV)
    if named is not None:
        return {KEY_ID: _parse(named, ENV)}
    path = folder / f"command-{KEY_ID}.key"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if path.stat().st_mode & 0o077:
            raise KeyFault(f"{path} can be read by others: chmod 600 it, or remove it to have a new one") from None
        return {KEY_ID: _parse(path.read_text(encoding="ascii"), str(path))}
    key = secrets.token_bytes(BYTES)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(key.hex() + "\n")
    return {KEY_ID: key}


def _parse(text: str, where: str) -> bytes:
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        raise KeyFault(f"{where}: takes hexadecimal digits") from None
    if len(key) < BYTES:
        raise KeyFault(f"{where}: {len(key)} bytes, take at least {BYTES}")
    return key
