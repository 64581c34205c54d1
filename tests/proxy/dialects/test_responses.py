"""OpenAI's Responses: usage comes with the event that ends the stream."""

from __future__ import annotations

import json

import pytest

from tests.proxy.dialects.streams import RESPONSES, RESPONSES_USAGE, event, response, run
from token_tracker.domain.usage import Usage
from token_tracker.proxy.dialects import ROUTES
from token_tracker.proxy.dialects.base import Reading

DIALECT = ROUTES["/v1/responses"].dialect
USAGE = Usage(input_tokens=200, cache_read_tokens=800, output_tokens=30, reasoning_tokens=20)


def through(chunks: list[bytes], is_clean: bool = True) -> tuple[bytes, bytes, Reading]:
    return run(DIALECT.observer(DIALECT.read(b'{"model":"m","stream":true}')), chunks, is_clean)


def test_a_stream_is_read_and_its_last_event_waits() -> None:
    before, after, reading = through(RESPONSES)
    assert (before, after) == (b"".join(RESPONSES[:-1]), RESPONSES[-1])
    assert reading == Reading(USAGE, True, "resp_7", 2, len("Hi you"), saw_end=True)


@pytest.mark.parametrize(("status", "is_error"), [("completed", False), ("incomplete", False), ("failed", True)])
def test_each_way_to_end_ends_the_stream_with_its_usage(status: str, is_error: bool) -> None:
    end = event(f"response.{status}", response=response(status, RESPONSES_USAGE))
    _, after, reading = through([*RESPONSES[:3], end])
    assert after == end
    assert (reading.usage, reading.is_final, reading.saw_end, reading.error) == (USAGE, True, True, is_error)


def test_a_failure_without_usage_says_so() -> None:
    reading = through([event("response.failed", response=response("failed", None, {"code": "server_error"}))])[2]
    assert (reading.usage, reading.is_final, reading.error, reading.saw_end) == (None, False, True, True)


def test_an_error_event_is_an_end_that_waits() -> None:
    error = event("error", code="rate_limit_exceeded", message="slow down", param=None, sequence_number=1)
    before, after, reading = through([RESPONSES[0], error])
    assert (before, after, reading.error) == (RESPONSES[0], error, True)


def test_a_stream_that_stops_without_its_last_event_saw_no_end() -> None:
    before, after, reading = through(RESPONSES[:-1])
    assert (before, after) == (b"".join(RESPONSES[:-1]), b"")
    assert (reading.saw_end, reading.is_final, reading.usage) == (False, False, None)


def test_a_last_event_that_arrives_in_part_is_none() -> None:
    reading = through([*RESPONSES[:-1], RESPONSES[-1][:-20]])[2]
    assert (reading.saw_end, reading.usage) == (False, None)


def test_a_whole_answer_is_read_with_its_error_being_null() -> None:
    body = json.dumps(response("completed", RESPONSES_USAGE)).encode()
    assert DIALECT.read_body(body) == Reading(USAGE, True, "resp_7", saw_end=True)
    failed = json.dumps(response("failed", None, {"code": "server_error"})).encode()
    assert DIALECT.read_body(failed) == Reading(None, False, "resp_7", saw_end=True, error=True)


def test_an_answer_without_usage_tells_how_much_was_said() -> None:
    output = [
        {"type": "reasoning", "summary": [{"text": "1234"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "12345"}, "odd"]},
        {"type": "function_call", "name": "find", "arguments": "{}"},
    ]
    reading = DIALECT.read_body(json.dumps({"id": "x", "output": output}).encode())
    assert (reading.usage, reading.output_bytes) == (None, 4 + 5 + 2)
