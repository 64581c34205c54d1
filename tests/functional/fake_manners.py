"""How the fake provider misbehaves: manners read from a model's name, and what they do to usage and answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from token_tracker.demo.app import sse
from token_tracker.demo.echo import BadCall, Call, Event, Json, Reply
from token_tracker.domain.usage import TOKEN_CLASSES, Usage

# Each name does one thing and is described in `fake_provider`; several are joined with '+'.
NAMES = frozenset(
    (
        "plain",
        "no-usage",
        "usage-is-text",
        "output-is-negative",
        "usage-in-choices",
        "usage-in-x-groq",
        "usage-in-every-chunk",
        "usage-unasked",
        "cached",
        "reasoning",
        "audio",
        "null-details",
        "gzip",
        "brotli",
        "crlf",
        "comments",
        "multiline",
        "no-space",
        "cut-every-byte",
        "content-length-sse",
        "dies-mid-stream",
        "ends-early",
        "error-event",
        "in-seconds",
        "hang-before-headers",
        "hang-mid-stream",
        "gpt-image",
        "dall-e",
        "tts",
        "embedding",
    )
)
CACHE_READ, CACHE_WRITE_5M, CACHE_WRITE_1H, REASONING, AUDIO_IN, AUDIO_OUT, IMAGE_OUT = 1000, 200, 30, 50, 7, 9, 100
CREATED_S = 1_767_225_600
_SLOW = re.compile(r"slow-(\d+)ms")
_STATUS = re.compile(r"[45]\d\d")
_CACHED = re.compile(r"cached-(\d+)")


@dataclass(frozen=True, slots=True)
class Manner:
    """What is to be done to one request. `delay_s` before each piece; `status`: the error to answer with;
    `cache_read`: tokens more that were read from a cache."""

    names: frozenset[str]
    delay_s: float = 0.0
    status: int | None = None
    cache_read: int = 0

    def __contains__(self, name: str) -> bool:
        return name in self.names


def manner_of(model: str, header: str = "") -> Manner:
    """Of 'fake-cached+slow-20ms' or 'claude-cached', or of the x-fake-manner header. Others are plain. Raises
    BadCall for a typo."""
    family, _, manners = model.partition("-")
    text = header or (manners if family in ("fake", "claude") else "plain")
    names = frozenset(text.split("+"))
    delays = [int(match[1]) / 1000 for match in map(_SLOW.fullmatch, names) if match]
    statuses = [int(name) for name in names if _STATUS.fullmatch(name)]
    cached = [int(match[1]) for match in map(_CACHED.fullmatch, names) if match]
    unknown = [n for n in names if n not in NAMES and not any(p.fullmatch(n) for p in (_SLOW, _STATUS, _CACHED))]
    if unknown:
        raise BadCall(f"The fake provider knows no manner {sorted(unknown)}.")
    return Manner(names, sum(delays), statuses[0] if statuses else None, sum(cached))


def usage_of(reply: Reply, manner: Manner, path: str) -> Usage:
    """The plain word counts, with what the manner adds. Anthropic has cache writes but no reasoning class, and audio
    is counted in chat completions only; see `fake_provider`."""
    usage = reply.usage if path != "/v1/embeddings" else reply.usage._replace(output_tokens=0)
    if manner.cache_read:
        usage = usage._replace(cache_read_tokens=manner.cache_read)
    if "cached" in manner:
        writes = (CACHE_WRITE_5M, CACHE_WRITE_1H) if path == "/v1/messages" else (0, 0)
        usage = usage._replace(
            cache_read_tokens=CACHE_READ, cache_write_5m_tokens=writes[0], cache_write_1h_tokens=writes[1]
        )
    if "reasoning" in manner and path == "/v1/messages":
        usage = usage._replace(output_tokens=usage.output_tokens + REASONING)
    elif "reasoning" in manner:
        usage = usage._replace(reasoning_tokens=REASONING)
    if "audio" in manner and path == "/v1/chat/completions":
        usage = usage._replace(input_audio_tokens=AUDIO_IN, output_audio_tokens=AUDIO_OUT)
    return usage


def bill(usage: Usage) -> dict[str, int]:
    return {name: getattr(usage, name) for name in TOKEN_CLASSES if getattr(usage, name)}


def asked_for(call: Call, manner: Manner) -> Call:
    """The call as the manner hears it: asked for usage or not."""
    wants = call.include_usage or not manner.names.isdisjoint(
        {"usage-unasked", "usage-in-choices", "usage-in-x-groq", "usage-in-every-chunk"}
    )
    return replace(call, include_usage=wants)


def shape_answer(answer: Json, manner: Manner) -> Json:
    usage = answer.get("usage")
    if "no-usage" in manner:
        return {key: value for key, value in answer.items() if key != "usage"}
    if "usage-is-text" in manner:
        return {**answer, "usage": "many"}
    if "output-is-negative" in manner and usage:
        return {**answer, "usage": {**usage, "completion_tokens": -7}}
    return {**answer, "usage": _details_gone(usage)} if "null-details" in manner and usage else answer


def shape_events(events: Iterable[Event], manner: Manner) -> Iterator[Event]:
    """The stream as the manner sends it: usage left out, moved, or stripped of its details."""
    whole = list(events)
    usage = next((told_usage(event.data) for event in reversed(whole) if _is_usage_chunk(event)), None)
    for event in whole:
        moved = not manner.names.isdisjoint({"usage-in-choices", "usage-in-x-groq"})
        if _is_usage_chunk(event) and (moved or "no-usage" in manner):
            continue
        yield Event(_reshaped(event.data, manner, usage), event.name) if isinstance(event.data, dict) else event


def _is_usage_chunk(event: Event) -> bool:
    return isinstance(event.data, dict) and event.data.get("choices") == []


def _reshaped(data: Json, manner: Manner, usage: Json | None) -> Json:
    finish = bool(data.get("choices") and data["choices"][0]["finish_reason"])
    if "no-usage" in manner:
        return _without_usage(data)
    if "usage-in-choices" in manner and finish:
        return {**_without_usage(data), "choices": [{**data["choices"][0], "usage": usage}]}
    if "usage-in-x-groq" in manner and finish:
        return {**_without_usage(data), "x_groq": {"id": data["id"], "usage": usage}}
    if "usage-in-every-chunk" in manner and "choices" in data:
        return {**data, "usage": usage}
    return _mapped_usage(data) if "null-details" in manner else data


def _without_usage(data: Json) -> Json:
    kept = {key: value for key, value in data.items() if key != "usage"}
    for holder in ("response", "message"):
        if holder in kept:
            kept[holder] = {key: value for key, value in kept[holder].items() if key != "usage"}
    return kept


def _mapped_usage(data: Json) -> Json:
    mapped = {**data, "usage": _details_gone(data["usage"])} if data.get("usage") else data
    for holder in ("response", "message"):
        if holder in mapped and mapped[holder].get("usage"):
            mapped = {**mapped, holder: {**mapped[holder], "usage": _details_gone(mapped[holder]["usage"])}}
    return mapped


def _details_gone(usage: Json) -> Json:
    return {key: None if isinstance(value, dict) else value for key, value in usage.items()}


def told_usage(data: Json | str) -> Json | None:
    """The usage that a client could read from this event or answer, wherever it stands."""
    if isinstance(data, str):
        return None
    choice = (data.get("choices") or [{}])[0]
    places: tuple[Any, ...] = (data, choice, data.get("x_groq"), data.get("response"), data.get("message"))
    return next((place["usage"] for place in places if place and place.get("usage")), None)


def is_piece(event: Event) -> bool:
    """Whether the event carries a word of the reply."""
    data = event.data
    if isinstance(data, str):
        return False
    if data.get("choices"):
        choice = data["choices"][0]
        return bool(choice["delta"].get("content") if "delta" in choice else choice["text"])
    return data.get("type") in ("response.output_text.delta", "content_block_delta")


def error_event(path: str) -> Event:
    """How each dialect says, inside a stream, that it went wrong."""
    if path == "/v1/messages":
        return Event({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error")
    if path == "/v1/responses":
        problem = {"code": "server_error", "message": "The fake provider failed."}
        return Event({"type": "error", "sequence_number": 99, "param": None, **problem}, "error")
    return Event({"error": {"message": "The fake provider failed.", "type": "server_error", "code": None}})


def encoded(event: Event, manner: Manner) -> bytes:
    """The event's bytes, in the manner's line ends and layout."""
    raw = sse(event)
    if "multiline" in manner:
        raw = raw.replace(b"data: {", b"data: {\ndata: ")  # a line break between two JSON tokens
    if "no-space" in manner:
        raw = raw.replace(b"data: ", b"data:").replace(b"event: ", b"event:")
    if "comments" in manner:
        raw = b": FAKE PROCESSING\n\n" + raw
    return raw.replace(b"\n", b"\r\n") if "crlf" in manner else raw
