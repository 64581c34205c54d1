"""The official clients through the gateway to a provider that speaks their dialect: what they get, and what is booked.

'one two three' are 3 tokens in and 9 out (the fake provider's prefix of 6 words, and those 3); prices are in `house`.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.functional.house import UPSTREAM_KEY, House, marker
from tests.functional.provider_books import header_of

SAID = "one two three"
REPLY = "Hello from Token Tracker! You said: one two three"
# USD by hand, at 3, 0.3, 3.75, 6, 15 and 20 per million: what a manner adds is said in `fake_provider`.
PLAIN = "0.000144000"  # 3 × 3 + 9 × 15
CACHED = "0.000444000"  # 3 × 3 + 1000 × 0.3 + 9 × 15
REASONED = "0.001144000"  # 3 × 3 + 9 × 15 + 50 × 20
CLASSES = (
    "input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens",
    "reasoning_tokens", "input_audio_tokens", "input_image_tokens", "output_audio_tokens", "output_image_tokens",
)  # fmt: skip


def check_row(house: House, name: str, answer: Any, cost: str, **counts: int) -> dict[str, Any]:
    """Exactly one row, that of this answer; its counts are `counts` and the provider's own; gives the row."""
    row = house.row(name)
    assert row["id"] == row["call_id"] == answer.headers["x-tt-request-id"]
    assert {each: row[each] for each in CLASSES if row[each]} == counts == house.provider.entry(name)["billed"]
    assert row["cost_usd"] == row["booked_cost_usd"] == cost
    assert (row["usage_source"], row["cost_source"], row["end_reason"]) == ("provider", "priced", "complete")
    assert (row["lane"], row["status_code"], row["attempt"], row["attempts"]) == ("direct", 200, 1, 1)
    assert row["user"] == "admin"
    assert row["price_version"].startswith("entry:")
    return row


