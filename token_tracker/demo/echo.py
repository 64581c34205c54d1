"""What the echo provider says: the last user message with a friendly prefix, or what else is asked; in words."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from token_tracker.domain.usage import Usage

Json = dict[str, Any]
PREFIX = "Hello from Token Tracker! You said: "
_WORD = re.compile(r"\S+\s*")


class BadCall(ValueError):
    """A request that the provider does not understand; the message is for its sender."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a request asks for, in any format. `prompt_words` counts every text in it; `max_words` bounds the reply."""

    model: str
    prompt_words: int
    last_message: str
    stream: bool = False
    include_usage: bool = False
    max_words: int | None = None
    tool: str = ""  # the tool to call instead of speaking; `said` are its arguments
    said: str = ""  # JSON to say instead of the echo
    body: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, in any format. `pieces` joined are the text; a stream sends them one by one."""

    pieces: tuple[str, ...]
    usage: Usage
    is_cut: bool = False  # the bound on words took something away
    tool: str = ""  # the tool that is called; the text is the JSON of its arguments
    serial: str = field(default_factory=lambda: secrets.token_hex(12))
    created_s: int = field(default_factory=lambda: int(time.time()))

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream: `name` '' where the format names none, `data` JSON or a bare word such as '[DONE]'."""

    data: Json | str
    name: str = ""


def echo(call: Call) -> Reply:
    """The reply to `call`, billed by the word: what was read and what is said."""
    pieces = _WORD.findall(call.said or (PREFIX + call.last_message).rstrip())
    kept = pieces if call.max_words is None else pieces[: call.max_words]
    usage = Usage(input_tokens=call.prompt_words, output_tokens=len(kept))
    return Reply((*kept[:-1], kept[-1].rstrip()), usage, is_cut=len(kept) < len(pieces), tool=call.tool)


def words(text: str) -> int:
    return len(text.split())


def texts(content: object) -> Iterator[str]:
    """Every text in a message's content: a string, or a list of strings and of parts with 'text' or 'content'."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            yield from texts(part)
    elif isinstance(content, dict):
        yield from texts(content.get("text"))
        yield from texts(content.get("content"))


def read_conversation(body: Json, messages: object, *more: object, max_words: object) -> Call:
    """The facts that all chat formats share. Raises BadCall for a body without messages."""
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise BadCall("'messages' must be a list of messages.")
    spoken = [text for message in messages for text in texts(message)]
    options = body.get("stream_options")
    asked = [" ".join(texts(message)) for message in messages if message.get("role", "user") == "user"]
    return Call(
        model=read_model(body),
        prompt_words=sum(map(words, [*spoken, *texts(list(more))])),
        last_message=asked[-1] if asked else "",
        stream=body.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        max_words=_bound(max_words),
        body=body,
    )


def read_model(body: Json) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadCall("'model' must be the name of a model.")
    return model


def _bound(max_words: object) -> int | None:
    if max_words is None:
        return None
    if not isinstance(max_words, int) or max_words < 1:
        raise BadCall(f"The maximum of tokens must be a whole number above 0, not {max_words!r}.")
    return max_words
