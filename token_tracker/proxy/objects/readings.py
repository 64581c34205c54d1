"""How answers about stored objects are read: next to nothing of most, the final usage of a background response."""

from __future__ import annotations

from typing import Any

from token_tracker.domain.extras import NO_EXTRAS
from token_tracker.domain.providers import WireFormat
from token_tracker.proxy.dialects.base import NO_ENVELOPE, Cut, Envelope, Reading, Request, StreamObserver, Uncounted
from token_tracker.proxy.dialects.facts import facts, whole_answer
from token_tracker.proxy.dialects.responses import Responses, ResponsesObserver

_FINAL = frozenset(("completed", "incomplete", "failed", "cancelled"))


class PlainObserver:
    """A stream of which nothing is known: it ends where it is closed."""

    def __init__(self) -> None:
        self.reading = Reading()

    @property
    def is_between_events(self) -> bool:
        return False

    def ending(self, model: str) -> bytes:
        return b""

    def feed(self, chunk: bytes) -> Cut:
        return Cut(chunk)

    def close(self, is_clean: bool = True) -> Cut:
        self.reading.saw_end = is_clean
        return Cut(b"")


class Unread:
    """Requests and answers that are passed on as they are. `uncounted`: what one that was served is taken for."""

    wire = WireFormat.RESPONSES

    def __init__(self, uncounted: Uncounted, family: str = "openai", *, is_content: bool = False) -> None:
        self.uncounted, self.family = uncounted, family
        self._is_content = is_content  # the answer is what somebody stored, whatever it looks like

    def read(self, body: bytes, envelope: Envelope = NO_ENVELOPE) -> Request:
        return plain_request(envelope.model, body)

    def outgoing(self, request: Request, *, model: str, meter_stream: bool) -> bytes:
        return request.original

    def read_body(self, body: bytes) -> Reading:
        if self._is_content:
            return Reading(saw_end=True)
        return whole_answer(facts(body, "id", "error"), None)

    def observer(self, request: Request) -> StreamObserver:
        return PlainObserver()

    def estimate_input_tokens(self, request: Request) -> int:
        return 0


class StoredResponse(Responses):
    """A response that is asked for again. Nobody bills that; `is_metered`: but what it shows of a background response
    was not booked when it was made."""

    uncounted = Uncounted.FREE

    def __init__(self, *, is_metered: bool) -> None:
        self._is_metered = is_metered

    def read_body(self, body: bytes) -> Reading:
        reading = super().read_body(body)
        reading.error, reading.output_bytes = False, 0  # a response that failed was told without fault
        is_final = facts(body, "status").get("status") in _FINAL
        return reading if self._is_metered and is_final else _without_usage(reading)

    def observer(self, request: Request) -> ResponsesObserver:
        return ResponsesObserver() if self._is_metered else _FreeObserver()


class _FreeObserver(ResponsesObserver):
    __slots__ = ()

    def _read_response(self, kind: str, response: Any) -> None:
        super()._read_response(kind, response)
        _without_usage(self.reading)


def _without_usage(reading: Reading) -> Reading:
    reading.usage, reading.is_final, reading.extras = None, False, NO_EXTRAS
    return reading


def plain_request(model: str, body: bytes = b"", *, stream: bool = False) -> Request:
    return Request(
        model=model,
        stream=stream,
        fields={},
        wants_usage=stream,
        end_user="",
        metadata="",
        output_bound=None,
        original=body,
    )
