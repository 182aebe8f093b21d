"""The API's bearer token: where it comes from, and how it is compared.

Secrets come from the environment or a file, never from the configuration. This file knows no HTTP beyond the
shape of one header (RFC 6750 section 2.1).

Order: FLYBALL_API_TOKEN, else the file; a missing file is made with a fresh token, readable by its owner alone.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ENV: Final = "FLYBALL_API_TOKEN"
MODE: Final = 0o600
MIN_CHARS: Final = 16  # 96 bits when drawn at random from a base64 alphabet
B64TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 section 2.1


class TokenError(ValueError):
    """A token that cannot be trusted; the message names the field and the remedy."""


class TokenExposed(TokenError):
    """The token's file can be read or written by others."""


class TokenWeak(TokenError):
    """The token is too short, or could not travel in a header."""


class TokenUnreadable(TokenError):
    """The token's file is not a plain file that we may read."""


def load_token(path: Path, env: Mapping[str, str] | None = None) -> str:
    """The token of this installation.

    path : the file to read, made with mode 0600 when absent; ignored when the environment has a token
    env  : defaults to os.environ

    Raises TokenExposed, TokenWeak or TokenUnreadable.
    """
    given = (os.environ if env is None else env).get(ENV)
    if given is not None:
        return _checked(given.strip(), ENV)
    try:
        return _read(path)
    except FileNotFoundError:
        _create(path)
        return _read(path)


def matches(authorization: str | None, token: str) -> bool:
    """Whether an Authorization header carries `token`, in time that does not depend on where they differ."""
    scheme, _, given = (authorization or "").partition(" ")
    same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())
    return same and scheme.lower() == "bearer"


def _checked(token: str, where: str) -> str:
    if len(token) < MIN_CHARS:
        raise TokenWeak(f"{where}: {len(token)} characters; use at least {MIN_CHARS}, e.g. `openssl rand -hex 32`")
    if not B64TOKEN.fullmatch(token):
        raise TokenWeak(f"{where}: only letters, digits and ._~+/-= travel in a bearer header (RFC 6750 section 2.1)")
    return token


def _read(path: Path) -> str:
    """The token in `path`, checked through one descriptor so that what was checked is what is read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a fifo must not hang us
    except FileNotFoundError:
        raise
    except OSError as error:
        raise TokenUnreadable(f"{path}: {error.strerror}; make it a plain file of this user with mode 0600") from error
    try:
        info = os.fstat(fd)
        mode = stat.S_IMODE(info.st_mode)
        if not stat.S_ISREG(info.st_mode):
            raise TokenUnreadable(f"{path}: not a plain file; remove it, a new token is then made")
        if mode & 0o077:
            raise TokenExposed(
                f"{path}: mode {mode:04o} lets others in; `chmod 600 {path}`, or remove it for a new token"
            )
        return _checked(os.read(fd, 4096).decode("utf-8", "replace").strip(), str(path))
    finally:
        os.close(fd)


def _create(path: Path) -> None:
    """A fresh token at `path`, whole or not at all: two processes that start together end with one token."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        os.link(draft, path)
    except FileExistsError:
        return  # the other process was first; its token is the one
    finally:
        draft.unlink()
