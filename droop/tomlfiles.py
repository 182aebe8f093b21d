"""TOML files as tables: those that ship in a folder of this package, and a user's own.

What a table must hold, `droop.tables` says.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from droop.tables import TableError


def own(path: Path, what: str, remedy: str = "") -> dict[str, Any]:
    """The table in a file of a user's own.

    what : the kind of file, as `product`; remedy : what to do where it cannot be had

    Raises TableError; its message begins with the file's name.
    """
    hint = remedy and f"; {remedy}"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TableError(f"{path}: no such {what} file{hint}") from None
    except OSError as error:
        raise TableError(f"{path}: cannot be read: {error.strerror}{hint}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: not a TOML file: {error}") from error


def names(folder: str) -> list[str]:
    """Names, without their ending, of the files in a folder of this package, in order."""
    found = (entry.name for entry in resources.files("droop").joinpath(folder).iterdir())
    return sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml"))


def shipped(folder: str, name: str) -> dict[str, Any]:
    """The table in one of them."""
    entry = resources.files("droop").joinpath(folder, f"{name}.toml")
    return tomllib.loads(entry.read_text(encoding="utf-8"))
