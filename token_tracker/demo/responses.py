"""OpenAI's responses, as a provider speaks them."""

from __future__ import annotations

from collections.abc import Iterator

from token_tracker.demo.echo import BadCall, Call, Event, Json, Reply, read_conversation


def read(body: Json) -> Call:
    messages = body.get("input")
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, list):
        raise BadCall("'input' must be a text or a list of items.")
    return read_conversation(body, messages, body.get("instructions"), max_words=body.get("max_output_tokens"))


def usage(reply: Reply) -> Json:
    """Inclusive, as in chat completions, under other names."""
    counts = reply.usage
    return {
        "input_tokens": counts.prompt_tokens,
        "input_tokens_details": {"cached_tokens": counts.cache_read_tokens},
        "output_tokens": counts.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning_tokens},
        "total_tokens": counts.total_tokens,
    }


def answer(call: Call, reply: Reply) -> Json:
    status = "incomplete" if reply.is_cut else "completed"
    return _response(call, reply, status) | {"output": [_item(reply, status)], "usage": usage(reply)}


def events(call: Call, reply: Reply) -> Iterator[Event]:
    """Named and numbered, from `response.created` to `response.completed` or `response.incomplete`."""
    for number, (name, data) in enumerate(_steps(call, reply)):
        yield Event({"type": name, "sequence_number": number, **data}, name)


def _steps(call: Call, reply: Reply) -> Iterator[tuple[str, Json]]:
    final = answer(call, reply)
    begun = _response(call, reply, "in_progress")
    item = _item(reply, "in_progress") | {"content": []}
    part = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    yield "response.created", {"response": begun}
    yield "response.in_progress", {"response": begun}
    yield "response.output_item.added", {"output_index": 0, "item": item}
    yield "response.content_part.added", {**part, "part": _text("")}
    for piece in reply.pieces:
        yield "response.output_text.delta", {**part, "delta": piece, "logprobs": []}
    yield "response.output_text.done", {**part, "text": reply.text, "logprobs": []}
    yield "response.content_part.done", {**part, "part": _text(reply.text)}
    yield "response.output_item.done", {"output_index": 0, "item": final["output"][0]}
    yield f"response.{final['status']}", {"response": final}


def _response(call: Call, reply: Reply, status: str) -> Json:
    cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
    return {
        "id": f"resp_{reply.serial}",
        "object": "response",
        "created_at": reply.created_s,
        "status": status,
        "error": None,
        "incomplete_details": cut,
        "instructions": call.body.get("instructions"),
        "max_output_tokens": call.max_words,
        "metadata": call.body.get("metadata") or {},
        "model": call.model,
        "output": [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": None,
    }


def _item(reply: Reply, status: str) -> Json:
    return {
        "id": f"msg_{reply.serial}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [_text(reply.text)],
    }


def _text(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
