"""A TOML table into a frozen record: unknown keys, wrong types and numbers that are none are refused by name.

The record's annotations are the schema: `float`, `int`, `str`, `bool`, `tuple[...]` of them, `Mapping` for tables whose
keys another package knows, a literal's choices, and records within records. What a number may be beyond that, the
record says in its `__post_init__`.
"""

from __future__ import annotations

import difflib
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Record = TypeVar("Record")


class TableError(ValueError):
    """A table that is no such record; the message names the field and the remedy."""


def record(kind: type[Record], table: Mapping[str, Any], where: str = "") -> Record:
    """The record that a table describes.

    where : path of the table within its file, `` or `trigger.`: how its fields are named in messages

    Raises TableError.
    """
    if not isinstance(table, Mapping):
        raise TableError(f"field `{where.rstrip('.')}` takes a table")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            raise TableError(f"unknown field `{where}{key}`" + (f"; did you mean `{near[0]}`?" if near else ""))
    hints = _hints(kind)  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, field in known.items():
        if name in table:
            values[name] = _value(hints[name], table[name], f"{where}{name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise TableError(f"field `{where}{name}` is missing")
    try:
        return kind(**values)
    except ValueError as error:
        raise TableError(str(error) if not where else f"table `{where.rstrip('.')}`: {error}") from error


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind)


def table(item: Any) -> dict[str, Any]:
    """The record as a table that `record` takes; what is at its default or cannot be written is left out."""
    found: dict[str, Any] = {}
    for field in fields(item):
        value = getattr(item, field.name)
        default = field.default if field.default is not MISSING else None
        if value is None or value == default or (field.default_factory is not MISSING and not value):
            continue
        found[field.name] = table(value) if is_dataclass(value) else _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return dict(value) if isinstance(value, Mapping) else value


def _value(hint: Any, value: Any, name: str) -> Any:
    origin, choices = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        (hint,) = (choice for choice in choices if choice is not type(None))
        return None if value is None else _value(hint, value, name)
    if origin is Literal:
        if value not in choices:
            raise TableError(f"field `{name}` takes one of {', '.join(map(str, choices))}")
        return value
    if origin is tuple:
        return _row(choices, value, name)
    if is_dataclass(hint):
        return record(hint, value, f"{name}.")  # type: ignore[arg-type]
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            raise TableError(f"field `{name}` takes a number")
        return float(value)
    wanted = {int: "a whole number", str: "a text", bool: "true or false"}.get(hint, "a table")
    fits = isinstance(value, Mapping) if origin is not None else isinstance(value, hint)
    if not fits or (hint is int and isinstance(value, bool)):
        raise TableError(f"field `{name}` takes {wanted}")
    return value


def _row(parts: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise TableError(f"field `{name}` takes a list")
    if len(parts) == 2 and parts[1] is Ellipsis:
        return tuple(_value(parts[0], part, f"{name}[{k}]") for k, part in enumerate(value))
    if len(value) != len(parts):
        raise TableError(f"field `{name}` takes {len(parts)} values, not {len(value)}")
    return tuple(_value(part, one, f"{name}[{k}]") for k, (part, one) in enumerate(zip(parts, value, strict=True)))
