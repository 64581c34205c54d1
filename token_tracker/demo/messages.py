"""Anthropic's messages, as a provider speaks them."""

from __future__ import annotations

import json
from collections.abc import Iterator

from token_tracker.demo.asked import messages_asked
from token_tracker.demo.echo import BadCall, Call, Event, Json, Reply, read_conversation


def read(body: Json) -> Call:
    if body.get("max_tokens") is None:
        raise BadCall("max_tokens: Field required")
    call = read_conversation(body, body.get("messages"), body.get("system"), max_words=body.get("max_tokens"))
    return messages_asked(call)


def read_countable(body: Json) -> Call:
    """A message to be counted: nothing bounds a reply that is not given."""
    return read_conversation(body, body.get("messages"), body.get("system"), max_words=None)


def count_answer(call: Call, reply: Reply) -> Json:
    return {"input_tokens": call.prompt_words}


def usage(reply: Reply, output_tokens: int | None = None) -> Json:
    """Anthropic counts exclusively: `input_tokens` has neither what was read from a cache nor what was written.

    `output_tokens`: so far, where the reply is still being given; None: all of them.
    """
    counts = reply.usage
    return {
        "input_tokens": counts.input_tokens,
        "cache_creation_input_tokens": counts.cache_write_5m_tokens + counts.cache_write_1h_tokens,
        "cache_read_input_tokens": counts.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": counts.cache_write_5m_tokens,
            "ephemeral_1h_input_tokens": counts.cache_write_1h_tokens,
        },
        "output_tokens": counts.completion_tokens if output_tokens is None else output_tokens,
        "service_tier": "standard",
    }


def answer(call: Call, reply: Reply) -> Json:
    block: Json = {"type": "text", "text": reply.text, "citations": None}
    if reply.tool:
        block = _tool_use(reply) | {"input": {} if reply.is_cut else json.loads(reply.text)}
    return _message(call, reply) | {"content": [block], "stop_reason": _stop(reply), "usage": usage(reply)}


def events(call: Call, reply: Reply) -> Iterator[Event]:
    """`message_start` with the prompt's count and one output token, `message_delta` with the final count."""
    for name, data in _steps(call, reply):
        yield Event({"type": name, **data}, name)


def _steps(call: Call, reply: Reply) -> Iterator[tuple[str, Json]]:
    yield "message_start", {"message": _message(call, reply) | {"usage": usage(reply, 1)}}
    opened = _tool_use(reply) if reply.tool else {"type": "text", "text": ""}
    yield "content_block_start", {"index": 0, "content_block": opened}
    yield "ping", {}
    for piece in reply.pieces:
        text = {"type": "text_delta", "text": piece}
        arguments = {"type": "input_json_delta", "partial_json": piece}
        yield "content_block_delta", {"index": 0, "delta": arguments if reply.tool else text}
    yield "content_block_stop", {"index": 0}
    final = {"output_tokens": reply.usage.completion_tokens}
    yield "message_delta", {"delta": {"stop_reason": _stop(reply), "stop_sequence": None}, "usage": final}
    yield "message_stop", {}


def _message(call: Call, reply: Reply) -> Json:
    return {
        "id": f"msg_{reply.serial}",
        "type": "message",
        "role": "assistant",
        "model": call.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _stop(reply: Reply) -> str:
    return "max_tokens" if reply.is_cut else "tool_use" if reply.tool else "end_turn"


def _tool_use(reply: Reply) -> Json:
    return {"type": "tool_use", "id": f"toolu_{reply.serial}", "name": reply.tool, "input": {}}
