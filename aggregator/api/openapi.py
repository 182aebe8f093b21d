"""The OpenAPI 3.1 document, made from the route table and the models: never written by hand, never out of date.

OpenAPI 3.1 takes JSON Schema 2020-12 as it is, which is what pydantic prints (OpenAPI Specification 3.1.0,
section 4.8.24).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from aggregator.api.endpoints import Endpoint, Param
from aggregator.api.models import ErrorAnswer, Status

REF: Final = "#/components/schemas/{model}"
MEANING: Final = {
    101: "Switching protocols: one Status per text frame, two to five a second, latest wins",
    200: "As asked",
    202: "On the stream",
    400: "A parameter or the body cannot be read; `field` names it",
    401: "Token missing or wrong",
    403: "Host or Origin is not this server",
    404: "No such vehicle is plugged in, no such product, or no history to learn from",
    409: "The history is too short, or goes on beyond what was asked",
    422: "A field is out of bounds; `field` names it",
    503: "The store or the worker does not answer, or too many clients",
}


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The whole document as a JSON-ready table."""
    table = [endpoint for endpoint in endpoints if endpoint.path.startswith(("/v1/", "/metrics", "/healthz"))]
    models = {model for e in table for model in (e.answer, e.body) if model is not None} | {ErrorAnswer, Status}
    ordered: list[Any] = [(model, "serialization") for model in sorted(models, key=lambda model: model.__name__)]
    _, schemas = models_json_schema(ordered, ref_template=REF)
    paths: dict[str, Any] = {}
    for endpoint in table:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Flyball",
            "version": _version(),
            "summary": "Frequency-regulation aggregator for electric-vehicle fleets.",
            "description": "Positive power is into the grid. Times are int64 ns since 1970 UTC. Fractions are 0..1.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    answers = {str(endpoint.status): _answer(endpoint)}
    for status in sorted({*endpoint.refusals, *((401,) if endpoint.token else ())}):
        answers[str(status)] = {"description": MEANING[status], "content": _content(_ref(ErrorAnswer))}
    operation: dict[str, Any] = {"operationId": endpoint.name, "summary": endpoint.text, "responses": answers}
    parameters = [_place(name) for name in re.findall(r"{(\w+)}", endpoint.path)]
    parameters += [_parameter(param) for param in endpoint.params]
    if parameters:
        operation["parameters"] = parameters
    if endpoint.body is not None:
        operation["requestBody"] = {"required": True, "content": _content(_ref(endpoint.body))}
    if endpoint.token:
        operation["security"] = [{"bearer": []}]
    return operation


def _answer(endpoint: Endpoint) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": MEANING[endpoint.status]}
    if endpoint.status != 101:
        schema = {"type": "object"} if endpoint.media == "application/json" else {"type": "string"}
        answer["content"] = _content(_ref(endpoint.answer) if endpoint.answer else schema, endpoint.media)
    return answer


def _parameter(param: Param) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "maxLength": 64}
    if param.low is not None:
        schema = {"type": "integer", "minimum": param.low, "maximum": param.high}
    elif param.choices:
        schema = {"type": "string", "enum": list(param.choices)}
    if param.default is not None:
        schema["default"] = param.default
    return {"name": param.name, "in": "query", "required": False, "description": param.text, "schema": schema}


def _place(name: str) -> dict[str, Any]:
    """A parameter that stands in the path."""
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _ref(model: type) -> dict[str, str]:
    return {"$ref": REF.format(model=model.__name__)}


def _content(schema: dict[str, Any], media: str = "application/json") -> dict[str, Any]:
    return {media: {"schema": schema}}


def _version() -> str:
    try:
        return version("flyball")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0+checkout"
