"""The fake provider itself: what it says it did is what it did. Numbers are worked out from its description."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import brotli
import httpx
import openai
import pytest

from tests.functional.provider_books import Entry, FakeProvider, body_of, header_of

# 'one two three' has 3 words; the reply is the prefix of 6 words and those 3.
P, R = 3, 9
STREAMED = ["/v1/chat/completions", "/v1/responses", "/v1/messages"]


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


def request(model: str, marker: str, **more: Any) -> dict[str, Any]:
    """A body that every format understands."""
    said = "one two three"
    messages = [{"role": "user", "content": said}]
    named = {"user": marker, "metadata": {"user_id": marker}}
    return {"model": model, "messages": messages, "input": said, "max_tokens": 100, **named, **more}


def stream(provider: FakeProvider, path: str, model: str, marker: str, **more: Any) -> str:
    with httpx.stream("POST", provider.url + path, json=request(model, marker, stream=True, **more)) as answer:
        assert answer.status_code == 200
        return b"".join(answer.iter_bytes()).decode()


def datas(text: str) -> list[str]:
    """The data of every event, by the rules of server-sent events."""
    events = text.replace("\r\n", "\n").split("\n\n")
    lines = [[line[5:].removeprefix(" ") for line in e.split("\n") if line.startswith("data:")] for e in events]
    return ["\n".join(parts) for parts in lines if parts]


def finals(text: str) -> list[Any]:
    return [json.loads(data) for data in datas(text) if data != "[DONE]"]


def test_a_plain_call_is_in_the_books_with_what_came_and_what_it_bills(provider: FakeProvider) -> None:
    body = json.dumps(request("fake-plain", "plain-1"), indent=3).encode()
    headers = [("X-Twice", "a"), ("X-Twice", "b"), ("content-type", "application/json")]
    answer = httpx.post(provider.url + "/v1/chat/completions", content=body, headers=headers)
    entry = provider.entry("plain-1")
    assert body_of(entry) == body
    assert header_of(entry, "x-twice") == ["a", "b"]
    assert entry["id"] == answer.json()["id"]
    assert entry["request_id"] == answer.headers["x-request-id"]
    assert entry["billed"] == {"input_tokens": P, "output_tokens": R}
    assert entry["reported"] == answer.json()["usage"]
    assert (entry["status"], entry["reached_end"], entry["client_left"], entry["model"]) == (
        200,
        True,
        False,
        "fake-plain",
    )
    assert answer.headers["x-ratelimit-remaining-requests"] == "4999"
    assert answer.headers["set-cookie"].startswith("__cf_bm")


@pytest.mark.parametrize("path", STREAMED)
def test_a_stream_is_billed_to_its_end(provider: FakeProvider, path: str) -> None:
    marker = f"stream-{path}"
    text = stream(provider, path, "fake-plain", marker, stream_options={"include_usage": True})
    entry = provider.entry(marker)
    assert entry["billed"] == {"input_tokens": P, "output_tokens": R}
    assert entry["reached_end"]
    assert entry["id"] in text
    told = entry["reported"]
    assert told.get("completion_tokens", told.get("output_tokens")) == R


def test_the_official_clients_understand_every_layout(provider: FakeProvider) -> None:
    with openai.OpenAI(base_url=provider.openai_base, api_key="any", max_retries=0) as client:
        for manner in (
            "plain",
            "gzip",
            "brotli",
            "crlf",
            "comments",
            "no-space",
            "cut-every-byte",
            "content-length-sse",
        ):
            chunks = client.chat.completions.create(
                model=f"fake-{manner}",
                messages=[{"role": "user", "content": "one two three"}],
                stream=True,
                stream_options={"include_usage": True},
            )
            last = list(chunks)[-1]
            assert last.usage is not None, manner
            assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (P, R), manner


def test_cached_tokens_come_on_top_and_each_format_counts_them_its_own_way(provider: FakeProvider) -> None:
    chat = httpx.post(provider.url + STREAMED[0], json=request("fake-cached", "cached-chat")).json()["usage"]
    assert (chat["prompt_tokens"], chat["prompt_tokens_details"]["cached_tokens"]) == (1003, 1000)
    assert provider.entry("cached-chat")["billed"] == {"input_tokens": 3, "cache_read_tokens": 1000, "output_tokens": 9}

    messages = httpx.post(provider.url + STREAMED[2], json=request("fake-cached", "cached-messages")).json()["usage"]
    assert (messages["input_tokens"], messages["cache_read_input_tokens"]) == (3, 1000)
    assert messages["cache_creation_input_tokens"] == 230
    assert messages["cache_creation"] == {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 30}
    assert provider.entry("cached-messages")["billed"] == {
        "input_tokens": 3,
        "cache_read_tokens": 1000,
        "cache_write_5m_tokens": 200,
        "cache_write_1h_tokens": 30,
        "output_tokens": 9,
    }


@pytest.mark.parametrize(
    ("path", "billed"),
    [
        (STREAMED[0], {"input_tokens": 3, "output_tokens": 9, "reasoning_tokens": 50}),
        (STREAMED[1], {"input_tokens": 3, "output_tokens": 9, "reasoning_tokens": 50}),
        (STREAMED[2], {"input_tokens": 3, "output_tokens": 59}),
        ("/v1/embeddings", {"input_tokens": 3}),
    ],
)
def test_reasoning_is_a_class_of_its_own_only_where_the_format_has_one(
    provider: FakeProvider, path: str, billed: dict[str, int]
) -> None:
    model, marker = ("fake-embedding", "embedding") if "embed" in path else ("fake-reasoning", f"reasoning-{path}")
    answer = httpx.post(provider.url + path, json=request(model, marker)).json()
    entry = provider.entry(marker)
    assert entry["billed"] == billed
    assert entry["reported"] == answer["usage"]
    assert answer["usage"].get("total_tokens", 62) == sum(billed.values())


def test_usage_is_found_where_the_manner_puts_it_and_nowhere_else(provider: FakeProvider) -> None:
    def told(manner: str) -> list[Any]:
        return finals(stream(provider, STREAMED[0], f"fake-{manner}", manner))

    assert all(not chunk.get("usage") for chunk in told("plain"))
    assert told("usage-unasked")[-1]["usage"]["completion_tokens"] == R
    in_choices, in_groq = told("usage-in-choices"), told("usage-in-x-groq")
    assert in_choices[-1]["choices"][0]["usage"]["completion_tokens"] == R
    assert in_groq[-1]["x_groq"]["usage"]["completion_tokens"] == R
    assert all(chunk["choices"] and "usage" not in chunk for chunk in [in_choices[-1], in_groq[-1]])
    assert all(chunk["usage"]["completion_tokens"] == R for chunk in told("usage-in-every-chunk"))
    nulls = finals(stream(provider, STREAMED[0], "fake-null-details+usage-unasked", "nulls"))[-1]["usage"]
    assert (nulls["prompt_tokens_details"], nulls["prompt_tokens"]) == (None, P)


@pytest.mark.parametrize("path", STREAMED)
def test_without_usage_the_client_cannot_know_but_the_books_do(provider: FakeProvider, path: str) -> None:
    text = stream(provider, path, "fake-no-usage", f"none-{path}", stream_options={"include_usage": True})
    entry = provider.entry(f"none-{path}")
    assert entry["reported"] is None
    assert '"usage"' not in text.replace('"usage":null', "")
    assert entry["billed"] == {"input_tokens": P, "output_tokens": R}


@pytest.mark.parametrize("path", STREAMED)
def test_a_stream_that_dies_is_billed_for_the_words_that_went_out(provider: FakeProvider, path: str) -> None:
    marker = f"dies-{path}"
    with pytest.raises(httpx.RemoteProtocolError):
        stream(provider, path, "fake-dies-mid-stream", marker)
    entry = provider.entry(marker)
    assert entry["billed"] == {"input_tokens": P, "output_tokens": R // 2}
    assert (entry["reached_end"], entry["client_left"]) == (False, False)


def test_a_body_that_dies_is_cut_in_half(provider: FakeProvider) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(provider.url + STREAMED[0], json=request("fake-dies-mid-stream", "dies-whole"))
    assert not provider.entry("dies-whole")["reached_end"]


@pytest.mark.parametrize("path", STREAMED)
def test_an_early_end_lacks_the_terminal_event_and_an_error_event_says_why(provider: FakeProvider, path: str) -> None:
    early = stream(provider, path, "fake-ends-early", f"early-{path}")
    failed = finals(stream(provider, path, "fake-error-event", f"error-{path}"))
    assert not any(end in early for end in ("[DONE]", "message_stop", "response.completed"))
    assert "error" in failed[-1] or failed[-1]["type"] == "error"


@pytest.mark.parametrize("manner", ["fake-hang-mid-stream", "fake-slow-400ms"])
def test_a_client_that_leaves_is_seen_and_not_billed_for_the_rest(provider: FakeProvider, manner: str) -> None:
    with httpx.stream("POST", provider.url + STREAMED[0], json=request(manner, manner, stream=True)) as answer:
        next(answer.iter_bytes())
    entry = provider.entry(manner)
    assert (entry["client_left"], entry["reached_end"]) == (True, False)
    assert entry["billed"].get("output_tokens", 0) <= R // 2


def test_a_provider_that_never_answers_bills_nothing(provider: FakeProvider) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(provider.url + STREAMED[0], json=request("fake-hang-before-headers", "hang"), timeout=0.3)
    entry = provider.entry("hang")
    assert (entry["client_left"], entry["status"], entry["billed"]) == (True, 0, {})


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503, 529])
def test_an_error_is_shaped_as_the_dialect_has_it_and_bills_nothing(provider: FakeProvider, status: int) -> None:
    marker = f"status-{status}"
    for path in (STREAMED[0], STREAMED[2]):
        answer = httpx.post(provider.url + path, json=request(f"fake-{status}", marker + path, stream=True))
        assert answer.status_code == status
        assert ("retry-after" in answer.headers) == (status in (429, 503))
        assert (answer.json().get("type") == "error") == (path == STREAMED[2])
        assert provider.entry(marker + path)["billed"] == {}


def test_the_official_clients_raise_their_own_errors(provider: FakeProvider) -> None:
    with (
        openai.OpenAI(base_url=provider.openai_base, api_key="any", max_retries=0) as client,
        pytest.raises(openai.RateLimitError),
    ):
        client.chat.completions.create(model="fake-429", messages=[{"role": "user", "content": "x"}])
    with (
        anthropic.Anthropic(base_url=provider.url, api_key="any", max_retries=0) as client_of_anthropic,
        pytest.raises(anthropic.RateLimitError),
    ):
        client_of_anthropic.messages.create(model="fake-429", max_tokens=1, messages=[{"role": "user", "content": "x"}])


@pytest.mark.parametrize(
    ("manner", "coding", "read"), [("gzip", "gzip", gzip.decompress), ("brotli", "br", brotli.decompress)]
)
def test_a_coding_is_sent_only_to_those_who_take_it(
    provider: FakeProvider, manner: str, coding: str, read: Callable[[bytes], bytes]
) -> None:
    for stream_it in (False, True):
        body = request(f"fake-{manner}", manner, stream=stream_it)
        for accepted, expected in ((coding, coding), ("identity", None)):
            headers = {"accept-encoding": accepted}
            with httpx.stream("POST", provider.url + STREAMED[0], json=body, headers=headers) as answer:
                raw = b"".join(answer.iter_raw())
            assert answer.headers.get("content-encoding") == expected
            assert b"Hello" in (read(raw) if expected else raw)


def test_the_layouts_are_what_they_say(provider: FakeProvider) -> None:
    def raw(manner: str) -> str:
        return stream(provider, STREAMED[2], f"fake-{manner}", manner)

    assert raw("crlf").count("\r\n") == raw("crlf").count("\n") > 10
    assert raw("comments").startswith(": ")
    assert "data: {\ndata: " in raw("multiline")
    assert "data:{" in raw("no-space")
    kinds = [
        [event["type"] for event in finals(raw(m))] for m in ("plain", "crlf", "comments", "multiline", "no-space")
    ]
    assert all(kind == kinds[0] for kind in kinds)
    sized = httpx.post(provider.url + STREAMED[2], json=request("fake-content-length-sse", "sized", stream=True))
    assert int(sized.headers["content-length"]) == len(sized.content)


def test_speech_and_images_bill_what_their_answers_do_not_all_tell(provider: FakeProvider) -> None:
    speech = httpx.post(provider.url + "/v1/audio/speech", json={"model": "fake-tts", "input": "say it", "user": "tts"})
    assert speech.headers["content-type"] == "audio/mpeg"
    assert speech.content.startswith(b"ID3")
    assert provider.entry("tts")["billed"] == {"characters": 6}

    prompt = {"prompt": "a red house", "n": 2}
    url = provider.url + "/v1/images/generations"
    drawn = httpx.post(url, json={"model": "gpt-image-1", "user": "gpt-image", **prompt}).json()
    assert (drawn["usage"]["input_tokens"], drawn["usage"]["output_tokens"], len(drawn["data"])) == (3, 200, 2)
    assert provider.entry("gpt-image")["billed"] == {"input_tokens": 3, "output_image_tokens": 200}
    assert "usage" not in httpx.post(url, json={"model": "dall-e-3", "user": "dall-e", **prompt}).json()
    assert provider.entry("dall-e")["billed"] == {"images": 2}


def test_a_manner_with_a_typo_is_refused_and_a_header_may_name_one(provider: FakeProvider) -> None:
    assert httpx.post(provider.url + STREAMED[0], json=request("fake-chached", "typo")).status_code == 400
    headers = {"x-fake-manner": "503"}
    assert httpx.post(provider.url + STREAMED[0], json=request("gpt-4o", "h"), headers=headers).status_code == 503


def test_the_books_stay_true_under_load_and_can_be_emptied(provider: FakeProvider) -> None:
    provider.reset()
    with httpx.Client() as client:
        for number in range(100):
            client.post(provider.url + STREAMED[0], json=request("fake-plain", f"load-{number}"))

    def all_ended(entries: list[Entry]) -> bool:
        return len(entries) == 100 and all(entry["reached_end"] for entry in entries)

    entries = provider.wait_for(all_ended)
    assert len({entry["id"] for entry in entries}) == len({entry["request_id"] for entry in entries}) == 100
    assert "headers" not in provider.books(slim=True)[0]
    provider.reset()
    assert provider.books() == []
