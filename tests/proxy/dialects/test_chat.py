"""Chat completions: the usage option, the chunk it brings, and the places where usage is found."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.proxy.dialects.streams import (
    CHAT,
    CHAT_BODY,
    CHAT_TEXT_BYTES,
    CHAT_USAGE,
    CHAT_USAGE_CHUNK,
    DONE,
    FINISH,
    chat_chunk,
    data,
    run,
)
from token_tracker.domain.usage import Usage
from token_tracker.proxy.dialects import ROUTES
from token_tracker.proxy.dialects.base import Reading
from token_tracker.proxy.dialects.chat_stream import ChatObserver
from token_tracker.proxy.dialects.facts import LENIENT_BYTES

DIALECT = ROUTES["/v1/chat/completions"].dialect
STREAMED = b'{"model":"m","stream":true}'
ASKED = b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}'
USAGE = Usage(input_tokens=200, cache_read_tokens=800, output_tokens=30, reasoning_tokens=20)
SMALL = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
SMALL_USAGE = Usage(input_tokens=9, output_tokens=4)


def through(chunks: list[bytes], body: bytes = STREAMED, is_clean: bool = True) -> tuple[bytes, bytes, Reading]:
    return run(DIALECT.observer(DIALECT.read(body)), chunks, is_clean)


def sent_options(options: bytes | None) -> bytes | None:
    body = b'{"model":"m","stream":true' + (b',"stream_options":' + options if options is not None else b"") + b"}"
    sent = DIALECT.outgoing(DIALECT.read(body), model="m", meter_stream=True)
    return None if sent == body else sent.partition(b'"stream_options":')[2].removesuffix(b"}")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (None, b'{"include_usage":true}'),
        (b"null", b'{"include_usage":true}'),
        (b"{}", b'{"include_usage":true}'),
        (b'{"include_usage":false}', b'{"include_usage":true}'),
        (b'{"include_usage":null}', b'{"include_usage":true}'),
        (b'{"x": [1, 1.0],"include_usage": false,"y":"\\u00fc"}', b'{"x":[1, 1.0],"include_usage":true,"y":"\\u00fc"}'),
        (b'{"include_obfuscation": false}', b'{"include_obfuscation":false,"include_usage":true}'),
    ],
)
def test_a_stream_asks_for_its_usage_whatever_the_client_left_out(options: bytes | None, expected: bytes) -> None:
    assert sent_options(options) == expected


@pytest.mark.parametrize("options", [b'{ "include_usage": true }', b'{"include_usage":1}', b'"yes"', b"[]", b"5"])
def test_a_client_that_asks_itself_or_wrongly_is_left_alone(options: bytes) -> None:
    assert sent_options(options) is None


@pytest.mark.parametrize("body", [b'{"model":"m"}', b'{"model":"m","stream":false,"stream_options":{}}'])
def test_a_plain_call_gets_no_usage_option(body: bytes) -> None:
    assert DIALECT.outgoing(DIALECT.read(body), model="m", meter_stream=True) is body


def test_a_stream_that_is_not_metered_goes_out_untouched() -> None:
    assert DIALECT.outgoing(DIALECT.read(STREAMED), model="m", meter_stream=False) is STREAMED


def test_only_include_usage_true_means_that_the_client_wants_the_chunk() -> None:
    assert DIALECT.read(ASKED).wants_usage
    assert not DIALECT.read(STREAMED).wants_usage
    assert not DIALECT.read(ASKED.replace(b"true}}", b"false}}")).wants_usage
    assert not DIALECT.read(ASKED.replace(b'"stream":true', b'"stream":false')).wants_usage


def test_the_usage_chunk_nobody_asked_for_is_read_and_taken_out() -> None:
    before, after, reading = through(CHAT)
    assert (before, after) == (b"".join(CHAT_BODY), DONE)
    assert reading == Reading(USAGE, True, "chatcmpl-7", 2, CHAT_TEXT_BYTES, saw_end=True)


def test_the_usage_chunk_a_client_asked_for_stays() -> None:
    before, after, reading = through(CHAT, ASKED)
    assert (before, after) == (b"".join(CHAT[:-1]), DONE)
    assert reading.usage == USAGE


@pytest.mark.parametrize(
    "chunk",
    [
        chat_chunk({}, choices=[FINISH], usage=SMALL),
        chat_chunk({}, choices=[{**FINISH, "usage": SMALL}]),
        chat_chunk({}, choices=[FINISH], x_groq={"id": "req_1", "usage": SMALL}),
        chat_chunk({}, choices=[FINISH], x_groq={"usage": SMALL}, usage=None),
        chat_chunk({}, choices=[FINISH], usage={**SMALL, "prompt_tokens_details": None}),
        chat_chunk({}, choices=[FINISH], usage=SMALL).replace(b'"logprobs":null', b'"logprobs":[NaN,-Infinity]'),
        chat_chunk({}, choices=[FINISH], usage=SMALL).replace(b'"created":1760000000', b'"created":1e999'),
    ],
)
def test_usage_on_a_chunk_with_choices_is_read_and_nothing_is_taken_out(chunk: bytes) -> None:
    before, after, reading = through([*CHAT_BODY[:-1], chunk, DONE])
    assert (before, after) == (b"".join([*CHAT_BODY[:-1], chunk]), DONE)
    assert (reading.usage, reading.is_final) == (SMALL_USAGE, True)


@pytest.mark.parametrize(
    "content",
    [b'"half of a character: \xe2\x82"', b'"a tab\twithin"', b'"\xe2' + b"0" * LENIENT_BYTES + b'"'],
    ids=["no UTF-8", "a raw control character", "no UTF-8, and long"],
)
def test_a_chunk_that_cannot_be_read_well_is_not_taken_for_the_usage_chunk(content: bytes) -> None:
    chunk = chat_chunk({"content": "?"}, usage=SMALL).replace(b'"?"', content)
    for cut in (chunk.index(b'"finish_reason"'), len(chunk)):
        before, after, reading = through([chunk[:cut], chunk[cut:], DONE])
        assert (before, after, reading.usage) == (chunk, DONE, SMALL_USAGE)


def test_of_cumulative_usage_on_every_chunk_the_last_stands() -> None:
    chunks = [
        chat_chunk({"content": "x"}, usage={"prompt_tokens": 9, "completion_tokens": n, "total_tokens": 9 + n})
        for n in range(1, 5)
    ]
    observer = DIALECT.observer(DIALECT.read(STREAMED))
    for chunk in chunks:
        assert observer.feed(chunk).forward == chunk
    assert (observer.reading.usage, observer.reading.is_final) == (SMALL_USAGE, False)
    observer.feed(DONE)
    assert (observer.reading.usage, observer.reading.is_final) == (SMALL_USAGE, True)


@pytest.mark.parametrize(
    "chunk",
    [
        chat_chunk(None, prompt_filter_results=[{"prompt_index": 0}]),
        chat_chunk(None, usage=None),
        chat_chunk(None, usage={}),
        chat_chunk(None, usage={"prompt_tokens": None}),
        chat_chunk(None, error={"message": "upstream died"}, usage=SMALL),
        data({"error": {"message": "upstream died"}}),
    ],
)
def test_an_odd_chunk_without_usage_of_its_own_stays(chunk: bytes) -> None:
    assert through([chunk, *CHAT_BODY, DONE])[0] == b"".join([chunk, *CHAT_BODY])


def test_an_error_in_the_stream_is_noticed_and_does_not_end_it() -> None:
    _, after, reading = through([CHAT_BODY[1], data({"error": {"message": "no"}}), CHAT_USAGE_CHUNK, DONE])
    assert reading.error
    assert reading.usage == USAGE
    assert after == DONE


@pytest.mark.parametrize(
    ("chunks", "is_clean", "saw_end", "is_final"),
    [
        (CHAT_BODY, True, True, False),
        ([*CHAT_BODY, CHAT_USAGE_CHUNK], True, True, True),
        ([*CHAT_BODY, CHAT_USAGE_CHUNK], False, False, True),
        (CHAT_BODY, False, False, False),
        (CHAT_BODY[:-1], True, False, False),
        ([*CHAT_BODY, CHAT_USAGE_CHUNK[:-9]], True, True, False),
        ([*CHAT_BODY, CHAT_USAGE_CHUNK.rstrip()], True, True, True),
        ([*CHAT_BODY, b"data: [DONE]"], True, True, False),
        ([*CHAT_BODY, b"data: [DONE]"], False, True, False),
        ([CHAT_BODY[1], b": ping\n\n"], True, False, False),
        ([], True, False, False),
        ([chat_chunk({}, choices=[{**FINISH, "index": 1}]), CHAT_BODY[1]], True, False, False),
        ([chat_chunk({}, choices=[{**FINISH, "index": 1}]), CHAT_BODY[1], CHAT_BODY[3]], True, True, False),
    ],
)
def test_without_done_a_clean_end_is_one_where_usage_came_or_every_choice_finished(
    chunks: list[bytes], is_clean: bool, saw_end: bool, is_final: bool
) -> None:
    before, after, reading = through(chunks, is_clean=is_clean)
    assert (reading.saw_end, reading.is_final) == (saw_end, is_final)
    assert before + after == b"".join(chunk for chunk in chunks if chunk.rstrip() != CHAT_USAGE_CHUNK.rstrip())


@pytest.mark.parametrize(
    ("delta", "spoken"),
    [
        ({"content": "né"}, 3),
        ({"content": ""}, 0),
        ({"content": None, "reasoning_content": "abc"}, 3),
        ({"reasoning": "abc", "reasoning_details": [{"text": "abc"}]}, 3),
        ({"refusal": "no"}, 2),
        ({"role": "assistant"}, 0),
        ({"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "f", "arguments": '{"a"'}}, None]}, 5),
        ({"function_call": {"arguments": "{}"}}, 2),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "abc"}]}, {"text": "d"}]}, 4),
        ({"audio": {"id": "a", "transcript": "abc"}}, 3),
        ({"tool_calls": 5, "function_call": [], "content": 7, "audio": "x"}, 0),
    ],
)
def test_output_is_counted_by_the_text_of_its_deltas(delta: dict[str, Any], spoken: int) -> None:
    reading = through([chat_chunk(delta)])[2]
    assert (reading.output_events, reading.output_bytes) == (int(spoken > 0), spoken)


@pytest.mark.parametrize(
    "odd",
    [5, None, [], {}, "x", [None, 5, [], {"delta": 7}, {"delta": {"content": "x"}, "index": [], "finish_reason": {}}]],
)
def test_odd_members_of_a_chunk_are_passed_on_without_harm(odd: Any) -> None:
    chunk = data({"id": odd, "choices": odd, "usage": odd, "x_groq": odd, "error": None})
    before, after, _ = through([chunk, DONE])
    assert before + after == chunk + DONE


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        ({"usage": CHAT_USAGE}, USAGE),
        ({"usage": None, "choices": [{"message": {}, "usage": SMALL}]}, SMALL_USAGE),
        ({"x_groq": {"id": "r", "usage": SMALL}, "choices": []}, SMALL_USAGE),
        ({"usage": SMALL, "choices": [{"logprobs": float("nan")}]}, SMALL_USAGE),
        ({"choices": [None, {"usage": 5}], "x_groq": 5}, None),
        ({"usage": "12", "choices": 5}, None),
    ],
)
def test_usage_is_found_in_a_whole_answer_wherever_it_is(answer: dict[str, Any], usage: Usage | None) -> None:
    reading = DIALECT.read_body(json.dumps({"id": "chatcmpl-7", **answer}).encode())
    assert reading == Reading(usage, usage is not None, "chatcmpl-7", saw_end=True)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"null", b'{"id"', b"\xff\xfe", b"[" * 100_000])
def test_an_unreadable_answer_gives_an_empty_reading(body: bytes) -> None:
    for route in ROUTES.values():
        assert route.dialect.read_body(body) == Reading()


def test_an_error_in_a_whole_answer_is_noticed() -> None:
    assert DIALECT.read_body(b'{"error":{"message":"no"}}').error
    assert not DIALECT.read_body(b'{"id":"x","error":null}').error


def test_an_answer_without_usage_tells_how_much_was_said() -> None:
    call = {"function": {"name": "find", "arguments": '{"a":1}'}}
    said = [{"message": {"role": "assistant", "content": "grün"}}, {"message": {"content": None, "tool_calls": [call]}}]
    reading = DIALECT.read_body(json.dumps({"id": "x", "choices": said}).encode())
    assert (reading.usage, reading.output_bytes) == (None, 5 + 4 + 7)


def test_a_stream_cut_anywhere_in_two_or_three_is_read_and_passed_on_as_a_whole_one_is() -> None:
    chunks = [
        {"id": "c", "choices": [{"index": 0, "delta": {"content": word}}]} for word in ("one", "two", "grün", "four")
    ]
    ends = [{"id": "c", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}]
    stream = b"".join(b"data: %s\n\n" % json.dumps(each).encode() for each in chunks + ends) + b"data: [DONE]\n\n"
    whole = ChatObserver(True)
    cut = whole.feed(stream)
    for first in range(1, len(stream)):
        for second in {first, min(first + 1, len(stream)), (first + len(stream)) // 2}:
            observer = ChatObserver(True)
            cuts = [observer.feed(each) for each in (stream[:first], stream[first:second], stream[second:]) if each]
            assert b"".join(each.forward for each in cuts) == cut.forward
            assert b"".join(each.terminal for each in cuts) == cut.terminal
            assert observer.reading == whole.reading
