"""Schemas whose parts are named more than once: what a translation may make of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from token_tracker.domain.bounds import Extent
from token_tracker.proxy.bounds import extent_of
from token_tracker.proxy.bounds.schemas import written_out
from token_tracker.proxy.dialects import ROUTES

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"


def read(path: str, fields: dict[str, Any]) -> Extent:
    dialect = ROUTES[path].dialect
    return extent_of(dialect.wire, dialect.read(json.dumps({"model": "m", **fields}).encode()))


def named(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}


def doubling(levels: int) -> dict[str, Any]:
    """Each part names the next one twice."""
    parts: dict[str, Any] = {f"p{n}": {"a": named(f"p{n + 1}"), "b": named(f"p{n + 1}")} for n in range(levels)}
    return {"properties": {"x": named("p0")}, "$defs": {**parts, f"p{levels}": {"type": "string"}}}


def unfold(value: Any, parts: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [unfold(each, parts) for each in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        return unfold(parts[value["$ref"].rpartition("/")[2]], parts)
    return {key: unfold(each, parts) for key, each in value.items()}


@pytest.mark.parametrize("levels", [0, 1, 5, 11])
def test_no_schema_is_longer_written_out_than_is_told(levels: int) -> None:
    schema = doubling(levels)
    raw = json.dumps(schema).encode()
    beyond = written_out(raw)
    assert beyond is not None
    longest = len(json.dumps(unfold(schema, schema["$defs"]), separators=(",", ":")))
    assert longest <= len(raw) + beyond < 4 * longest + len(raw)


def clique(parts: int) -> dict[str, Any]:
    """Each part names all others."""
    names = [f"p{n}" for n in range(parts)]
    return {"x": named("p0"), "$defs": {name: {each: named(each) for each in names if each != name} for name in names}}


@pytest.mark.parametrize("schema", [doubling(20), doubling(400), clique(12)])
def test_a_schema_that_grows_beyond_all_bounds_is_told_at_once(schema: dict[str, Any]) -> None:
    assert written_out(json.dumps(schema).encode()) is None


@pytest.mark.parametrize(
    ("schema", "beyond"),
    [
        ({"type": "object", "properties": {"a": {"type": "string"}}}, 0),
        ({"$ref": "#"}, 0),
        ({"items": named("elsewhere")}, 0),
        ({"text": "\\u0041", "$ref": 7}, 0),
        ({"$ref": "#/definitions/a", "definitions": {"a": {}}}, 2),
        ({"$defs": {"a": named("b"), "b": named("a")}}, 2 * 2 * len('{"$ref":"#/$defs/a"}')),
    ],
)
def test_parts_are_found_by_their_names(schema: dict[str, Any], beyond: int | None) -> None:
    assert written_out(json.dumps(schema).encode()) == beyond


def test_a_part_that_names_itself_is_written_out_once_for_each_name() -> None:
    child = {"child": named("a")}
    beyond = written_out(json.dumps({"x": named("a"), "$defs": {"a": child}}).encode())
    assert beyond == 2 * len(json.dumps(child, separators=(",", ":")))


def test_a_name_that_is_escaped_is_found_and_what_is_no_json_is_not_believed() -> None:
    raw = json.dumps(doubling(3)).encode()
    assert written_out(raw.replace(b"$ref", b"\\u0024ref")) == written_out(raw)
    assert written_out(b'{"$ref"') is None
    assert written_out(b"[" * 100_000 + b'"$ref"' + b"]" * 100_000) is None


def test_schemas_are_held_as_they_may_be_written_out() -> None:
    schema = doubling(11)
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    answer = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    for path, fields in (
        (CHAT, {"messages": [], "tools": [tool]}),
        (CHAT, {"messages": [], "response_format": answer}),
        (RESPONSES, {"input": "x", "text": {"format": answer}}),
        (MESSAGES, {"messages": [], "tools": [{"name": "f", "input_schema": schema}]}),
    ):
        assert read(path, fields).text_tokens > 100_000
    growing = {"type": "function", "function": {"name": "f", "parameters": doubling(20)}}
    assert read(CHAT, {"messages": [], "tools": [growing]}).is_open
