"""The demo model calls tools and follows schemas, plainly and as a stream."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from token_tracker.demo.asked import sample

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CHAT_TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
OTHER_TOOL = {"type": "function", "function": {"name": "news", "parameters": SCHEMA}}
USER = {"role": "user", "content": "Paris"}


def post(url: str, path: str, **body: Any) -> httpx.Response:
    answer = httpx.post(url + path, json={"model": "demo", "max_tokens": 100, "messages": [USER], **body}, timeout=10)
    assert answer.status_code == 200, answer.text
    return answer


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
    return [json.loads(line) for line in lines]


def test_a_chat_with_tools_calls_the_first_or_the_named_one(demo_url: str) -> None:
    path = "/v1/chat/completions"
    first = post(demo_url, path, tools=[CHAT_TOOL, OTHER_TOOL]).json()["choices"][0]
    assert (first["finish_reason"], first["message"]["content"]) == ("tool_calls", None)
    call = first["message"]["tool_calls"][0]["function"]
    assert (call["name"], json.loads(call["arguments"])) == ("weather", {"city": "Paris"})
    choice = {"type": "function", "function": {"name": "news"}}
    named = post(demo_url, path, tools=[CHAT_TOOL, OTHER_TOOL], tool_choice=choice).json()["choices"][0]
    assert named["message"]["tool_calls"][0]["function"]["name"] == "news"
    none = post(demo_url, path, tools=[CHAT_TOOL], tool_choice="none").json()["choices"][0]
    assert none["message"]["content"].endswith("You said: Paris")


def test_a_streamed_tool_call_says_the_same_and_is_billed_alike(demo_url: str) -> None:
    body = {"tools": [CHAT_TOOL], "stream": True, "stream_options": {"include_usage": True}}
    chunks = events(post(demo_url, "/v1/chat/completions", **body))
    deltas = [call for chunk in chunks for choice in chunk["choices"] for call in choice["delta"].get("tool_calls", ())]
    assert deltas[0]["function"]["name"] == "weather"
    assert json.loads("".join(each["function"]["arguments"] for each in deltas)) == {"city": "Paris"}
    plain = post(demo_url, "/v1/chat/completions", tools=[CHAT_TOOL]).json()
    assert chunks[-1]["usage"]["completion_tokens"] == plain["usage"]["completion_tokens"] == 2


def test_after_a_tools_result_the_model_speaks(demo_url: str) -> None:
    result = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
    spoken = post(demo_url, "/v1/chat/completions", messages=[USER, result], tools=[CHAT_TOOL]).json()
    assert spoken["choices"][0]["message"]["content"].endswith("You said: sunny")
    part = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}
    tools = [{"name": "weather", "input_schema": SCHEMA}]
    messages = [USER, {"role": "user", "content": [part]}]
    assert post(demo_url, "/v1/messages", messages=messages, tools=tools).json()["content"][0]["type"] == "text"


@pytest.mark.parametrize("stream", [False, True])
def test_a_message_with_tools_is_a_tool_use(demo_url: str, stream: bool) -> None:
    tools = [{"name": "weather", "input_schema": SCHEMA}]
    answer = post(demo_url, "/v1/messages", tools=tools, stream=stream)
    if not stream:
        block, reason = answer.json()["content"][0], answer.json()["stop_reason"]
        given = block["input"]
    else:
        sent = events(answer)
        block = next(each["content_block"] for each in sent if each["type"] == "content_block_start")
        pieces = [each["delta"]["partial_json"] for each in sent if each["type"] == "content_block_delta"]
        given = json.loads("".join(pieces))
        reason = next(each["delta"]["stop_reason"] for each in sent if each["type"] == "message_delta")
    assert (block["type"], block["name"], given, reason) == ("tool_use", "weather", {"city": "Paris"}, "tool_use")


def test_structured_output_follows_its_schema(demo_url: str) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}}
    answer = post(demo_url, "/v1/chat/completions", response_format=wanted).json()
    assert json.loads(answer["choices"][0]["message"]["content"]) == {"city": "Paris"}
    free = post(demo_url, "/v1/chat/completions", response_format={"type": "json_object"}).json()
    assert json.loads(free["choices"][0]["message"]["content"]) == {"echo": "Paris"}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "x"),
        ({"type": ["integer", "null"], "minimum": 4}, 4),
        ({"enum": ["red", "blue"]}, "red"),
        ({"const": 7}, 7),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, True),
        ({"type": "array", "items": {"type": "number"}}, [1.5]),
        ({"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "null"}}}, {"a": None}),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}, None),  # round in a circle, but not for ever
        (None, {}),
    ],
)
def test_a_sample_follows_its_schema(schema: object, value: object) -> None:
    assert sample(schema, "x") == value
