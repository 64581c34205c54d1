"""Anthropic's messages."""

from __future__ import annotations

from typing import Any

from token_tracker.domain.providers import WireFormat
from token_tracker.proxy.dialects import fields as top
from token_tracker.proxy.dialects.base import NO_ENVELOPE, Envelope, Reading, Request, Uncounted
from token_tracker.proxy.dialects.counts import exclusive_usage
from token_tracker.proxy.dialects.estimates import tokens_of_fields
from token_tracker.proxy.dialects.extras import extras_of
from token_tracker.proxy.dialects.facts import facts, identifier, objects, text_bytes, whole_answer
from token_tracker.proxy.dialects.named_stream import NamedObserver

_ENDS = frozenset(("message_stop", "error"))
_ORDINARY = ("content_block_", "message_start", "message_delta", "ping")


class Messages:
    """Streams always carry usage: the prompt's in `message_start`, all of it in `message_delta`."""

    wire = WireFormat.MESSAGES
    family = "anthropic"
    uncounted = Uncounted.ESTIMATED

    def read(self, body: bytes, envelope: Envelope = NO_ENVELOPE) -> Request:
        fields, original = top.split(body, envelope.model)
        model, stream = top.model_of(fields), top.stream_of(fields)
        about = top.try_split(fields["metadata"]) if "metadata" in fields else None
        return Request(
            model=model,
            stream=stream,
            fields=fields,
            wants_usage=stream,
            end_user=top.text_of(about.get("user_id")) if about else "",
            metadata="",
            output_bound=top.bound_of(fields, "max_tokens"),
            original=original,
        )

    def outgoing(self, request: Request, *, model: str, meter_stream: bool) -> bytes:
        return top.with_model(request, model)

    def read_body(self, body: bytes) -> Reading:
        known = facts(body, "id", "usage", "error")
        reading = whole_answer(known, exclusive_usage(known.get("usage")), extras_of(known.get("usage")))
        if reading.usage is None:
            reading.output_bytes = sum(map(_block_bytes, objects(facts(body, "content").get("content"))))
        return reading

    def observer(self, request: Request) -> MessagesObserver:
        return MessagesObserver()

    def estimate_input_tokens(self, request: Request) -> int:
        return tokens_of_fields(request, "system", "messages", "tools")


class CountTokens(Messages):
    """What a message would count: free, and what the answer says was not consumed."""

    wire = WireFormat.COUNT_TOKENS
    uncounted = Uncounted.FREE

    def read_body(self, body: bytes) -> Reading:
        return whole_answer(facts(body, "input_tokens", "error"), None)


def _block_bytes(block: dict[str, Any]) -> int:
    """What a block says: text, thinking, or the input of a tool's use."""
    used = len(top.quoted(block["input"])) if block.get("input") else 0
    return used + text_bytes(block.get("text"), block.get("thinking"))


class MessagesObserver(NamedObserver):
    """A client takes `message_stop` for the end, and raises at `error`, which ends a stream too."""

    __slots__ = ("_block", "_counts")

    def __init__(self) -> None:
        super().__init__(_ENDS, _ORDINARY)
        self._counts: dict[str, Any] = {}
        self._block: Any = None  # the index of the block that is being written

    def ending(self, model: str) -> bytes:
        """The block, then the message, stopped by its maximum."""
        usage = self.reading.usage
        counted = usage.completion_tokens if usage else 0
        events: list[dict[str, Any]] = [
            {
                "type": "message_delta",
                "delta": {"stop_reason": "max_tokens", "stop_sequence": None},
                "usage": {"output_tokens": max(counted, self.reading.output_events)},
            },
            {"type": "message_stop"},
        ]
        if self._block is not None:
            events.insert(0, {"type": "content_block_stop", "index": self._block})
        return b"".join(b"event: %s\ndata: %s\n\n" % (event["type"].encode(), top.quoted(event)) for event in events)

    def _read(self, kind: str, delta: Any, data: bytes) -> None:
        reading = self.reading
        if kind == "content_block_delta":
            if type(delta) is dict and (
                size := text_bytes(delta.get("text"), delta.get("thinking"), delta.get("partial_json"))
            ):
                reading.output_events += 1
                reading.output_bytes += size
        elif kind == "content_block_start":
            self._block = facts(data, "index").get("index", 0)
        elif kind == "content_block_stop":
            self._block = None
        elif kind == "message_start":
            message = facts(data, "message").get("message")
            if type(message) is dict:
                reading.upstream_id = identifier(message.get("id"))
                self._count(message.get("usage"), is_final=False)
        elif kind == "message_delta":
            self._count(facts(data, "usage").get("usage"), is_final=True)
        elif kind == "error":
            reading.error = True

    def _count(self, usage: Any, is_final: bool) -> None:
        """The counts of `message_delta` are cumulative and may repeat earlier ones: the latest wins, none is added."""
        if type(usage) is not dict:
            return
        self._counts.update({name: value for name, value in usage.items() if value is not None})
        self.reading.usage = exclusive_usage(self._counts)
        self.reading.extras = extras_of(self._counts)
        self.reading.is_final = is_final and self.reading.usage is not None
