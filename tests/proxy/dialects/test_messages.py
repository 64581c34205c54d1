"""Anthropic's messages: counts that are cumulative, and an end of their own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.proxy.dialects.streams import MESSAGES, MESSAGES_START, event, run
from token_tracker.domain.usage import Usage
from token_tracker.proxy.dialects import ROUTES
from token_tracker.proxy.dialects.base import Reading

DIALECT = ROUTES["/v1/messages"].dialect
STREAMED = b'{"model":"claude","stream":true,"max_tokens":5}'
STOP = MESSAGES[-1]


def through(chunks: list[bytes], is_clean: bool = True) -> tuple[bytes, bytes, Reading]:
    return run(DIALECT.observer(DIALECT.read(STREAMED)), chunks, is_clean)


def delta(**usage: Any) -> bytes:
    return event("message_delta", delta={"stop_reason": None}, usage=usage)


def test_a_stream_is_read_and_its_message_stop_waits() -> None:
    before, after, reading = through(MESSAGES)
    assert (before, after) == (b"".join(MESSAGES[:-1]), STOP)
    usage = Usage(100, 2000, 300, 400, output_tokens=40)
    assert reading == Reading(usage, True, "msg_7", 2, len("Hellohm, event: message_stop"), saw_end=True)


def test_a_stream_cut_after_its_start_knows_the_prompt_and_says_that_it_is_not_all() -> None:
    reading = through(MESSAGES[:5], is_clean=False)[2]
    assert (reading.usage, reading.is_final) == (Usage(100, 2000, 300, 400, output_tokens=1), False)
    assert not reading.saw_end
    assert reading.output_bytes > 0


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        ([{"output_tokens": 40}], Usage(100, 2000, 300, 400, output_tokens=40)),
        ([{"output_tokens": 10}, {"output_tokens": 40}], Usage(100, 2000, 300, 400, output_tokens=40)),
        (  # a server tool's turns: everything grows
            [{"input_tokens": 150, "cache_read_input_tokens": 2500, "output_tokens": 40}],
            Usage(150, 2500, 300, 400, output_tokens=40),
        ),
        (
            [{"input_tokens": None, "cache_read_input_tokens": None, "output_tokens": 40}],
            Usage(100, 2000, 300, 400, output_tokens=40),
        ),
        (
            [{"output_tokens": 40, "output_tokens_details": {"thinking_tokens": 30}}],
            Usage(100, 2000, 300, 400, output_tokens=10, reasoning_tokens=30),
        ),
    ],
)
def test_the_latest_count_wins_and_none_is_added(deltas: list[dict[str, Any]], expected: Usage) -> None:
    reading = through([MESSAGES_START, *(delta(**each) for each in deltas), STOP])[2]
    assert (reading.usage, reading.is_final) == (expected, True)


def test_a_server_that_counts_at_the_end_only_is_read_there() -> None:
    start = event("message_start", message={"id": "msg_1", "usage": {"input_tokens": 0, "output_tokens": 0}})
    reading = through([start, delta(input_tokens=12, output_tokens=5), STOP])[2]
    assert (reading.usage, reading.is_final) == (Usage(input_tokens=12, output_tokens=5), True)


@pytest.mark.parametrize("start", [{}, {"usage": None}, {"usage": 5}, 5, None])
def test_a_start_without_usage_does_no_harm(start: Any) -> None:
    reading = through([event("message_start", message=start), delta(output_tokens=5), STOP])[2]
    assert reading.usage == Usage(output_tokens=5)


def test_an_error_event_is_an_end_that_waits() -> None:
    error = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    before, after, reading = through([MESSAGES_START, error])
    assert (before, after) == (MESSAGES_START, error)
    assert reading.error
    assert not reading.is_final


def test_an_end_that_arrives_in_part_is_none() -> None:
    before, after, reading = through([MESSAGES_START, STOP[:-12]], is_clean=False)
    assert (before, after) == (MESSAGES_START + STOP[:-12], b"")
    assert not reading.saw_end


def test_a_delta_that_is_not_quite_json_is_still_read() -> None:
    chunk = delta(output_tokens=5).replace(b'"usage"', b'"x":NaN,"usage"')
    assert through([MESSAGES_START, chunk, STOP])[2].usage == Usage(100, 2000, 300, 400, output_tokens=5)


def test_a_whole_answer_is_read() -> None:
    usage = {"input_tokens": 5, "cache_read_input_tokens": 3, "output_tokens": 7, "service_tier": "standard"}
    body = json.dumps({"id": "msg_1", "type": "message", "content": [], "usage": usage}).encode()
    assert DIALECT.read_body(body) == Reading(Usage(5, 3, output_tokens=7), True, "msg_1", saw_end=True)
    assert DIALECT.read_body(b'{"type":"error","error":{"type":"api_error"}}').error


def test_an_answer_without_usage_tells_how_much_was_said() -> None:
    content = [{"type": "thinking", "thinking": "123"}, {"text": "1234"}, {"type": "tool_use", "input": {"a": 1}}, 5]
    reading = DIALECT.read_body(json.dumps({"id": "x", "content": content}).encode())
    assert (reading.usage, reading.output_bytes) == (None, 3 + 4 + 7)
