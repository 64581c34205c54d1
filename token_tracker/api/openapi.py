"""The OpenAPI 3.1 document of the API, made of the table of routes and the schemas that validate."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from http import HTTPStatus
from inspect import cleandoc
from typing import Any

import msgspec

from token_tracker import __version__
from token_tracker.api.routes import ROUTES
from token_tracker.api.routing import Open, Route
from token_tracker.api.schemas import Error

_REFERENCE = "#/components/schemas/"
_PATH_FIELD = re.compile(r"\{(\w+)\}")
_JSON = "application/json"


@cache
def document() -> bytes:
    """The document as JSON text."""
    return msgspec.json.encode(describe(ROUTES))


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """The document of `routes`."""
    described = list(routes)
    schemas = {
        schema
        for route in described
        for schema in (route.answer, route.body, route.query, *route.also_answers)
        if schema
    }
    ordered = sorted(schemas, key=lambda schema: schema.__name__)
    _, components = msgspec.json.schema_components([*ordered, Error], ref_template=_REFERENCE + "{name}")
    for schema in components.values():
        if "description" in schema:
            schema["description"] = cleandoc(schema["description"])
    taken_apart = {route.query.__name__ for route in described if route.query}
    paths: dict[str, dict[str, Any]] = {}
    for route in described:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Token Tracker", "version": __version__, "license": {"name": "MIT", "identifier": "MIT"}},
        "servers": [{"url": "/"}],
        "security": [{"access_token": []}],
        "paths": paths,
        "components": {
            "schemas": {name: schema for name, schema in components.items() if name not in taken_apart},
            "securitySchemes": {"access_token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(route: Route, components: dict[str, Any]) -> dict[str, Any]:
    noun = route.path.removeprefix("/api").strip("/").split("/")[0].partition(".")[0] or "index"
    operation: dict[str, Any] = {
        "operationId": f"{noun}_{route.handler.__name__}".replace("-", "_"),
        "summary": route.summary,
        "tags": [noun],
        "parameters": [*_path_parameters(route), *_query_parameters(route, components), *_header_parameters(route)],
        "responses": _responses(route),
    }
    if isinstance(route.permission, Open):
        operation["security"] = []
    else:
        operation["description"] = f"Needs the permission `{route.permission}`."
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {_JSON: {"schema": _reference(route.body)}}}
    elif route.reads:
        content = {_JSON: {"schema": {"type": "object", "description": route.reads}}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PATH_FIELD.findall(route.path)
    ]


def _query_parameters(route: Route, components: dict[str, Any]) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    described = components[route.query.__name__]
    return [
        {"name": name, "in": "query", "required": False, "schema": _when_given(schema)}
        for name, schema in described["properties"].items()
    ]


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    if 412 not in route.errors:
        return []
    says = "the `ETag` of what is to be changed: another state than this is 412"
    return [{"name": "If-Match", "in": "header", "required": False, "description": says, "schema": {"type": "string"}}]


def _when_given(schema: dict[str, Any]) -> dict[str, Any]:
    """Without null, which a query string cannot say."""
    return schema["anyOf"][0] if "anyOf" in schema else schema


def _responses(route: Route) -> dict[str, Any]:
    answered: dict[str, Any] = {"description": HTTPStatus(route.status).phrase}
    if route.answer is not None:
        kinds = [_reference(kind) for kind in (route.answer, *route.also_answers)]
        answered["content"] = {_JSON: {"schema": kinds[0] if len(kinds) == 1 else {"oneOf": kinds}}}
        answered["content"].update({media: {"schema": {"type": "string"}} for media in route.also})
    others = {str(status): {**answered, "description": HTTPStatus(status).phrase} for status in route.other_statuses}
    refused = {str(status): _refusal(status) for status in sorted(_refusals(route))}
    return {str(route.status): answered, **others, **refused}


def _refusals(route: Route) -> set[int]:
    """What a route may answer instead, by what it needs and takes: 414 a too long address, 431 too large headers, 503
    while the database is away."""
    found = {414, 431, 500, 503, *route.errors}
    if not isinstance(route.permission, Open):
        found |= {401, 403}
    if _PATH_FIELD.search(route.path):
        found.add(404)
    if route.query is not None:
        found.add(422)
    if route.body is not None or route.reads:
        found |= {400, 413, 415, 422}
    return found


def _refusal(status: int) -> dict[str, Any]:
    """Always of one shape."""
    answer: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {_JSON: {"schema": _reference(Error)}},
    }
    if status in (429, 503):
        seconds = {"type": "integer", "minimum": 1}
        answer["headers"] = {"Retry-After": {"description": "seconds", "required": True, "schema": seconds}}
    return answer


def _reference(schema: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REFERENCE + schema.__name__}
