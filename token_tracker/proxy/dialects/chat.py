"""OpenAI's chat completions and everything that copies them."""

from __future__ import annotations

from typing import Any

from token_tracker.domain.providers import WireFormat
from token_tracker.domain.usage import Usage
from token_tracker.proxy.dialects import fields as top
from token_tracker.proxy.dialects.base import NO_ENVELOPE, Envelope, Reading, Request, Uncounted
from token_tracker.proxy.dialects.chat_stream import ChatObserver, spoken_bytes
from token_tracker.proxy.dialects.counts import inclusive_usage
from token_tracker.proxy.dialects.estimates import tokens_of_fields
from token_tracker.proxy.dialects.extras import extras_of
from token_tracker.proxy.dialects.facts import facts, objects, text_bytes, whole_answer

_ASK = b'{"include_usage":true}'


class Chat:
    """`stream_options.include_usage` is switched on for metered streams, since many servers count only when asked."""

    wire = WireFormat.CHAT
    family = "openai"
    uncounted = Uncounted.ESTIMATED

    def read(self, body: bytes, envelope: Envelope = NO_ENVELOPE) -> Request:
        fields, original = top.split(body, envelope.model)
        model, stream = top.model_of(fields), top.stream_of(fields)
        return Request(
            model=model,
            stream=stream,
            fields=fields,
            wants_usage=stream and "stream_options" in fields and _asked_stream_options(fields) is None,
            end_user=top.text_of(fields.get("user")),
            metadata=top.metadata_of(fields),
            output_bound=top.bound_of(fields, "max_completion_tokens", "max_tokens"),
            original=original,
        )

    def outgoing(self, request: Request, *, model: str, meter_stream: bool) -> bytes:
        options = _asked_stream_options(request.fields) if request.stream and meter_stream else None
        if model == request.model and options is None:
            return request.original
        fields = dict(request.fields)
        fields["model"] = top.quoted(model)
        if options is not None:
            fields["stream_options"] = options
        return top.join(fields)

    def read_body(self, body: bytes) -> Reading:
        known = facts(body, "id", "usage", "service_tier", "x_groq", "error")
        extras = extras_of(known.get("usage"), known.get("service_tier"))
        reading = whole_answer(known, inclusive_usage(known.get("usage")) or _elsewhere(body, known), extras)
        if reading.usage is None:
            reading.output_bytes = sum(spoken_bytes(message) for message in _messages(body))
        return reading

    def observer(self, request: Request) -> ChatObserver:
        return ChatObserver(request.wants_usage, is_chat=self.wire is WireFormat.CHAT)

    def estimate_input_tokens(self, request: Request) -> int:
        return tokens_of_fields(request, "messages", "tools", "functions", "response_format")


class Completions(Chat):
    """OpenAI's older completions: a prompt in, texts out; asked for usage, counted and ended like chat."""

    wire = WireFormat.COMPLETIONS

    def read_body(self, body: bytes) -> Reading:
        reading = super().read_body(body)
        if reading.usage is None:
            reading.output_bytes = sum(text_bytes(choice.get("text")) for choice in _choices(body))
        return reading

    def estimate_input_tokens(self, request: Request) -> int:
        return tokens_of_fields(request, "prompt", "suffix")


def _asked_stream_options(fields: dict[str, bytes]) -> bytes | None:
    """`stream_options` with the usage switched on; None if the client's own already ask for it, or are of a type that
    only the upstream can judge."""
    raw = fields.get("stream_options", b"null")
    if raw == b"null":
        return _ASK
    options = top.try_split(raw)
    if options is None or options.get("include_usage", b"false") not in (b"false", b"null"):
        return None
    return top.join({**options, "include_usage": b"true"})


def _messages(body: bytes) -> list[dict[str, Any]]:
    return objects([choice.get("message") for choice in _choices(body)])


def _choices(body: bytes) -> list[dict[str, Any]]:
    return objects(facts(body, "choices").get("choices"))


def _elsewhere(body: bytes, known: dict[str, Any]) -> Usage | None:
    """Groq's and Kimi's places."""
    groq = known.get("x_groq")
    if isinstance(groq, dict) and (usage := inclusive_usage(groq.get("usage"))):
        return usage
    choices = facts(body, "choices").get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and (usage := inclusive_usage(choice.get("usage"))):
            return usage
    return None