def messages(**more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": SAID}], **more}


def claude(name: str, **more: Any) -> dict[str, Any]:
    return messages(max_tokens=100, metadata={"user_id": name}, **more)


@pytest.mark.parametrize(
    ("manner", "cost", "counts"),
    [
        ("plain", PLAIN, {"input_tokens": 3, "output_tokens": 9}),
        ("cached", CACHED, {"input_tokens": 3, "cache_read_tokens": 1000, "output_tokens": 9}),
        ("reasoning", REASONED, {"input_tokens": 3, "output_tokens": 9, "reasoning_tokens": 50}),
    ],
)
def test_a_chat_completion_is_answered_booked_and_priced(
    house: House, manner: str, cost: str, counts: dict[str, int]
) -> None:
    name = marker("chat")
    raw = house.openai().chat.completions.with_raw_response.create(model=f"fake-{manner}", user=name, **messages())
    assert raw.parse().choices[0].message.content == REPLY
    row = check_row(house, name, raw, cost, **counts)
    assert raw.headers["x-tt-cost-usd"] == cost
    entry = house.provider.entry(name)
    assert (row["upstream_id"], row["upstream_request_id"]) == (entry["id"], entry["request_id"])
    assert header_of(entry, "authorization") == [f"Bearer {UPSTREAM_KEY}"]
    assert (row["endpoint"], row["stream"], row["provider"]) == ("/v1/chat/completions", False, "openai")
    assert row["prompt_tokens"] == raw.parse().usage.prompt_tokens
    assert row["completion_tokens"] == raw.parse().usage.completion_tokens
    assert row["total_tokens"] == row["prompt_tokens"] + row["completion_tokens"]


@pytest.mark.parametrize(("manner", "cost"), [("plain", PLAIN), ("cached", CACHED), ("slow-20ms", PLAIN)])
def test_a_stream_is_metered_although_the_client_did_not_ask_for_usage_and_does_not_see_it(
    house: House, manner: str, cost: str
) -> None:
    name = marker("stream")
    raw = house.openai().chat.completions.with_raw_response.create(
        model=f"fake-{manner}", user=name, stream=True, **messages()
    )
    chunks = list(raw.parse())
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == REPLY
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    cached = {"cache_read_tokens": 1000} if manner == "cached" else {}
    row = check_row(house, name, raw, cost, input_tokens=3, output_tokens=9, **cached)
    assert row["stream"] is True
    assert "x-tt-cost-usd" not in raw.headers  # nobody knows it when the headers go
    if manner == "slow-20ms":  # nine words, each 20 ms after the last
        assert 0 < row["ttft_ms"] < row["latency_ms"] - 100


@pytest.mark.parametrize("options", [{}, {"include_usage": False}, None])
def test_stream_options_that_do_not_ask_for_usage_change_nothing(house: House, options: Any) -> None:
    name = marker("options")
    raw = house.openai().chat.completions.with_raw_response.create(
        model="fake-plain", user=name, stream=True, stream_options=options, **messages()
    )
    assert all(chunk.choices for chunk in raw.parse())
    check_row(house, name, raw, PLAIN, input_tokens=3, output_tokens=9)


def test_a_client_that_asks_for_usage_in_its_stream_gets_the_providers_own(house: House) -> None:
    name = marker("asked")
    raw = house.openai().chat.completions.with_raw_response.create(
        model="fake-plain", user=name, stream=True, stream_options={"include_usage": True}, **messages()
    )
    *before, last = list(raw.parse())
    assert last.choices == [] and last.usage.prompt_tokens == 3 and last.usage.completion_tokens == 9
    assert all(chunk.choices for chunk in before)
    check_row(house, name, raw, PLAIN, input_tokens=3, output_tokens=9)


def test_embeddings_are_booked_by_what_goes_in(house: House) -> None:
    name = marker("embed")
    raw = house.openai().embeddings.with_raw_response.create(model="fake-embedding", input=SAID, user=name)
    assert len(raw.parse().data[0].embedding) == 4
    check_row(house, name, raw, "0.000009000", input_tokens=3)
    assert raw.headers["x-tt-cost-usd"] == "0.000009000"


@pytest.mark.parametrize("stream", [False, True])
def test_responses_are_answered_booked_and_priced(house: House, stream: bool) -> None:
    name = marker("responses")
    raw = house.openai().responses.with_raw_response.create(
        model="fake-cached+reasoning", input=SAID, user=name, stream=stream
    )
    if stream:
        last = list(raw.parse())[-1]
        assert last.type == "response.completed"
        answer = last.response
    else:
        answer = raw.parse()
    assert answer.output_text == REPLY
    assert answer.usage.input_tokens == 1003  # as OpenAI counts: cached tokens are part of it
    counts = {"input_tokens": 3, "cache_read_tokens": 1000, "output_tokens": 9, "reasoning_tokens": 50}
    check_row(house, name, raw, "0.001444000", **counts)  # 9 + 300 + 135 + 1000 millionths


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("manner", "cost", "counts"),
    [
        ("plain", PLAIN, {"input_tokens": 3, "output_tokens": 9}),
        # 3 × 3 + 1000 × 0.3 + 200 × 3.75 + 30 × 6 + 9 × 15: writes for an hour have a price of their own
        (
            "cached",
            "0.001374000",
            {
                "input_tokens": 3,
                "cache_read_tokens": 1000,
                "cache_write_5m_tokens": 200,
                "cache_write_1h_tokens": 30,
                "output_tokens": 9,
            },
        ),
    ],
)
def test_messages_are_answered_booked_and_priced(
    house: House, stream: bool, manner: str, cost: str, counts: dict[str, int]
) -> None:
    name = marker("messages")
    create = house.anthropic().messages.with_raw_response.create
    raw = create(model=f"claude-{manner}", stream=stream, **claude(name))
    if stream:
        events = list(raw.parse())
        assert events[-1].type == "message_stop"
        text = "".join(event.delta.text for event in events if event.type == "content_block_delta")
    else:
        text = raw.parse().content[0].text
        assert raw.headers["x-tt-cost-usd"] == cost
    assert text == REPLY
    row = check_row(house, name, raw, cost, **counts)
    assert (row["endpoint"], row["stream"], row["provider"]) == ("/v1/messages", stream, "anthropic")
    entry = house.provider.entry(name)
    assert header_of(entry, "x-api-key") == [UPSTREAM_KEY] and header_of(entry, "authorization") == []


def test_anthropics_streaming_helper_works_unchanged(house: House) -> None:
    name = marker("helper")
    with house.anthropic().messages.stream(model="claude-plain", **claude(name)) as stream:
        assert "".join(stream.text_stream) == REPLY
        final = stream.get_final_message()
    assert (final.usage.input_tokens, final.usage.output_tokens) == (3, 9)
    assert house.row(name)["cost_usd"] == PLAIN


