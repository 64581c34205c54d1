"""A stream that is cut ends as if its output maximum were reached, in each dialect's own words."""

from __future__ import annotations

import json
from typing import Any

from tests.proxy.upstream import delta
from token_tracker.proxy.dialects import ROUTES
from token_tracker.proxy.dialects.base import StreamObserver


def observer(path: str, **fields: Any) -> StreamObserver:
    dialect = ROUTES[path].dialect
    return dialect.observer(dialect.read(json.dumps({"model": "m", "stream": True, **fields}).encode()))


def events(data: bytes) -> list[Any]:
    lines = [line for line in data.decode().splitlines() if line.startswith("data: ")]
    return [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]


def named(kind: str, **data: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()


def test_a_chats_running_choices_are_finished_by_their_length() -> None:
    watching = observer("/v1/chat/completions", n=2)
    watching.feed(delta("a"))
    watching.feed(delta("b").replace(b'"index": 0', b'"index": 1'))
    chunk, done = events(watching.ending("gpt"))
    assert [(each["index"], each["finish_reason"]) for each in chunk["choices"]] == [(0, "length"), (1, "length")]
    assert (chunk["id"], chunk["object"], chunk["model"]) == ("chatcmpl-1", "chat.completion.chunk", "gpt")
    assert done == "[DONE]"


def test_a_completions_end_has_text_instead_of_a_delta() -> None:
    chunk, done = events(observer("/v1/completions", prompt="x").ending("gpt"))
    assert chunk["choices"] == [{"index": 0, "finish_reason": "length", "text": ""}] and done == "[DONE]"


def test_a_messages_open_block_and_the_message_are_stopped() -> None:
    watching = observer("/v1/messages", max_tokens=5)
    watching.feed(named("message_start", message={"id": "msg_1", "usage": {"input_tokens": 3, "output_tokens": 1}}))
    watching.feed(named("content_block_start", index=2, content_block={"type": "text", "text": ""}))
    for _ in range(4):
        watching.feed(named("content_block_delta", index=2, delta={"type": "text_delta", "text": "word"}))
    stopped, told, end = events(watching.ending("claude"))
    assert stopped == {"type": "content_block_stop", "index": 2}
    assert (told["delta"]["stop_reason"], told["usage"]["output_tokens"]) == ("max_tokens", 4)
    assert end == {"type": "message_stop"}
    watching.feed(named("content_block_stop", index=2))
    assert [each["type"] for each in events(watching.ending("claude"))] == ["message_delta", "message_stop"]


def test_a_response_is_incomplete_for_its_maximum_and_says_what_it_was() -> None:
    watching = observer("/v1/responses", input="x")
    watching.feed(named("response.created", response={"id": "resp_1", "model": "gpt-5", "status": "in_progress"}))
    (end,) = events(watching.ending("gpt"))
    response = end["response"]
    assert (end["type"], response["id"], response["model"]) == ("response.incomplete", "resp_1", "gpt-5")
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


def test_an_event_that_is_half_there_is_no_place_to_end() -> None:
    watching = observer("/v1/chat/completions")
    whole = delta("a")
    watching.feed(whole[:-1])
    assert not watching.is_between_events
    watching.feed(whole[-1:])
    assert watching.is_between_events
