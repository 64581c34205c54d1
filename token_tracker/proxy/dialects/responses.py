"""OpenAI's Responses."""

from __future__ import annotations

import time
from typing import Any

from token_tracker.domain.providers import WireFormat
from token_tracker.proxy.dialects import fields as top
from token_tracker.proxy.dialects.base import NO_ENVELOPE, Envelope, Reading, Request, Uncounted
from token_tracker.proxy.dialects.counts import inclusive_usage
from token_tracker.proxy.dialects.estimates import tokens_of_fields
from token_tracker.proxy.dialects.extras import SEARCH_CALL, SEARCH_FIELDS, extras_of_response
from token_tracker.proxy.dialects.facts import facts, identifier, objects, text_bytes, whole_answer
from token_tracker.proxy.dialects.named_stream import NamedObserver

_ENDS = frozenset(("response.completed", "response.incomplete", "response.failed", "error"))
_WITH_RESPONSE = frozenset(("response.created", "response.in_progress", "response.queued")) | _ENDS


class Responses:
    """Streams always carry usage, in the response that their last event repeats."""

    wire = WireFormat.RESPONSES
    family = "openai"
    uncounted = Uncounted.ESTIMATED

    def read(self, body: bytes, envelope: Envelope = NO_ENVELOPE) -> Request:
        fields, original = top.split(body, envelope.model)
        model, stream = top.model_of(fields), top.stream_of(fields)
        return Request(
            model=model,
            stream=stream,
            fields=fields,
            wants_usage=stream,
            end_user=top.text_of(fields.get("user")),
            metadata=top.metadata_of(fields),
            output_bound=top.bound_of(fields, "max_output_tokens"),
            original=original,
        )

    def outgoing(self, request: Request, *, model: str, meter_stream: bool) -> bytes:
        return top.with_model(request, model)

    def read_body(self, body: bytes) -> Reading:
        searched = SEARCH_FIELDS if SEARCH_CALL in body else ()
        known = facts(body, "id", "usage", "service_tier", "error", *searched)
        reading = whole_answer(known, inclusive_usage(known.get("usage")), extras_of_response(known))
        if reading.usage is None:
            reading.output_bytes = sum(map(_item_bytes, objects(facts(body, "output").get("output"))))
        return reading

    def observer(self, request: Request) -> ResponsesObserver:
        return ResponsesObserver()

    def estimate_input_tokens(self, request: Request) -> int:
        return tokens_of_fields(request, "instructions", "input", "tools", "text")


def _item_bytes(item: dict[str, Any]) -> int:
    """What an item of the output says: texts, summaries of reasoning, arguments of calls."""
    parts = [*objects(item.get("content")), *objects(item.get("summary"))]
    return text_bytes(item.get("arguments"), item.get("input"), *(part.get("text") for part in parts))


class ResponsesObserver(NamedObserver):
    """A client takes `response.completed`, `.incomplete` or `.failed` for the end, and raises at `error`."""

    __slots__ = ("_began",)

    def __init__(self) -> None:
        super().__init__(_ENDS, ("response.",))
        self._began: dict[str, Any] = {}  # the response as the stream's first event has it

    def ending(self, model: str) -> bytes:
        """The response, incomplete for its maximum, without the output that the deltas before have brought."""
        response = {
            "object": "response",
            "created_at": int(time.time()),
            "output": [],
            "id": self.reading.upstream_id,
            "model": model,
            **self._began,
            "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
        }
        event = {"type": "response.incomplete", "sequence_number": 2**31 - 1, "response": response}
        return b"event: response.incomplete\ndata: %s\n\n" % top.quoted(event)

    def _read(self, kind: str, delta: Any, data: bytes) -> None:
        reading = self.reading
        if kind in _WITH_RESPONSE:
            self._read_response(kind, facts(data, "response").get("response"))
        elif delta and kind.endswith(".delta") and (size := text_bytes(delta)):
            reading.output_events += 1
            reading.output_bytes += size

    def _read_response(self, kind: str, response: Any) -> None:
        reading = self.reading
        if kind in ("response.failed", "error"):
            reading.error = True
        if type(response) is not dict:
            return
        self._began = self._began or response
        reading.upstream_id = reading.upstream_id or identifier(response.get("id"))
        usage = inclusive_usage(response.get("usage"))
        if usage is not None:
            reading.usage, reading.is_final = usage, kind in _ENDS
            reading.extras = extras_of_response(response)
