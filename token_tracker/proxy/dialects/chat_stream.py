"""A completion's stream, chat or not: it ends with `data: [DONE]`, and its usage may come in five different places."""

from __future__ import annotations

import re
import time
from typing import Any

import msgspec

from token_tracker.domain.usage import Usage
from token_tracker.proxy.dialects.counts import inclusive_usage
from token_tracker.proxy.dialects.extras import extras_of
from token_tracker.proxy.dialects.facts import UNREADABLE, facts, identifier, text_bytes
from token_tracker.proxy.dialects.likeness import Likeness
from token_tracker.proxy.dialects.sse import PREAMBLE, Fate, SseObserver, payload

_DONE = b"[DONE]"
_USUAL_DONE = b"data: [DONE]"
_DATA = PREAMBLE + rb"(?:event:[^\r\n]*[\r\n]+)?data:[ ]*"
# Data that begins with anything but a bracket is not [DONE].
_NOT_DONE = re.compile(_DATA + rb"[^\s\[]")
# A chunk with choices is not the usage chunk. No brace or bracket before: the name stands at the top level.
_HAS_CHOICES = re.compile(_DATA + rb'\{[^{}\[\]]*"choices"\s*:\s*\[\s*\{')


class _Chunk(msgspec.Struct, gc=False):
    id: Any = None
    choices: Any = None
    usage: Any = None
    x_groq: Any = None
    error: Any = None
    service_tier: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


class ChatObserver(SseObserver):
    """`keeps_usage`: the client asked for the usage chunk itself, so it stays in the stream."""

    __slots__ = ("_has_finished", "_is_chat", "_keeps_usage", "_likeness", "_running", "_tier")

    def __init__(self, keeps_usage: bool, *, is_chat: bool = True) -> None:
        super().__init__()
        self._is_chat = is_chat
        self._keeps_usage = keeps_usage
        self._running: set[Any] = set()  # choices without a finish_reason yet
        self._has_finished = False
        self._tier: Any = None
        self._likeness = Likeness()

    def _looks_ordinary(self, beginning: bytes) -> bool:
        return (_NOT_DONE if self._keeps_usage else _HAS_CHOICES).match(beginning) is not None

    def _take(self, event: bytes) -> Fate:
        size = self._likeness.text_bytes(event)
        if size is not None:
            self._add_text(size)
            return Fate.PASS  # all else that it says was said by the last event that was read
        self._likeness.forget()
        if event.startswith(_USUAL_DONE):
            return self._done()
        try:
            chunk = _decode(event[5:] if event.startswith(b"data:") else b"")
        except UNREADABLE:
            data = payload(event)
            if data.lstrip().startswith(_DONE):
                return self._done()
            chunk = _Chunk(**facts(data, *_Chunk.__struct_fields__)) if data else _Chunk()
        fate = self._read(chunk)
        if self._likeness.can_learn and _is_text_alone(chunk.choices):
            self._likeness.learn(event)
        return fate

    def _done(self) -> Fate:
        self.reading.saw_end = True
        self.reading.is_final = self.reading.usage is not None
        return Fate.END

    def _skim(self, chunk: bytes, start: int) -> int:
        run = self._likeness.run(chunk, start)
        if run is None:
            return -1
        self.reading.output_bytes += run.text_bytes
        self.reading.output_events += run.with_text
        return run.end

    def ending(self, model: str) -> bytes:
        """Every choice that runs is finished by its length; then [DONE]."""
        empty: dict[str, Any] = {"delta": {}} if self._is_chat else {"text": ""}
        choices = [{"index": index, "finish_reason": "length", **empty} for index in sorted(self._running or {0})]
        chunk = {
            "id": self.reading.upstream_id,
            "object": "chat.completion.chunk" if self._is_chat else "text_completion",
            "created": int(time.time()),
            "model": model,
            "choices": choices,
        }
        return b"data: %s\n\ndata: [DONE]\n\n" % msgspec.json.encode(chunk)

    def _read(self, chunk: _Chunk) -> Fate:
        reading = self.reading
        if not reading.upstream_id:
            reading.upstream_id = identifier(chunk.id)
        choices = chunk.choices if type(chunk.choices) is list else ()
        has_finished, choice_usage = self._read_choices(choices) if choices else (False, None)
        if chunk.error is not None:
            reading.error = True
        if chunk.service_tier is not None:
            self._tier = chunk.service_tier
        usage = inclusive_usage(chunk.usage) or choice_usage or _groq_usage(chunk.x_groq)
        if usage is None:
            return Fate.PASS
        reading.extras = extras_of(chunk.usage, self._tier)
        reading.usage = usage  # counts are cumulative where they come more than once: the last one stands
        says_nothing = chunk.choices in (None, [])  # not one whose choices cannot be read
        reading.is_final = says_nothing or has_finished
        is_extra = says_nothing and not self._keeps_usage and chunk.error is None and chunk.usage is not None
        return Fate.DROP if is_extra else Fate.PASS

    def _read_choices(self, choices: list[Any]) -> tuple[bool, Usage | None]:
        """Whether a choice finished here, and the usage that it carries (Kimi)."""
        size = 0
        has_finished = False
        usage = None
        for choice in choices:
            if type(choice) is not dict:
                continue
            delta = choice.get("delta")
            if type(delta) is dict:
                size += spoken_bytes(delta)
            elif "text" in choice:  # completions without chat
                size += text_bytes(choice["text"])
            index = choice.get("index")
            if type(index) is not int:
                index = 0
            if choice.get("finish_reason"):
                has_finished = self._has_finished = True
                self._running.discard(index)
            else:
                self._running.add(index)
            if "usage" in choice:
                usage = inclusive_usage(choice["usage"])
        self._add_text(size)
        return has_finished, usage

    def _add_text(self, size: int) -> None:
        if size:
            self.reading.output_bytes += size
            self.reading.output_events += 1

    def _closed(self, is_clean: bool) -> None:
        """Without [DONE] a clean end is complete if the usage came, or every choice that began has finished."""
        reading = self.reading
        reading.saw_end = is_clean and (reading.is_final or (self._has_finished and not self._running))


