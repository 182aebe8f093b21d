"""The route table's vocabulary: an endpoint knows its path, its parameters and its documents.

One table drives both the router and the OpenAPI document, so neither can promise what the other does not do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from pydantic import BaseModel

from aggregator.api.errors import Refusal

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Param:
    """A query parameter; an integer when it has bounds, one of `choices` when it has those."""

    name: str
    text: str
    default: int | str | None = None
    low: int | None = None
    high: int | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation. `answer` is its document, None for files and plain text (`media` says which)."""

    method: str
    path: str
    name: str
    text: str
    handler: Handler
    answer: type[BaseModel] | None = None
    params: tuple[Param, ...] = ()
    body: type[BaseModel] | None = None
    status: int = 200
    media: str = "application/json"
    refusals: tuple[int, ...] = ()
    token: bool = False


def query(request: web.Request, params: tuple[Param, ...]) -> dict[str, int | str | None]:
    """The checked query parameters, defaults filled in. Raises Refusal 400 that names the parameter."""
    known = {param.name: param for param in params}
    for name in request.query:
        if name not in known:
            raise Refusal(400, f"unknown parameter {name[:40]!r}", name[:40], f"known: {', '.join(known) or 'none'}")
        if len(request.query.getall(name)) > 1:
            raise Refusal(400, f"{name} is given twice", name, "give it once")
    return {name: _value(param, request.query.get(name)) for name, param in known.items()}


def _value(param: Param, given: str | None) -> int | str | None:
    if given is None or given == "":
        return param.default
    if param.low is not None and param.high is not None:
        digits = given.isascii() and given.isdigit() and len(given) < 16
        if not digits or not param.low <= int(given) <= param.high:
            raise Refusal(
                400, f"{param.name} is {given[:40]!r}", param.name, f"a whole number {param.low} to {param.high}"
            )
        return int(given)
    if param.choices and given not in param.choices:
        raise Refusal(400, f"{param.name} is {given[:40]!r}", param.name, f"one of: {', '.join(param.choices)}")
    if len(given) > 64:
        raise Refusal(400, f"{param.name} is longer than 64 characters", param.name, "shorten it")
    return given
