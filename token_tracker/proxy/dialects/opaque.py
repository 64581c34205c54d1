"""Routes of which little is read: a JSON request with a model, and usage in the answer if it is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from token_tracker.domain.providers import WireFormat
from token_tracker.domain.usage import Usage
from token_tracker.proxy.dialects import fields as top
from token_tracker.proxy.dialects.base import NO_ENVELOPE, Envelope, Reading, Request, Uncounted
from token_tracker.proxy.dialects.counts import inclusive_usage
from token_tracker.proxy.dialects.estimates import tokens_of_fields
from token_tracker.proxy.dialects.extras import extras_of
from token_tracker.proxy.dialects.facts import facts, items, whole_answer
from token_tracker.proxy.dialects.named_stream import NamedObserver

_PICTURES = (WireFormat.IMAGES, WireFormat.IMAGE_EDITS, WireFormat.IMAGE_VARIATIONS)
_ERROR = frozenset(("error",))
_ORDINARY = ("image_generation.partial", "image_edit.partial", "speech.audio.delta", "transcript.text.delta")
UsageReader = Callable[[Any], Usage | None]


class Opaque:
    """`text_fields` carry the prompt; `last_events` are the events that bring a stream's usage."""

    family = "openai"

    def __init__(
        self,
        wire: WireFormat,
        text_fields: tuple[str, ...],
        last_events: frozenset[str],
        usage_of: UsageReader,
        uncounted: Uncounted = Uncounted.UNKNOWN,
    ) -> None:
        self.wire = wire
        self.uncounted = uncounted
        self._text_fields = text_fields
        self._last_events = last_events
        self._usage_of = usage_of

    def read(self, body: bytes, envelope: Envelope = NO_ENVELOPE) -> Request:
        fields, original = top.split(body, envelope.model)
        model, stream = top.model_of(fields), top.stream_of(fields)
        return Request(
            model=model,
            stream=stream,
            fields=fields,
            wants_usage=stream,
            end_user=top.text_of(fields.get("user")),
            metadata="",
            output_bound=None,
            original=original,
            characters=_characters(fields.get("input", b"")) if self.wire is WireFormat.SPEECH else 0,
        )

    def outgoing(self, request: Request, *, model: str, meter_stream: bool) -> bytes:
        return top.with_model(request, model)

    def read_body(self, body: bytes) -> Reading:
        known = facts(body, "id", "usage", "service_tier", "error")
        extras = extras_of(known.get("usage"), known.get("service_tier"))
        if self.wire in _PICTURES:
            extras = replace(extras, images=items(body, "data"))
        return whole_answer(known, self._usage_of(known.get("usage")), extras)

    def observer(self, request: Request) -> OpaqueObserver:
        return self.observing(top.bound_of(request.fields, "n") or 1)

    def observing(self, expected: int) -> OpaqueObserver:
        """An observer of a stream that brings so many results."""
        return OpaqueObserver(self._last_events, self._usage_of, expected)

    def estimate_input_tokens(self, request: Request) -> int:
        return tokens_of_fields(request, *self._text_fields)


class OpaqueObserver(NamedObserver):
    """A client of one result has it all with the event that brings the usage; of several, when the stream closes."""

    __slots__ = ("_last_events", "_saw_last", "_usage_of")

    def __init__(self, last_events: frozenset[str], usage_of: UsageReader, expected: int) -> None:
        super().__init__(_ERROR | last_events if expected == 1 else _ERROR, _ORDINARY)
        self._last_events, self._usage_of = last_events, usage_of
        self._saw_last = False

    def _read(self, kind: str, delta: Any, data: bytes) -> None:
        reading = self.reading
        if kind == "error":
            reading.error = True
        elif kind in self._last_events:
            self._saw_last = True
            counted = facts(data, "usage").get("usage")
            usage = self._usage_of(counted)
            if usage is not None:
                reading.usage, reading.is_final, reading.extras = usage, True, extras_of(counted)

    def _closed(self, is_clean: bool) -> None:
        self.reading.saw_end = is_clean and self._saw_last


def _characters(raw: bytes) -> int:
    """Of a text; of parts of one, as some servers take them, the bytes: never fewer."""
    return len(top.text_of(raw)) if raw.startswith(b'"') else len(raw)


def images_usage(usage: Any) -> Usage | None:
    """Output without details is images: these models make nothing else."""
    read = inclusive_usage(usage)
    if read is None or isinstance(usage.get("output_tokens_details"), dict):
        return read
    return read._replace(output_tokens=0, output_image_tokens=read.output_tokens)


def _speech_usage(usage: Any) -> Usage | None:
    read = inclusive_usage(usage)
    return read and read._replace(output_tokens=0, output_audio_tokens=read.output_audio_tokens + read.output_tokens)


def _embeddings_usage(usage: Any) -> Usage | None:
    return inclusive_usage(usage, is_input_only=True)


EMBEDDINGS = Opaque(WireFormat.EMBEDDINGS, ("input",), frozenset(), _embeddings_usage, Uncounted.ESTIMATED)
MODERATIONS = Opaque(WireFormat.MODERATIONS, ("input",), frozenset(), inclusive_usage)
SPEECH = Opaque(WireFormat.SPEECH, ("input", "instructions"), frozenset(("speech.audio.done",)), _speech_usage)
IMAGES = Opaque(WireFormat.IMAGES, ("prompt",), frozenset(("image_generation.completed",)), images_usage)