def _is_text_alone(choices: Any) -> bool:
    """Whether there is one choice, and all the text that it brings is its content."""
    if type(choices) is not list or len(choices) != 1 or type(choices[0]) is not dict:
        return False
    delta = choices[0].get("delta")
    return type(delta) is dict and 0 < text_bytes(delta.get("content")) == spoken_bytes(delta)


def _groq_usage(value: Any) -> Usage | None:
    return inclusive_usage(value.get("usage")) if type(value) is dict else None


def spoken_bytes(delta: dict[str, Any]) -> int:
    """The text that a delta adds: content, reasoning, refusal, arguments of calls, transcript."""
    size = 0
    for key, value in delta.items():
        if not value or key == "role":
            continue
        if type(value) is str:
            if key in ("content", "reasoning_content", "reasoning", "refusal"):
                size += text_bytes(value)
        elif key == "content":
            size += _part_bytes(value)
        elif key == "tool_calls" and type(value) is list:
            size += sum(_call_bytes(call.get("function")) for call in value if type(call) is dict)
        elif key == "function_call":
            size += _call_bytes(value)
        elif key == "audio" and type(value) is dict:
            size += text_bytes(value.get("transcript"))
    return size


def _call_bytes(function: Any) -> int:
    return text_bytes(function.get("name"), function.get("arguments")) if type(function) is dict else 0


def _part_bytes(value: Any) -> int:
    """Content in parts (Mistral's reasoning models): text, and thinking in parts of its own."""
    if type(value) is list:
        return sum(map(_part_bytes, value))
    if type(value) is dict:
        return text_bytes(value.get("text")) + _part_bytes(value.get("thinking"))
    return 0