def test_openais_list_price_counts_cached_tokens_once(house: House) -> None:
    """1000 in, 800 of them cached, 10 out of gpt-4o: 200 × 2.50 + 800 × 1.25 + 10 × 10 USD per million."""
    name = marker("list-price")
    said = " ".join(["word"] * 200)
    raw = house.openai().chat.completions.with_raw_response.create(
        model="gpt-4o", user=name, max_tokens=10, extra_headers={"x-fake-manner": "cached-800"},
        messages=[{"role": "user", "content": said}],
    )  # fmt: skip
    usage = raw.parse().usage
    assert usage.prompt_tokens == 1000 and usage.prompt_tokens_details.cached_tokens == 800
    assert usage.completion_tokens == 10
    assert raw.headers["x-tt-cost-usd"] == "0.001600000"
    row = house.row(name)
    assert row["cost_usd"] == "0.001600000"
    assert (row["input_tokens"], row["cache_read_tokens"], row["output_tokens"]) == (200, 800, 10)
    assert row["price_version"].startswith("file:")


def test_the_models_that_the_key_may_use_are_listed_in_each_clients_shape(house: House) -> None:
    listed = {each.id for each in house.openai().models.list()}
    assert {"demo", "gpt-4o", "alias-of-plain", "dead"} <= listed
    assert not any("*" in each for each in listed)
    assert house.openai().models.retrieve("gpt-4o").id == "gpt-4o"
    with pytest.raises(openai.NotFoundError):
        house.openai().models.retrieve("no-such-model")
    assert {each.id for each in house.anthropic().models.list()} == listed


def test_an_alias_is_sent_upstream_under_the_providers_own_name(house: House) -> None:
    name = marker("alias")
    house.openai().chat.completions.create(model="alias-of-plain", user=name, **messages())
    row = house.row(name)
    assert (row["requested_model"], row["model"]) == ("alias-of-plain", "fake-plain")
    assert house.provider.entry(name)["model"] == "fake-plain"


def test_a_doubled_v1_means_v1(house: House) -> None:
    name = marker("doubled")
    client = house.openai(base_url=house.proxy_url + "/v1/v1")
    client.chat.completions.create(model="fake-plain", user=name, **messages())
    assert house.row(name)["endpoint"] == "/v1/chat/completions"


def test_who_and_what_for_is_on_the_row(house: House) -> None:
    name = marker("subject")
    headers = {"x-tt-agent": "crawler", "x-tt-session": "s-1", "x-tt-tags": "blue, green", "x-tt-end-user": name}
    house.openai().chat.completions.create(
        model="fake-plain", extra_headers=headers, metadata={"ticket": "T-1"}, **messages()
    )
    row = house.row(name)
    assert (row["agent"], row["session"], row["tags"]) == ("crawler", "s-1", ["blue", "green"])
    assert row["request_metadata"] == {"ticket": "T-1"}
    [entry] = [each for each in house.provider.books(SAID) if header_of(each, "x-tt-agent")] or [None]
    assert entry is None, "our own headers stay here"


OPENAI_ERRORS = {
    400: openai.BadRequestError, 401: openai.AuthenticationError, 403: openai.PermissionDeniedError,
    404: openai.NotFoundError, 422: openai.UnprocessableEntityError, 429: openai.RateLimitError,
    500: openai.InternalServerError, 503: openai.InternalServerError,
}  # fmt: skip
ANTHROPIC_ERRORS = {
    400: anthropic.BadRequestError, 401: anthropic.AuthenticationError, 404: anthropic.NotFoundError,
    429: anthropic.RateLimitError, 500: anthropic.InternalServerError,
}  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("status", "error"), OPENAI_ERRORS.items())
def test_an_upstreams_error_is_openais_own_exception_and_a_row_without_cost(
    house: House, status: int, error: type[openai.APIStatusError], stream: bool
) -> None:
    name = marker("error")
    with pytest.raises(error) as caught:
        house.openai().chat.completions.create(model=f"fake-{status}", user=name, stream=stream, **messages())
    answer = caught.value.response
    assert answer.status_code == status
    assert caught.value.body["message"] == f"The fake provider answers {status}."
    assert answer.headers["x-ratelimit-remaining-requests"] == "4999"  # the provider's own, as no rule of ours applies
    if status in (429, 503):
        assert answer.headers["retry-after"] == "7"
    row = house.row(name)
    assert row["id"] == answer.headers["x-tt-request-id"]
    assert (row["status_code"], row["end_reason"], row["usage_source"]) == (status, "upstream_error", "none")
    assert (row["total_tokens"], row["cost_usd"]) == (0, "0.000000000")


