"""Who may do what at the store: one user a process, with the keys and commands it needs and no others.

The embedded servers are started with these users, passwords made for the run and kept in its folder, mode 0600; for
a server of one's own `flyball acl` makes the same users and prints them as a file that Redis (7 or later) and Valkey
read (`aclfile`). The file holds digests of the passwords, never the passwords; they are on no command line and in no
log. Keys are bound to the area: two areas on one server do not reach each other.

Without a user a connection can say PING and nothing else.
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from aggregator.config import store_keys
from aggregator.keys import KeyFault

ADMIN: Final = "admin"
BYTES: Final = 24
COMMON: Final = "+ping +hello +auth +client|setinfo +client|setname +select"
WRITE: Final = "+xadd +xread +xrange +xrevrange +multi +exec +get +set"
FOLLOW: Final = "+xread +xrange +xrevrange +get +set"

# Keys with {area} to be filled in: read, read and written, and the commands. The table of streams and keys with who
# writes what is in docs/operations.md. Doors that take set-points have a stream each, named as in `roles.NAMES`.
ROLES: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...], str]]] = {
    "ingest": (
        (), ("freq:{area}:*", "sources:{area}:*", "backfill:{area}:*", "bookmarks:{area}:*"), f"{WRITE} +hset +hget",
    ),
    "worker": (
        ("freq:{area}:*", "fleet:{area}:*", "signal:{area}:*", "wishes:{area}:*", "sessions:{area}:*"),
        (
            "cmd:{area}:*", "journal:{area}:*", "live:{area}", "fleetview:{area}", "explain:{area}",
            "explained:{area}:*", "snapshot:{area}:*",
        ),
        f"{WRITE} +lpop +hset +hgetall +del",
    ),
    "gateway": (("cmd:{area}:*",), ("fleet:{area}:*", "sessions:{area}:*"), WRITE),
    "settle": (
        ("journal:{area}:*", "backfill:{area}:*", "sources:{area}:*"), ("statements:{area}", "accounts:{area}"),
        f"{FOLLOW} +hset",
    ),
    "api": (
        (
            "live:{area}", "fleetview:{area}", "explained:{area}:*", "statements:{area}", "accounts:{area}",
            "stats:{area}:*",
        ),
        ("signal:{area}:a*", "wishes:{area}:*", "explain:{area}"),
        f"{WRITE} +getrange +mget +hkeys +hmget +rpush +ltrim +expire",
    ),
    "utility": (("live:{area}",), ("signal:{area}:u*",), WRITE),
    "run": (
        (
            "stats:{area}:*", "statements:{area}", "freq:{area}:*", "fleet:{area}:*", "cmd:{area}:*", "signal:{area}:*",
            "wishes:{area}:*", "journal:{area}:*", "backfill:{area}:*", "sources:{area}:*",
        ),
        (),
        "+get +hgetall +xrevrange",
    ),
}  # fmt: skip


def make_passwords(folder: Path) -> dict[str, str]:
    """User -> password, for every role and the administrator; each made in a private file where it is absent.

    Raises KeyFault for a file that others can read, or that cannot be read.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in (*ROLES, ADMIN):
        path = _path(folder, name)
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(BYTES) + "\n", encoding="ascii")
    return {name: _read(_path(folder, name)) for name in (*ROLES, ADMIN)}


def acl(area: str, passwords: dict[str, str]) -> str:
    """The users as the server's ACL file. passwords : of every role, and of the administrator if there is to be one"""
    lines = [f"user default on nopass resetchannels -@all {COMMON}"]
    for name, password in passwords.items():
        digest = hashlib.sha256(password.encode()).hexdigest()
        lines.append(f"user {name} on #{digest} resetchannels -@all {_rules(name, area)}")
    return "\n".join(lines) + "\n"


def address(url: str, folder: Path, name: str) -> str:
    """The server's address with a user's name and password, where the run made them.

    For a server of one's own `store_keys` names the folder that `flyball acl` filled; without it the address brings
    its user with it, one for all processes.
    """
    own = store_keys()
    path = _path(own or folder, name)
    parts = urlsplit(url)
    if name not in (*ROLES, ADMIN) or (own is None and (parts.scheme != "unix" or parts.username or not path.exists())):
        return url
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(name)}:{quote(_read(path))}@{place}"))


def _rules(name: str, area: str) -> str:
    if name == ADMIN:
        return "~* &* +@all"
    reads, writes, commands = ROLES[name]
    keys = [f"%R~{key}" for key in reads] + [f"~{key}" for key in (*writes, *(() if name == "run" else _own(name)))]
    return " ".join([COMMON, commands, *keys]).replace("{area}", area)


def _own(name: str) -> tuple[str]:
    """A process' own counters; of several ingests each has its own."""
    return ("stats:{area}:" + name + ("*" if name == "ingest" else ""),)


def _path(folder: Path, name: str) -> Path:
    return folder / f"store-{name}.password"


def _read(path: Path) -> str:
    try:
        if path.stat().st_mode & 0o077:
            raise KeyFault(f"{path} can be read by others: chmod 600 it, or remove it to have a new one")
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise KeyFault(f"{path}: cannot be read ({error.strerror}); give it to this user, or remove it") from error
