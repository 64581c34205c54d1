"""What a request asks the reply to be besides prose: the call of a tool, or JSON that follows a schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from token_tracker.demo.echo import Call, Json, texts

_DEPTH_MAX = 8
_FIELDS_MAX = 50


def chat_asked(call: Call) -> Call:
    """Of OpenAI's `tools`, `tool_choice` and `response_format`. A tool's result is what the next reply echoes."""
    last = call.body["messages"][-1] if call.body["messages"] else {}
    if last.get("role") == "tool":
        return _formatted(replace(call, last_message=" ".join(texts(last))))
    tools = [_mapping(_mapping(tool).get("function")) for tool in _list(call.body.get("tools"))]
    choice = call.body.get("tool_choice")
    wanted = _mapping(_mapping(choice).get("function")).get("name")
    if tools and choice != "none":
        return _calling(call, tools, wanted, "parameters")
    return _formatted(call)


def messages_asked(call: Call) -> Call:
    """Of Anthropic's `tools` and `tool_choice`; nothing after a tool's result, which the reply echoes."""
    last = call.body["messages"][-1] if call.body["messages"] else {}
    has_result = any(_mapping(part).get("type") == "tool_result" for part in _list(last.get("content")))
    tools = [_mapping(tool) for tool in _list(call.body.get("tools")) if "input_schema" in _mapping(tool)]
    choice = _mapping(call.body.get("tool_choice"))
    if has_result or not tools or choice.get("type") == "none":
        return call
    return _calling(call, tools, choice.get("name"), "input_schema")


def _calling(call: Call, tools: list[Mapping[str, Any]], wanted: object, schema: str) -> Call:
    """The named tool, else the first, with arguments that follow its schema."""
    tool = next((each for each in tools if each.get("name") == wanted), tools[0])
    name = tool.get("name")
    if not isinstance(name, str):
        return call
    return replace(call, tool=name, said=json.dumps(sample(tool.get(schema), call.last_message)))


def _formatted(call: Call) -> Call:
    wanted = _mapping(call.body.get("response_format"))
    if wanted.get("type") == "json_schema":
        schema = _mapping(wanted.get("json_schema")).get("schema")
        return replace(call, said=json.dumps(sample(schema, call.last_message)))
    if wanted.get("type") == "json_object":
        return replace(call, said=json.dumps({"echo": call.last_message}))
    return call


def sample(schema: object, text: str) -> Any:
    """A value that follows a JSON schema; its strings are `text` where nothing else is asked."""
    root = _mapping(schema)
    return _sample(root or {"type": "object"}, root, text, 0)


def _sample(schema: Mapping[str, Any], root: Json | Mapping[str, Any], text: str, depth: int) -> Any:
    if depth > _DEPTH_MAX:
        return None
    if isinstance(reference := schema.get("$ref"), str):
        target = _mapping(_mapping(root.get("$defs")).get(reference.removeprefix("#/$defs/")))
        return _sample(target, root, text, depth + 1)
    if "const" in schema:
        return schema["const"]
    for name in ("enum", "anyOf", "oneOf"):
        if options := _list(schema.get(name)):
            return options[0] if name == "enum" else _sample(_mapping(options[0]), root, text, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object":
        fields = list(_mapping(schema.get("properties")).items())[:_FIELDS_MAX]
        return {name: _sample(_mapping(each), root, text, depth + 1) for name, each in fields}
    if kind == "array":
        return [_sample(_mapping(schema.get("items")), root, text, depth + 1)]
    simple = {"integer": schema.get("minimum", 1), "number": schema.get("minimum", 1.5), "boolean": True, "null": None}
    return simple.get(str(kind), text)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