@pytest.mark.parametrize(("status", "error"), ANTHROPIC_ERRORS.items())
def test_an_upstreams_error_is_anthropics_own_exception_and_a_row_without_cost(
    house: House, status: int, error: type[anthropic.APIStatusError]
) -> None:
    name = marker("error")
    with pytest.raises(error) as caught:
        house.anthropic().messages.create(model=f"claude-{status}", **claude(name))
    assert caught.value.response.headers.get("retry-after") == ("7" if status == 429 else None)
    row = house.row(name)
    assert (row["status_code"], row["end_reason"], row["cost_usd"]) == (status, "upstream_error", "0.000000000")


def test_each_try_of_a_client_that_tries_again_is_a_call_of_its_own(house: House) -> None:
    name = marker("retries")
    with pytest.raises(openai.InternalServerError):
        house.openai(max_retries=1).chat.completions.create(model="fake-500", user=name, **messages())
    served = house.provider.books(name)
    assert len(served) == 2
    booked = {row["upstream_request_id"] for row in house.wait_for_rows(2, end_user=name, status="500")}
    assert booked == {entry["request_id"] for entry in served}


def test_an_upstream_that_nobody_listens_at_is_a_502_and_a_row_without_cost(house: House) -> None:
    name = marker("dead")
    with pytest.raises(openai.InternalServerError) as caught:
        house.openai().chat.completions.create(model="dead", user=name, **messages())
    assert caught.value.response.status_code == 502
    assert caught.value.response.headers["x-tt-code"] == "upstream_unreachable"
    row = house.row(name)
    assert (row["status_code"], row["usage_source"], row["cost_usd"]) == (502, "none", "0.000000000")


@pytest.mark.parametrize("manner", ["dies-mid-stream", "ends-early"])
def test_a_stream_that_breaks_off_breaks_off_at_the_client_too_and_is_booked_with_what_is_known(
    house: House, manner: str
) -> None:
    name = marker("broken")
    heard = ""
    breaks = pytest.raises(httpx.RemoteProtocolError) if manner == "dies-mid-stream" else nullcontext()
    stream = house.openai().chat.completions.create(model=f"fake-{manner}", user=name, stream=True, **messages())
    with breaks:
        for chunk in stream:
            heard += chunk.choices[0].delta.content or ""
    assert heard == "Hello from Token Tracker! "  # 4 of 9 words
    row = house.row(name)
    assert (row["end_reason"], row["usage_source"]) == ("upstream_disconnect", "estimated")
    assert row["output_tokens"] > 0 and row["input_tokens"] > 0
    assert row["cost_usd"] > "0.000000000" and row["cost_source"] == "priced"


def test_a_client_that_leaves_mid_stream_is_booked_with_the_providers_count_as_the_answer_is_read_on(
    house: House,
) -> None:
    name = marker("left")
    stream = house.openai().chat.completions.create(model="fake-slow-50ms", user=name, stream=True, **messages())
    next(iter(stream))
    stream.close()
    row = house.row(name)
    assert (row["end_reason"], row["usage_source"]) == ("client_disconnect", "provider")
    entry = house.provider.entry(name)
    assert entry["reached_end"] and entry["billed"] == {"input_tokens": 3, "output_tokens": 9}
    assert (row["input_tokens"], row["output_tokens"], row["cost_usd"]) == (3, 9, PLAIN)


def test_the_providers_headers_pass_but_for_those_that_belong_to_one_hop(house: House) -> None:
    name = marker("headers")
    raw = house.openai().chat.completions.with_raw_response.create(model="fake-plain", user=name, **messages())
    assert raw.headers["openai-organization"] == "fake-organization"
    assert raw.headers["x-request-id"] == house.provider.entry(name)["request_id"]
    for gone in ("set-cookie", "alt-svc", "strict-transport-security"):
        assert gone not in raw.headers


def test_a_provider_that_does_not_count_leaves_an_estimate_that_says_so(house: House) -> None:
    name = marker("uncounted")
    house.openai().chat.completions.create(model="fake-no-usage", user=name, **messages())
    row = house.row(name)
    assert (row["usage_source"], row["end_reason"]) == ("estimated", "complete")
    assert row["input_tokens"] > 0 and row["output_tokens"] > 0


def test_the_demo_model_answers_both_clients_and_costs_something(house: House) -> None:
    """At 1 and 2 USD per million: 3 words in, 9 out."""
    name = marker("demo")
    raw = house.openai().chat.completions.with_raw_response.create(model="demo", user=name, **messages())
    assert raw.headers["x-tt-cost-usd"] == "0.000021000"
    assert house.row(name)["cost_usd"] == "0.000021000"
    name = marker("demo")
    assert house.anthropic().messages.create(model="demo", **claude(name)).content[0].text == REPLY
    assert house.row(name)["cost_usd"] == "0.000021000"
