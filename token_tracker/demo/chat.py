"""OpenAI's chat completions and embeddings, as a provider speaks them."""

from __future__ import annotations

from collections.abc import Iterator

from token_tracker.demo.asked import chat_asked
from token_tracker.demo.echo import BadCall, Call, Event, Json, Reply, read_conversation, read_model, texts, words

DONE = Event("[DONE]")


def read(body: Json) -> Call:
    bound = body.get("max_completion_tokens", body.get("max_tokens"))
    return chat_asked(read_conversation(body, body.get("messages"), max_words=bound))


def usage(reply: Reply) -> Json:
    """OpenAI counts inclusively: cached tokens are part of the prompt, reasoning is part of the completion."""
    counts = reply.usage
    return {
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": counts.total_tokens,
        "prompt_tokens_details": {"cached_tokens": counts.cache_read_tokens, "audio_tokens": counts.input_audio_tokens},
        "completion_tokens_details": {
            "reasoning_tokens": counts.reasoning_tokens,
            "audio_tokens": counts.output_audio_tokens,
        },
    }


def answer(call: Call, reply: Reply) -> Json:
    message: Json = {"role": "assistant", "content": reply.text, "refusal": None}
    if reply.tool:
        message |= {"content": None, "tool_calls": [_tool_call(reply, reply.text)]}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish(reply)}
    return {**_head(call, reply, "chat.completion"), "choices": [choice], "usage": usage(reply)}


def events(call: Call, reply: Reply) -> Iterator[Event]:
    """One chunk a word; usage in a last chunk without choices, only if the client asked for it."""
    if reply.tool:
        yield _chunk(call, reply, {"role": "assistant", "tool_calls": [{"index": 0, **_tool_call(reply, "")}]})
    else:
        yield _chunk(call, reply, {"role": "assistant", "content": "", "refusal": None})
    for piece in reply.pieces:
        arguments = {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
        yield _chunk(call, reply, arguments if reply.tool else {"content": piece})
    yield _chunk(call, reply, {}, finish(reply))
    if call.include_usage:
        yield Event({**_head(call, reply, "chat.completion.chunk"), "choices": [], "usage": usage(reply)})
    yield DONE


def _tool_call(reply: Reply, arguments: str) -> Json:
    return {
        "id": f"call_{reply.serial}",
        "type": "function",
        "function": {"name": reply.tool, "arguments": arguments},
    }


def _chunk(call: Call, reply: Reply, delta: Json, finish: str | None = None) -> Event:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    chunk: Json = {**_head(call, reply, "chat.completion.chunk"), "choices": [choice]}
    return Event(chunk | {"usage": None} if call.include_usage else chunk)


def _head(call: Call, reply: Reply, kind: str) -> Json:
    return {"id": f"chatcmpl-{reply.serial}", "object": kind, "created": reply.created_s, "model": call.model}


def finish(reply: Reply) -> str:
    return "length" if reply.is_cut else "tool_calls" if reply.tool else "stop"


def read_embeddings(body: Json) -> Call:
    """`input`: a text, texts, or token numbers (each counts as a word)."""
    inputs = body.get("input")
    if not isinstance(inputs, str | list) or not inputs:
        raise BadCall("'input' must be a text or a list of texts.")
    return Call(model=read_model(body), prompt_words=sum(map(count_input, _inputs(inputs))), last_message="", body=body)


def count_input(item: object) -> int:
    return words(item) if isinstance(item, str) else len(item) if isinstance(item, list) else 1


def _inputs(inputs: object) -> list[object]:
    one = isinstance(inputs, str) or (isinstance(inputs, list) and isinstance(inputs[0], int))
    return [inputs] if one else list(inputs)  # type: ignore[call-overload]


def embeddings_answer(call: Call, reply: Reply) -> Json:
    """Vectors of four numbers; base64 where the client asks for it, as OpenAI's Python client does."""
    encoded = call.body.get("encoding_format") == "base64"
    vectors = [_vector(" ".join(texts(item))) for item in _inputs(call.body["input"])]
    data = [
        {"object": "embedding", "index": index, "embedding": _base64(vector) if encoded else vector}
        for index, vector in enumerate(vectors)
    ]
    counts = {"prompt_tokens": reply.usage.prompt_tokens, "total_tokens": reply.usage.prompt_tokens}
    return {"object": "list", "data": data, "model": call.model, "usage": counts}


def _vector(text: str) -> list[float]:
    """Alike for alike texts, and of length one; it means nothing more."""
    spread = [1.0 + sum(map(ord, text[start::4])) % 97 for start in range(4)]
    length = sum(value * value for value in spread) ** 0.5
    return [value / length for value in spread]


def _base64(vector: list[float]) -> str:
    import base64
    import struct

    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
