"""What a request may consume, read from its bytes on each route: never too little."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from token_tracker.domain.bounds import MESSAGE_TOKENS, NOTHING, PREAMBLE_TOKENS, Extent
from token_tracker.domain.extras import ServiceTier
from token_tracker.proxy.bounds import conversations, extent_of
from token_tracker.proxy.dialects import ROUTES
from token_tracker.proxy.dialects.base import Envelope

PICTURE = "data:image/png;base64," + "A" * 4000
INLINE = {"type": "image", "source": {"type": "base64", "data": PICTURE}}
SHOWN = {"type": "input_image", "image_url": PICTURE}
CLEAR = {"type": "clear_thinking_20251015", "keep": "all"}
ADDED = {"type": "tool_addition"}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"


def read(path: str, body: dict[str, Any] | bytes, content_type: str = "application/json") -> Extent:
    dialect = ROUTES[path].dialect
    raw = body if isinstance(body, bytes) else json.dumps({"model": "m", **body}).encode()
    return extent_of(dialect.wire, dialect.read(raw, Envelope(content_type)))


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def test_every_route_has_a_reader() -> None:
    for route in ROUTES.values():
        body = b'{"model":"m","input":"x","messages":[],"prompt":"x","query":"q","documents":["a"]}'
        assert isinstance(extent_of(route.dialect.wire, route.dialect.read(body)), Extent)


def test_text_counts_by_its_bytes_and_each_message_by_its_wrapping() -> None:
    body = json.dumps({"model": "m", "messages": user("hello") * 3}).encode()
    assert read(CHAT, body).text_tokens == len(body) + 3 * MESSAGE_TOKENS


def test_tools_and_a_response_format_bring_a_preamble() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    body = json.dumps({"model": "m", "messages": [], "tools": [tool, tool]}).encode()
    assert read(CHAT, body).text_tokens == len(body) + 2 * MESSAGE_TOKENS + PREAMBLE_TOKENS
    assert read(CHAT, {"messages": [], "response_format": {"type": "json_object"}}).text_tokens > PREAMBLE_TOKENS


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": user([{"type": "text", "text": "see"}, {"type": "image_url", "image_url": PICTURE}])}),
        (CHAT, {"messages": user([{"type": "image_url", "image_url": {"url": PICTURE, "detail": "high"}}])}),
        (RESPONSES, {"input": user([SHOWN])}),
        (RESPONSES, {"input": [{"type": "computer_call_output", "output": [SHOWN]}]}),
        (RESPONSES, {"input": [{"type": "computer_call_output", "output": SHOWN | {"type": "computer_screenshot"}}]}),
        (MESSAGES, {"messages": user([INLINE])}),
        (MESSAGES, {"messages": user([{"type": "tool_result", "content": [INLINE]}])}),
    ],
)
def test_an_inline_image_counts_as_one_and_not_by_its_bytes(path: str, body: dict[str, Any]) -> None:
    extent = read(path, body)
    assert (extent.images, extent.is_open) == (1, False)
    assert extent.text_tokens < 1000


@pytest.mark.parametrize("text", [PICTURE, "see " + PICTURE, '{"type":"image_url","image_url":"' + PICTURE + '"}'])
def test_a_text_that_looks_like_an_image_is_text(text: str) -> None:
    for content in (text, [{"type": "text", "text": text}], [{"type": "text", "text": text, "image_url": PICTURE}]):
        extent = read(CHAT, {"messages": user(content)})
        assert extent.images == 0 and extent.text_tokens > 4000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": user([{"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}])}),
        (CHAT, {"messages": user([{"type": "file", "file": {"file_id": "file-1"}}])}),
        (CHAT, {"messages": user([{"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}])}),
        (CHAT, {"messages": user([{"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AA"}}])}),
        (CHAT, {"messages": user({"type": "image_url"})}),
        (
            CHAT,
            {"messages": user([{"type": "input_audio", "input_audio": {"data": "https://example.com/nine-hours"}}])},
        ),
        (
            CHAT,
            b'{"model":"m","messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"oss\\u003a"}}]}]}',
        ),
        (CHAT, {"messages": user([{"type": "input_audio", "input_audio": {"url": "https://example.com"}}])}),
        (CHAT, {"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}),
        (CHAT, {"messages": [7]}),
        (CHAT, {"messages": [{"role": "user", "content": "x", "type": {}}]}),
        (MESSAGES, {"messages": user([{"type": ["text"], "text": "x"}])}),
        (RESPONSES, {"input": [{"type": [], "content": "x"}]}),
        (RESPONSES, {"input": "x", "previous_response_id": "resp_1"}),
        (RESPONSES, {"input": [{"type": "computer_call_output", "output": {"type": "computer_screenshot"}}]}),
        (RESPONSES, {"input": "x", "prompt": {"id": "pmpt_1"}}),
        (RESPONSES, {"input": "x", "conversation": "conv_1"}),
        (RESPONSES, {"input": [{"type": "custom_tool_call_output", "output": [{"type": "input_file"}]}]}),
        (MESSAGES, {"messages": user("x"), "thread": {"type": "continue", "previous_message_id": "msg_1"}}),
        (RESPONSES, {"input": [{"type": "item_reference", "id": "x"}]}),
        (RESPONSES, {"input": user([{"type": "input_image", "file_id": "file-1"}])}),
        (RESPONSES, {"input": user([{"type": "input_file", "file_url": "https://example.com"}])}),
        (MESSAGES, {"messages": user([{"type": "image", "source": {"type": "url", "url": "https://x"}}])}),
        (MESSAGES, {"messages": user([{"type": "document", "source": {"type": "base64", "data": "AAAA"}}])}),
        (MESSAGES, {"messages": user([{"type": "document", "source": {"type": "file", "file_id": "f"}}])}),
        ("/v1/embeddings", {"input": [{"content": [{"type": "image_url"}]}]}),
        ("/v1/embeddings", {"input": "gs://bucket/film.mp4"}),
        ("/v1/embeddings", {"input": ["a text", "data:image/png;base64,AAAA"]}),
        ("/v1/embeddings", b'{"model":"m","input":"\\u0067s://bucket/film.mp4"}'),
        ("/v1/embeddings", {"input": "x", "messages": user([{"type": "image_url", "image_url": "https://x"}])}),
        ("/v1/rerank", {"query": "q", "documents": ["a", {"image": "https://example.com/x.png"}]}),
        ("/v1/rerank", {"query": {"image": "https://example.com/x.png"}, "documents": ["a"]}),
    ],
)
def test_what_is_referred_to_leaves_the_input_open(path: str, body: dict[str, Any] | bytes) -> None:
    assert read(path, body).is_open


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (MESSAGES, {"messages": user([{"type": "document", "source": {"type": "text", "data": "plain"}}])}),
        (MESSAGES, {"messages": user([{"type": "tool_result", "content": "42"}])}),
        (MESSAGES, {"messages": [], "system": [{"type": "text", "text": "x"}]}),
        (MESSAGES, {"messages": user([{"type": "search_result", "source": "a book", "title": "t", "content": []}])}),
        (MESSAGES, {"messages": user([{"type": "tool_result", "content": [{"type": "tool_reference"}]}])}),
        (MESSAGES, {"messages": user([{"type": "tool_result", "content": [{"type": "browser_state", "tabs": []}]}])}),
        (MESSAGES, {"messages": user([{"type": "server_tool_use", "name": "web_search", "input": {}}])}),
        (RESPONSES, {"input": [{"type": "shell_call"}, {"type": "shell_call_output", "output": [{"stdout": "x"}]}]}),
        (RESPONSES, {"input": [{"type": "computer_call", "action": {"type": "click"}}]}),
        (RESPONSES, {"input": [{"type": "tool_search_output", "tools": [{"type": "function", "name": "f"}]}]}),
        (RESPONSES, {"input": [{"type": "function_call_output", "call_id": "1", "output": "42"}]}),
        (RESPONSES, {"input": [{"role": "user", "content": "x"}, {"type": "reasoning", "summary": []}]}),
        (CHAT, {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]}),
        (CHAT, {"messages": user([{"type": "input_audio", "input_audio": {"data": "AAAA/+8=", "format": "wav"}}])}),
        (CHAT, {"messages": user([{"type": "input_audio", "input_audio": {"data": "data:;base64,AAAA"}}])}),
        ("/v1/embeddings", {"input": ["a {brace}", "b"]}),
        ("/v1/embeddings", {"input": ["data: of a station\n", "https://example.com is a page"]}),
        ("/v1/rerank", {"query": "a {brace}", "documents": ["d", {"text": "t", "title": "x"}]}),
        ("/v1/embeddings", {"input": [[1, 2], [3]]}),
    ],
)
def test_what_is_all_sent_is_bounded_by_its_bytes(path: str, body: dict[str, Any]) -> None:
    extent = read(path, body)
    assert not extent.is_open and not extent.unbounded


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": [], "web_search_options": {}, "tools": [{"type": "web_search"}]}),
        (CHAT, {"messages": [], "tools": [{"googleSearch": {}}]}),
        (CHAT, {"messages": [], "tools": "x"}),
        (CHAT, {"messages": [], "tools": [{"type": "function", "googleSearch": {}}]}),
        (CHAT, {"messages": [], "tools": [{"type": "local_shell", "url_context": {}}]}),
        (CHAT, {"messages": [], "functions": [{"name": "f"}, {"googleSearch": {}}]}),
        (CHAT, {"messages": [], "web_search_options": {}}),
        (CHAT, {"messages": [], "search_parameters": {}}),
        (CHAT, {"messages": [], "mcp_servers": [{"type": "url", "url": "https://x", "name": "x"}]}),
        (CHAT, {"messages": [], "max_tokens": 5, "maxOutputTokens": 65_536}),
        (CHAT, {"messages": user("x"), "maxTokens": 9999}),
        (CHAT, {"messages": user("x"), "candidate_count": 8}),
        (CHAT, {"messages": user("x"), "cached_content": "cachedContents/1"}),
        (CHAT, {"messages": user("x"), "connectors": [{"id": "web-search"}]}),
        (MESSAGES, {"messages": user("x"), "candidateCount": 8}),
        (MESSAGES, {"messages": [], "tools": [{"googleSearch": {}}]}),
        (RESPONSES, {"input": "x", "cachedContent": "cachedContents/1"}),
        (CHAT, {"messages": [], "models": ["a", "b"]}),
        (CHAT, {"messages": [], "data_sources": [{"type": "azure_search"}]}),
        (CHAT, {"messages": [], "serviceTier": {"type": "priority"}}),
        (CHAT, {"messages": [], "N": 9}),
        (CHAT, {"messages": [{"role": "developer", "content": "x", "tools": [{"googleSearch": {}}]}]}),
        (CHAT, {"messages": [], "n": 2.5}),
        (RESPONSES, {"input": "x", "background": True}),
        (RESPONSES, {"input": "x", "tools": [{"type": "function", "name": "f"}, {"type": "code_interpreter"}]}),
        (RESPONSES, {"input": "x", "tools": [{"type": "mcp"}]}),
        (RESPONSES, {"input": [{"type": "additional_tools", "role": "developer", "tools": [{"type": "web_search"}]}]}),
        (RESPONSES, {"input": [{"type": "tool_search_output", "tools": [{"type": "mcp"}]}]}),
        (RESPONSES, {"input": [{"type": "compaction_trigger"}]}),
        (RESPONSES, {"input": "x", "tools": [{"type": "shell"}]}),
        (RESPONSES, {"input": "x", "tools": [{"type": "shell", "environment": {"type": "container_auto"}}]}),
        (RESPONSES, {"input": "x", "tools": [{"type": "tool_search"}]}),
        (RESPONSES, {"input": "x", "tools": [{"type": "namespace", "name": "a", "tools": [{"type": "mcp"}]}]}),
        (RESPONSES, {"input": "x", "tools": [{"type": ["shell"], "name": "a"}]}),
        (MESSAGES, {"messages": user([ADDED | {"tool": {"type": "tool_definition", "definition": SEARCH}}])}),
        (MESSAGES, {"messages": user([ADDED | {"tool": 7}])}),
        (MESSAGES, {"messages": user("x"), "compaction": {"type": "summarize"}}),
        (MESSAGES, {"messages": user("x"), "context_management": {"edits": [CLEAR, {"type": "compact_20260112"}]}}),
        (MESSAGES, {"messages": user("x"), "context_management": {"edits": "x"}}),
        (MESSAGES, {"messages": [], "tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 1}]}),
        (MESSAGES, {"messages": [], "mcp_servers": [{"url": "https://x"}]}),
        ("/v1/completions", {"prompt": {"odd": 1}}),
        ("/v1/completions", {"prompt": "x", "candidate_count": 8}),
        ("/v1/images/generations", {"prompt": "x", "n": "many"}),
        ("/v1/images/generations", {"prompt": "x", "n": 1, "sampleCount": 4}),
    ],
)
def test_what_a_provider_does_by_itself_has_no_bound(path: str, body: dict[str, Any]) -> None:
    assert read(path, body).unbounded


def test_tools_that_the_client_runs_are_bounded() -> None:
    tools = [
        {"name": "f", "input_schema": {}},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "computer_toolset_20260801", "configs": {"zoom": {"enabled": False}}},
        {"type": "browser_toolset_20260801"},
    ]
    assert not read(MESSAGES, {"messages": [], "tools": tools}).unbounded
    own = [
        {"type": "custom", "name": "f"},
        {"type": "computer_use_preview", "display_width": 1024},
        {"type": "apply_patch", "allowed_callers": ["direct"]},
        {"type": "shell", "environment": {"type": "local"}},
        {"type": "tool_search", "execution": "client", "description": "d", "parameters": {}},
        {"type": "namespace", "name": "crm", "description": "d", "tools": [{"type": "function", "name": "f"}]},
    ]
    assert not read(RESPONSES, {"input": "x", "tools": own, "background": False}).unbounded


def test_tools_that_come_within_the_conversation_count_like_those_that_are_listed() -> None:
    tool = {"type": "function", "name": "f"}
    within = read(RESPONSES, {"input": [{"type": "additional_tools", "role": "developer", "tools": [tool]}]})
    assert not within.unbounded and within.text_tokens > PREAMBLE_TOKENS
    named = user([ADDED | {"tool": {"type": "tool_reference", "name": "f"}}])
    assert not read(MESSAGES, {"messages": named}).unbounded and not read(MESSAGES, {"messages": named}).is_open
    defined = user([ADDED | {"tool": {"type": "tool_definition", "definition": {"name": "f", "cache_control": {}}}}])
    assert not read(MESSAGES, {"messages": defined}).unbounded and read(MESSAGES, {"messages": defined}).writes_cache
    listed = [{"type": "mcp_list_tools", "server_label": "x", "tools": [{"name": "f", "input_schema": {}}]}]
    assert not read(RESPONSES, {"input": listed}).unbounded


def test_taking_something_out_of_the_conversation_costs_nothing() -> None:
    assert not read(MESSAGES, {"messages": user("x"), "context_management": {"edits": [CLEAR]}}).unbounded


@pytest.mark.parametrize(
    ("fields", "speaks"),
    [
        (b'"modalities":["text"]', False),
        (b'"modalities":["TEXT","image"]', False),
        (b'"modalities":null', False),
        (b'"modalities":["text","audio"]', True),
        (b'"modalities":["a\\u0075dio"]', True),
        (b'"modalities":"any"', True),
        (b'"audio":{"voice":"x"}', True),
    ],
)
def test_an_answer_in_sound_is_seen_however_it_is_asked_for(fields: bytes, speaks: bool) -> None:
    assert read(CHAT, b'{"model":"m","messages":[],%b}' % fields).speaks is speaks


def test_functions_of_an_older_day_count_as_tools() -> None:
    listed = [{"name": "f", "description": "d"}] * 3
    tools = read(CHAT, {"messages": [], "tools": [{"type": "function", "function": each} for each in listed]})
    functions = read(CHAT, {"messages": [], "functions": listed})
    assert not functions.unbounded and functions.text_tokens > 3 * MESSAGE_TOKENS + PREAMBLE_TOKENS
    assert tools.text_tokens > functions.text_tokens


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 5, "max_tokens": 700}, 700),
        ({"max_output_tokens": 9}, 9),
        ({"max_tokens": None}, None),
        ({"max_tokens": -1}, None),
        ({"max_tokens": "10"}, None),
        ({"max_tokens": 10.0, "max_completion_tokens": 5}, None),
        ({"max_tokens": 0}, 1),
        ({"max_tokens": 0, "max_completion_tokens": 7}, 7),
    ],
)
def test_the_largest_of_a_clients_maxima_counts_and_an_unreadable_one_is_none(
    fields: dict[str, Any], most: int | None
) -> None:
    assert read(CHAT, {"messages": [], **fields}).own_maximum == most


@pytest.mark.parametrize(
    ("fields", "outputs"),
    [
        ({"prompt": "x"}, 1),
        ({"prompt": "x", "n": 3, "best_of": 5}, 5),
        ({"prompt": ["a", "b"], "n": 3}, 6),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": [[1, 2], [3]], "best_of": 2}, 4),
    ],
)
def test_a_completion_is_made_for_every_prompt_and_every_candidate(fields: dict[str, Any], outputs: int) -> None:
    assert read("/v1/completions", fields).outputs == outputs


def test_cache_writes_are_seen_wherever_they_are_asked_for_and_however_they_are_spelt() -> None:
    mark = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    text = {"type": "text", "text": "x", **mark}
    for fields in ({"system": [text]}, {"messages": user([text])}, {"tools": [{"name": "f", **mark}]}, mark):
        assert read(MESSAGES, {"messages": [], **fields}).writes_cache
    spelt = b'{"model":"m","messages":[{"role":"user","content":[{"type":"text","c\\u0061che_control":{}}]}]}'
    assert read(MESSAGES, spelt).writes_cache
    assert not read(MESSAGES, {"messages": user("cache_control")}).writes_cache


def test_the_service_tiers_that_a_request_may_select() -> None:
    standard, priority, flex = ServiceTier.STANDARD, ServiceTier.PRIORITY, ServiceTier.FLEX
    assert read(CHAT, {"messages": []}).tiers == (standard,)
    assert set(read(CHAT, {"messages": [], "service_tier": "flex"}).tiers) == {standard, flex}
    fast, us = ServiceTier.FAST, ServiceTier.US
    assert set(read(MESSAGES, {"messages": [], "speed": "fast"}).tiers) == {standard, fast}
    assert set(read(MESSAGES, b'{"model":"m","messages":[],"speed":"f\\u0061st"}').tiers) == {standard, fast}
    assert set(read(MESSAGES, {"messages": [], "inference_geo": "us"}).tiers) == {standard, us}
    assert read(MESSAGES, {"messages": [], "inference_geo": "global"}).tiers == (standard,)
    both = read(MESSAGES, {"messages": [], "inference_geo": "us", "speed": "fast", "service_tier": "auto"}).tiers
    assert {standard, priority, ServiceTier.US_FAST} <= set(both)
    assert read(MESSAGES, {"messages": [], "speed": "standard"}).tiers == (standard,)
    assert priority in read(CHAT, {"messages": [], "service_tier": {"type": "priority"}}).tiers
    assert {standard, priority, flex} <= set(read(CHAT, {"messages": [], "service_tier": "auto"}).tiers)


def test_counting_tokens_consumes_nothing() -> None:
    assert read("/v1/messages/count_tokens", {"messages": user("x" * 1000)}) is NOTHING


def test_pictures_count_by_number_quality_and_size() -> None:
    plain = read("/v1/images/generations", {"prompt": "a cat", "n": 3, "quality": "low", "size": "1024x1024"})
    assert (plain.pictures, plain.made_class) == (3, "output_image_tokens")
    best = read("/v1/images/generations", {"prompt": "a cat", "n": 3})
    odd = read("/v1/images/generations", {"prompt": "a cat", "n": 3, "size": "4096x4096"})
    assert plain.made_tokens < best.made_tokens < odd.made_tokens


def test_the_background_of_a_picture_is_none_that_a_response_is_made_in() -> None:
    for value in ("transparent", "auto"):
        assert not read("/v1/images/generations", {"prompt": "a cat", "background": value}).unbounded
        assert not read("/v1/images/edits", *form("image", b"\0", model="m", background=value)).unbounded
    assert read(RESPONSES, {"input": "x", "background": True}).unbounded


def form(name: str, data: bytes, *twice: tuple[str, str], **fields: str) -> tuple[bytes, str]:
    head = '--b\r\nContent-Disposition: form-data; name="'
    parts = [f'{head}{key}"\r\n\r\n{value}\r\n'.encode() for key, value in (*fields.items(), *twice)]
    file = f'{head}{name}"; filename="x"\r\n\r\n'.encode()
    return b"".join([*parts, file, data, b"\r\n--b--\r\n"]), "multipart/form-data; boundary=b"


def test_a_recording_counts_by_the_seconds_that_it_can_hold() -> None:
    wave = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0" + (16000).to_bytes(4, "little") + (32000).to_bytes(4, "little")
    wave += b"\x02\0\x10\0data" + b"\0" * 320_000
    known = read("/v1/audio/transcriptions", *form("file", wave, model="m"))
    unknown = read("/v1/audio/transcriptions", *form("file", b"\0" * 320_000, model="m"))
    assert (known.seconds, unknown.seconds) == (11, 640)


@pytest.mark.parametrize(
    ("at", "value"), [(32, b"\xff\xff"), (24, b"\xff\xff\xff\xff"), (22, b"\xff\xff"), (34, b"\x08\0"), (34, b"\0\0")]
)
def test_a_wave_file_that_says_of_itself_what_cannot_be_is_not_believed(at: int, value: bytes) -> None:
    wave = bytearray(b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0@\x1f\0\0\x80>\0\0\x02\0\x10\0data" + b"\0" * 160_000)
    assert read("/v1/audio/transcriptions", *form("file", bytes(wave), model="m")).seconds == 11
    wave[at : at + len(value)] = value
    assert read("/v1/audio/transcriptions", *form("file", bytes(wave), model="m")).seconds > 300


def test_an_edited_picture_counts_as_sent_and_as_made() -> None:
    extent = read("/v1/images/edits", *form("image", b"\0" * 5000, model="m", prompt="hat", n="2"))
    assert (extent.images, extent.pictures) == (1, 2) and extent.text_tokens < 1000


def test_a_spoken_text_counts_by_its_characters() -> None:
    extent = read("/v1/audio/speech", {"input": "hällo", "voice": "x"})
    assert extent.characters == 5 and extent.made_tokens >= 5


def test_a_text_to_be_spoken_that_comes_in_parts_counts_by_its_bytes() -> None:
    assert read("/v1/audio/speech", {"input": [{"type": "text", "text": "x" * 1000}], "voice": "x"}).characters > 1000


def test_each_input_that_is_referred_to_may_fill_the_context_window() -> None:
    assert read("/v1/embeddings", {"input": [{"text": "x"}] * 100}).windows == 100
    assert read("/v1/rerank", {"query": "q", "documents": [{"image": "x"}] * 10}).windows == 20


def test_a_rerank_counts_a_search_for_every_hundred_documents() -> None:
    assert read("/v1/rerank", {"query": "q", "documents": ["d"] * 250}).queries >= 3


ODD = st.sampled_from(
    [
        None,
        "",
        "text",
        5,
        [],
        ["text"],
        {},
        [{"type": "text", "text": "see"}],
        [{"text": "no type"}],
        {"type": "ephemeral"},
    ]
)
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", None, 7]),
        "content": ODD,
        "type": st.sampled_from([None, "message", "image", "text"]),
        **dict.fromkeys(("output", "source", "audio", "cache_control", "name", "tool_calls"), ODD),
    },
)
PLAIN_MESSAGE = st.fixed_dictionaries({"role": st.just("user"), "content": st.sampled_from(["words", None])})


@given(
    st.sampled_from([CHAT, MESSAGES]),
    st.one_of(ODD, st.lists(st.one_of(PLAIN_MESSAGE, MESSAGE), max_size=3)),
    st.dictionaries(
        st.sampled_from(["max_tokens", "n", "system", "tools", "temperature", "service_tier", "candidateCount"]), ODD
    ),
)
def test_the_short_way_for_messages_of_text_tells_what_the_long_one_does(
    path: str, messages: Any, more: dict[str, Any]
) -> None:
    body = {"messages": messages, **more}
    short = read(path, body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversations, "_plain", lambda request: None)
        assert read(path, body) == short


def test_a_long_history_of_text_is_told_by_its_bytes_and_messages() -> None:
    body = json.dumps({"model": "m", "messages": user("word " * 100) * 200}).encode()
    assert read(CHAT, body) == Extent(text_tokens=len(body) + 200 * MESSAGE_TOKENS)


@pytest.mark.parametrize(
    ("path", "file", "fields"),
    [
        ("/v1/images/edits", "image", [("n", "1"), ("n", "9")]),
        ("/v1/images/edits", "image", [("n", "many")]),
        ("/v1/images/edits", "image", [("n", "-1")]),
        ("/v1/images/edits", "image", [("partial_images", "1"), ("partial_images", "3")]),
        ("/v1/images/edits", "image", [("number_of_images", "9")]),
        ("/v1/images/variations", "image", [("sampleCount", "9")]),
        ("/v1/audio/transcriptions", "file", [("extra_body", "{}")]),
        ("/v1/images/edits", "image", [("n[]", "9"), ("n[]", "9")]),
        ("/v1/images/edits", "image", [("n", "1"), ("n[]", "9")]),
        ("/v1/images/edits", "image", [("N", "9")]),
        ("/v1/images/edits", "image", [("extra_body[n]", "9")]),
        ("/v1/images/edits", "mask", [("image", "https://example.com/x.png")]),
        ("/v1/images/edits", "mask", [("image_url[]", "https://example.com/x.png")]),
        ("/v1/audio/transcriptions", "file", [("url", "https://example.com/of-nine-hours.mp3")]),
        ("/v1/audio/transcriptions", "other", [("file", "of nine hours")]),
        ("/v1/audio/translations", "other", [("file_id", "file-1")]),
    ],
)
def test_a_form_that_may_ask_for_more_than_can_be_read_has_no_bound(
    path: str, file: str, fields: list[tuple[str, str]]
) -> None:
    assert read(path, *form(file, b"\0" * 100, *fields, model="m")).unbounded


def test_a_form_without_a_recording_may_mean_any() -> None:
    body, kind = form("file", b"", model="m")
    assert read("/v1/audio/transcriptions", body.replace(b'; filename="x"', b""), kind).unbounded


def test_the_fields_of_openais_forms_are_bounded() -> None:
    heard = {
        "chunking_strategy": "auto", "include[]": "logprobs", "known_speaker_names[]": "Ada", "language": "en",
        "known_speaker_references[]": "data:audio/wav;base64,AAAA", "prompt": "Names: Ada", "response_format": "json",
        "temperature": "0", "timestamp_granularities[]": "word", "stream": "true",
        "chunking_strategy[type]": "server_vad", "keywords[]": "ledger", "languages[]": "en",
    }  # fmt: skip
    made = {
        "background": "auto", "input_fidelity": "high", "n": "2", "output_compression": "90", "output_format": "png",
        "partial_images": "1", "prompt": "hat", "quality": "high", "response_format": "b64_json", "size": "auto",
        "stream": "true", "user": "ada",
    }  # fmt: skip
    assert not read("/v1/audio/transcriptions", *form("file", b"\0" * 100, model="m", **heard)).unbounded
    assert not read("/v1/images/edits", *form("image[]", b"\0" * 100, model="m", **made)).unbounded
    assert read("/v1/images/edits", *form("image", b"\0", ("n[]", "9"), model="m")).pictures == 9


def test_a_form_without_numbers_asks_for_one_picture_and_no_partial_ones() -> None:
    bare = read("/v1/images/edits", *form("image", b"\0", model="m", n="", quality="low", size="auto"))
    partial = read("/v1/images/edits", *form("image", b"\0", model="m", quality="low", size="auto", partial_images="2"))
    assert not bare.unbounded and bare.pictures == 1
    assert partial.made_tokens == bare.made_tokens + 200
