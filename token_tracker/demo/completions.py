"""OpenAI's older completions, as a provider speaks them: a prompt in, a text out."""

from __future__ import annotations

from collections.abc import Iterator

from token_tracker.demo.chat import DONE, finish, usage
from token_tracker.demo.echo import BadCall, Call, Event, Json, Reply, read_conversation


def read(body: Json) -> Call:
    """`prompt`: a text or several, answered as one."""
    prompt = body.get("prompt")
    if not isinstance(prompt, str | list) or not prompt:
        raise BadCall("'prompt' must be a text or a list of texts.")
    return read_conversation(body, [{"content": prompt}], max_words=body.get("max_tokens"))


def answer(call: Call, reply: Reply) -> Json:
    return {**_chunk(call, reply, reply.text, finish(reply)), "usage": usage(reply)}


def events(call: Call, reply: Reply) -> Iterator[Event]:
    """One chunk a word; usage in a last chunk without choices, only if the client asked for it."""
    for piece in reply.pieces:
        yield _event(call, _chunk(call, reply, piece))
    yield _event(call, _chunk(call, reply, "", finish(reply)))
    if call.include_usage:
        yield Event({**_chunk(call, reply, ""), "choices": [], "usage": usage(reply)})
    yield DONE


def _event(call: Call, chunk: Json) -> Event:
    return Event(chunk | {"usage": None} if call.include_usage else chunk)


def _chunk(call: Call, reply: Reply, text: str, finish_reason: str | None = None) -> Json:
    choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish_reason}
    head = {"id": f"cmpl-{reply.serial}", "object": "text_completion", "created": reply.created_s, "model": call.model}
    return {**head, "choices": [choice]}
