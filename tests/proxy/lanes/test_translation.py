"""The translated lane as a whole: SDK clients → gateway → LiteLLM child → a provider that keeps its own books."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import anthropic
import openai
import pytest

from tests.functional.provider_books import FakeProvider, body_of, header_of
from tests.ports import free_port
from tests.proxy.house import KEY, wait_until
from tests.proxy.lanes.translating import Lane, running_lane, tokens
from tests.proxy.litellm.running import KEY as CHILD_KEY
from token_tracker.config.values import Deployment, Routing, Secret
from token_tracker.proxy.books.records import End, Open

RATES = {"input_cost_per_token": Decimal("0.000001"), "output_cost_per_token": Decimal("0.000002")}
# 'one two three' has 3 words; the provider's reply is a prefix of 6 words and those 3.
SAID, WORDS_IN, WORDS_OUT = "one two three", 3, 9
PAID_NANO_USD = 3 * 1000 + 9 * 2000


def models(provider: FakeProvider) -> dict[str, tuple[Deployment, ...]]:
    def at(name: str, model: str, kind: str = "openai", **more: Any) -> Deployment:
        base = provider.url if kind == "anthropic" else provider.openai_base
        fields: dict[str, Any] = {"api_base": base, "api_key": Secret("sk-up"), "rates": RATES, **more}
        return Deployment(name=name, provider=kind, model=model, **fields)

    nowhere = f"http://127.0.0.1:{free_port()}/v1"
    image_rates = {**RATES, "output_cost_per_image_token": Decimal("0.00001")}
    by_second = {"output_cost_per_video_per_second": Decimal("0.001")}
    every = [
        at("claude", "fake-plain", "anthropic"),
        at("claude-cached", "fake-cached", "anthropic"),
        at("claude-429", "fake-429", "anthropic"),
        at("claude-dies", "fake-dies-mid-stream", "anthropic"),
        at("gpt", "fake-plain"),
        at("gpt-429", "fake-429"),
        at("gpt-no-usage", "fake-no-usage", lane="litellm"),
        at("gpt-usage-is-text", "fake-usage-is-text", lane="litellm"),
        at("gpt-output-is-negative", "fake-output-is-negative", lane="litellm"),
        at("gpt-400", "fake-400"),
        at("gpt-gone", "m", api_base=nowhere),
        at("tts-1", "tts-1", rates=None, lane="litellm"),
        at("tts-own-price", "tts-1", rates={"input_cost_per_character": Decimal("0.001")}, lane="litellm"),
        at("tts-second-price", "tts-1", rates=by_second, lane="litellm"),
        at("tts-token-price", "tts-1", lane="litellm"),
        at("dall-e-unpriced", "fake-dall-e", rates=None, lane="litellm"),
        at("gpt-image-1", "fake-gpt-image", rates=image_rates, lane="litellm"),
    ]
    several = {
        "claude-either": [at("", "fake-529", "anthropic", order=1), at("", "fake-plain", "anthropic", order=2)],
        "gpt-either": [at("", "m", api_base=nowhere, order=1), at("", "fake-plain", order=2)],
        "voice-either": [
            at("", "fake-500", order=1, rates=None, lane="litellm"),
            at("", "tts-1", order=2, rates=None, lane="litellm"),
        ],
        "claude-dying-either": [
            at("", "fake-dies-mid-stream", "anthropic", order=1),
            at("", "fake-plain", "anthropic", order=2),
        ],
        "gpt-then-claude": [at("", "fake-429")],
        "claude-then-gpt": [at("", "fake-plain", "anthropic")],
    }
    named = {name: tuple(replace(each, name=name) for each in group) for name, group in several.items()}
    return {each.name: (each,) for each in every} | named


ROUTING = Routing(fallbacks={"gpt-then-claude": ("claude",), "claude-then-gpt": ("gpt",)}, has_cooldowns=False)


@pytest.fixture(scope="module")
def lane() -> Iterator[Lane]:
    with running_lane(models, ROUTING) as running:
        yield running


def said(marker: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": SAID}], "max_tokens": 100, "extra_body": {"user": marker}}


def test_an_openai_client_uses_an_upstream_that_speaks_anthropics_format(lane: Lane) -> None:
    answer = lane.openai.chat.completions.with_raw_response.create(model="claude", **said("a1"))
    row, completion = lane.row(answer.headers["x-tt-request-id"]), answer.parse()
    assert completion.model == "claude"
    assert completion.choices[0].message.content == f"Hello from Token Tracker! You said: {SAID}"
    assert tokens(row) == {"input_tokens": WORDS_IN, "output_tokens": WORDS_OUT}
    assert (row.usage_source, row.cost_source, row.end_reason) == ("provider", "priced", "complete")
    assert row.cost_nano_usd == PAID_NANO_USD
    assert answer.headers["x-tt-cost-usd"] == "0.000021000"
    assert (row.opened.provider, row.opened.model, row.status_code) == ("anthropic", "fake-plain", 200)
    assert not [name for name in answer.headers if "litellm" in name or "llm_provider" in name]


def test_the_same_as_a_stream(lane: Lane) -> None:
    chat = lane.openai.chat.completions.with_raw_response.create(model="claude", stream=True, **said("a2"))
    chunks = list(chat.parse())
    assert {chunk.model for chunk in chunks} == {"claude"}
    assert all(chunk.choices for chunk in chunks)  # it did not ask for usage: no chunk without choices
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks).endswith(SAID)
    row = lane.row(chat.headers["x-tt-request-id"])
    assert tokens(row) == {"input_tokens": WORDS_IN, "output_tokens": WORDS_OUT}
    assert (row.cost_nano_usd, row.usage_source, row.opened.stream) == (PAID_NANO_USD, "provider", True)


def test_a_client_that_asks_for_usage_in_its_stream_gets_it_openais_way(lane: Lane) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *_, last = lane.openai.chat.completions.create(model="claude", **options, **said("a3"))  # type: ignore[call-overload]
    assert last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (WORDS_IN, WORDS_OUT)


@pytest.mark.parametrize("stream", [False, True])
def test_anthropics_cache_classes_survive_the_translation(lane: Lane, stream: bool) -> None:
    answer = lane.openai.chat.completions.with_raw_response.create(
        model="claude-cached", stream=stream, **said(f"a4{stream}")
    )
    if stream:
        list(answer.parse())
    assert tokens(lane.row(answer.headers["x-tt-request-id"])) == {
        "input_tokens": WORDS_IN,
        "cache_read_tokens": 1000,
        "cache_write_5m_tokens": 200,
        "cache_write_1h_tokens": 30,
        "output_tokens": WORDS_OUT,
    }


@pytest.mark.parametrize("stream", [False, True])
def test_an_anthropic_client_uses_an_upstream_that_speaks_openais_format(lane: Lane, stream: bool) -> None:
    marker = f"b1{stream}"
    messages: Any = [{"role": "user", "content": f"{SAID}"}]
    answer = lane.anthropic.messages.with_raw_response.create(
        model="gpt", max_tokens=100, messages=messages, stream=stream, metadata={"user_id": marker}
    )
    if stream:
        events: list[Any] = list(answer.parse())  # type: ignore[call-overload]
        assert events[0].message.model == "gpt"
        assert events[-1].type == "message_stop"
    else:
        message: Any = answer.parse()
        assert (message.model, message.usage.input_tokens, message.usage.output_tokens) == ("gpt", WORDS_IN, WORDS_OUT)
    row = lane.row(answer.headers["x-tt-request-id"])
    assert tokens(row) == {"input_tokens": WORDS_IN, "output_tokens": WORDS_OUT}
    assert (row.cost_nano_usd, row.usage_source) == (PAID_NANO_USD, "provider")
    assert row.opened.subject.end_user == marker


@pytest.mark.parametrize("stream", [False, True])
def test_responses_reach_an_upstream_that_speaks_anthropics_format(lane: Lane, stream: bool) -> None:
    answer = lane.openai.responses.with_raw_response.create(
        model="claude", input=SAID, stream=stream, max_output_tokens=100
    )
    response: Any = answer.parse()
    if stream:
        events = list(response)
        assert events[-1].type == "response.completed"
        response = events[-1].response
    assert response.model == "claude"
    assert response.output_text.endswith(SAID)
    assert "litellm" not in response.id.lower() and len(response.id) < 80
    row = lane.row(answer.headers["x-tt-request-id"])
    assert tokens(row) == {"input_tokens": WORDS_IN, "output_tokens": WORDS_OUT}
    assert row.cost_nano_usd == PAID_NANO_USD


def test_speech_costs_what_only_the_callback_knows(lane: Lane) -> None:
    answer = lane.openai.audio.speech.with_raw_response.create(model="tts-1", voice="alloy", input="hello")
    assert answer.content
    call_id = answer.headers["x-tt-request-id"]
    row = lane.row(call_id)
    assert lane.was_awaited(call_id)
    assert tokens(row) == {}
    assert (row.cost_source, row.cost_nano_usd) == ("litellm", 5 * 15_000)  # tts-1: 0.000015 USD a character
    assert row.latency_ms < 5000


def test_speech_at_a_price_for_characters_is_counted_by_the_request(lane: Lane) -> None:
    answer = lane.openai.audio.speech.with_raw_response.create(model="tts-own-price", voice="alloy", input="hello you")
    row = lane.row(answer.headers["x-tt-request-id"])
    assert (row.cost_source, row.cost_nano_usd) == ("priced", 9 * 1_000_000)


def test_a_price_of_the_users_own_that_cannot_be_counted_is_not_replaced_by_litellms(lane: Lane) -> None:
    answer = lane.openai.audio.speech.with_raw_response.create(model="tts-second-price", voice="alloy", input="hello")
    row = lane.row(answer.headers["x-tt-request-id"])
    assert (row.cost_source, row.cost_nano_usd) == ("unpriced", None)


def test_token_prices_do_not_make_speech_free(lane: Lane) -> None:
    answer = lane.openai.audio.speech.with_raw_response.create(model="tts-token-price", voice="alloy", input="hello")
    row = lane.row(answer.headers["x-tt-request-id"])
    assert (row.cost_source, row.cost_nano_usd) == ("unpriced", None)


def test_images_with_a_usage_are_priced_by_it(lane: Lane) -> None:
    answer = lane.openai.images.with_raw_response.generate(model="gpt-image-1", prompt=SAID)
    row = lane.row(answer.headers["x-tt-request-id"])
    assert tokens(row) == {"input_tokens": WORDS_IN, "output_image_tokens": 100}
    assert (row.cost_source, row.cost_nano_usd) == ("priced", 3 * 1000 + 100 * 10_000)


def test_images_that_nobody_can_price_are_unpriced_and_not_free(lane: Lane) -> None:
    answer = lane.openai.images.with_raw_response.generate(model="dall-e-unpriced", prompt=SAID)
    row = lane.row(answer.headers["x-tt-request-id"])
    assert (row.cost_source, row.cost_nano_usd, tokens(row)) == ("unpriced", None, {})


def test_an_upstreams_429_keeps_its_status_and_when_to_come_back(lane: Lane) -> None:
    with pytest.raises(openai.RateLimitError) as chat:
        lane.openai.chat.completions.create(model="claude-429", **said("c1"))
    with pytest.raises(anthropic.RateLimitError) as messages:
        lane.anthropic.messages.create(
            model="gpt-429", max_tokens=100, messages=[{"role": "user", "content": SAID}], metadata={"user_id": "c2"}
        )
    for error in (chat.value, messages.value):
        assert error.response.headers["retry-after"] == "7"
        assert "litellm" not in error.response.text.lower()
        row = lane.row(error.response.headers["x-tt-request-id"])
        assert (row.status_code, row.end_reason, row.usage_source, row.cost_nano_usd) == (
            429,
            "upstream_error",
            "none",
            0,
        )
    assert len(lane.provider.books("c1")) == 1


def test_an_upstream_that_is_not_there_is_502_in_the_clients_words(lane: Lane) -> None:
    with pytest.raises(anthropic.APIStatusError) as refused:
        lane.anthropic.messages.create(model="gpt-gone", max_tokens=9, messages=[{"role": "user", "content": SAID}])
    assert refused.value.status_code == 502
    assert "127.0.0.1" not in refused.value.response.text
    assert lane.row(refused.value.response.headers["x-tt-request-id"]).status_code == 502


def test_a_stream_whose_upstream_dies_ends_in_an_error_without_internals(lane: Lane) -> None:
    # Whether LiteLLM passes on what came before is a race of its own; so the client gets a 502 or a broken stream.
    with pytest.raises(openai.APIError) as broken:
        list(lane.openai.chat.completions.create(model="claude-dies", stream=True, **said("d1")))
    assert "litellm" not in str(broken.value).lower()
    opened = [record.id for record in lane.house.records() if isinstance(record, Open)][-1]
    row = lane.row(opened)
    assert row.end_reason in ("upstream_error", "upstream_disconnect")
    assert row.usage_source in ("provider_partial", "estimated")
    assert row.cost_nano_usd is not None and row.cost_nano_usd > 0


def test_the_upstream_sees_its_own_key_and_nothing_of_the_client(lane: Lane) -> None:
    fields = said("e1")
    fields["extra_body"] |= {"api_base": "http://127.0.0.1:9", "num_retries": 3, "mock_response": "no"}
    lane.openai.chat.completions.create(model="claude", **fields, extra_headers={"x-secret": "of-the-client"})
    (entry,) = lane.provider.wait_for(
        lambda entries: bool(entries) and header_of(entries[-1], "x-api-key") == ["sk-up"]
    )[-1:]
    assert b"num_retries" not in body_of(entry)
    text = str(entry["headers"])
    assert not [secret for secret in (KEY, CHILD_KEY, "of-the-client", "must-not-be-seen") if secret in text]


def attempts(lane: Lane, call_id: str, count: int) -> list[End]:
    def found() -> list[End]:
        return [row for row in lane.house.rows() if row.opened.call_id == call_id]

    rows: list[End] = wait_until(lambda: len(found()) >= count and found(), f"{count} rows of {call_id}")
    assert [row.opened.attempt for row in rows] == list(range(1, count + 1)) and rows[-1].opened.id == call_id
    return rows


@pytest.mark.parametrize("stream", [False, True])
def test_an_upstream_that_refuses_behind_the_child_is_passed_over(lane: Lane, stream: bool) -> None:
    answer = lane.openai.chat.completions.with_raw_response.create(
        model="claude-either", stream=stream, **said(f"retry-{stream}")
    )
    if stream:
        assert "".join(chunk.choices[0].delta.content or "" for chunk in answer.parse() if chunk.choices)
    first, last = attempts(lane, answer.headers["x-tt-request-id"], 2)
    assert (first.status_code, first.usage_source, first.cost_nano_usd) == (529, "none", 0)
    assert (last.end_reason, last.usage_source, last.cost_nano_usd) == ("complete", "provider", PAID_NANO_USD)
    assert first.opened.lane == last.opened.lane == "litellm"


def test_an_upstream_that_the_child_cannot_reach_is_passed_over(lane: Lane) -> None:
    answer = lane.anthropic.messages.with_raw_response.create(
        model="gpt-either", max_tokens=100, messages=[{"role": "user", "content": SAID}]
    )
    first, last = attempts(lane, answer.headers["x-tt-request-id"], 2)
    assert (first.status_code, first.end_reason, first.cost_nano_usd) == (502, "upstream_error", 0)
    assert (last.opened.lane, last.cost_nano_usd) == ("litellm", PAID_NANO_USD)


def test_late_evidence_finds_the_attempt_that_it_is_about(lane: Lane) -> None:
    answer = lane.openai.audio.speech.with_raw_response.create(model="voice-either", voice="alloy", input="hello")
    call_id = answer.headers["x-tt-request-id"]
    first, last = attempts(lane, call_id, 2)
    assert (first.status_code, first.usage_source) == (500, "none")
    assert last.usage_source == "provider" and lane.was_awaited(call_id)


def test_an_answer_that_broke_behind_the_child_may_be_billed_and_is_not_repeated(lane: Lane) -> None:
    with pytest.raises(openai.APIStatusError) as failure:
        lane.openai.chat.completions.create(model="claude-dying-either", **said("dying"))
    assert failure.value.status_code == 502
    (row,) = attempts(lane, failure.value.response.headers["x-tt-request-id"], 1)
    assert row.end_reason == "upstream_disconnect" and row.usage_source == "estimated"


def test_a_fallback_may_be_on_the_other_lane(lane: Lane) -> None:
    answer = lane.openai.chat.completions.with_raw_response.create(model="gpt-then-claude", **said("across"))
    assert answer.headers["x-tt-model"] == "claude" and answer.parse().choices[0].message.content
    first, last = attempts(lane, answer.headers["x-tt-request-id"], 2)
    assert (first.opened.lane, first.status_code) == ("direct", 429)
    assert (last.opened.lane, last.opened.model, last.cost_nano_usd) == ("litellm", "fake-plain", PAID_NANO_USD)


def streamed_without_usage(lane: Lane, route: str, marker: str) -> str:
    """The id of a call on `route` to an upstream that reports no usage."""
    if route == "messages":
        messages: Any = [{"role": "user", "content": SAID}]
        made: Any = lane.anthropic.messages.with_raw_response.create(
            model="gpt-no-usage", max_tokens=100, messages=messages, stream=True, metadata={"user_id": marker}
        )
    elif route == "responses":
        made = lane.openai.responses.with_raw_response.create(
            model="gpt-no-usage", input=SAID, stream=True, extra_body={"user": marker}
        )
    else:
        made = lane.openai.chat.completions.with_raw_response.create(
            model="gpt-no-usage", stream=True, stream_options={"include_usage": True}, **said(marker)
        )
    assert "LiteLLM" not in str(list(made.parse()))
    return str(made.headers["x-tt-request-id"])


@pytest.mark.parametrize("route", ["chat", "messages", "responses"])
def test_what_litellm_counted_for_a_silent_upstream_is_an_estimate(lane: Lane, route: str) -> None:
    row = lane.row(streamed_without_usage(lane, route, f"n-{route}"))
    assert (row.end_reason, row.usage_source) == ("complete", "estimated")
    assert row.cost_nano_usd


def test_a_success_that_cannot_be_translated_is_booked_as_an_estimate(lane: Lane) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        lane.openai.chat.completions.create(model="gpt-usage-is-text", **said("t1"))
    assert caught.value.status_code == 502
    assert "could not be translated. It may have been billed" in caught.value.message
    row = lane.row(caught.value.response.headers["x-tt-request-id"])
    assert (row.end_reason, row.status_code, row.usage_source) == ("upstream_error", 502, "estimated")
    assert row.cost_nano_usd


def test_a_negative_count_on_the_translated_lane_is_no_proof_of_anything(lane: Lane) -> None:
    raw = lane.openai.chat.completions.with_raw_response.create(model="gpt-output-is-negative", **said("t2"))
    row = lane.row(raw.headers["x-tt-request-id"])
    assert (row.end_reason, row.usage_source) == ("complete", "estimated")
    assert tokens(row)["output_tokens"] > 0


def test_while_the_child_is_gone_translated_calls_are_refused_and_direct_ones_go_on(lane: Lane) -> None:
    # The last test: the child does not come back (the supervisor's part).
    lane.child.process.kill()
    lane.child.process.wait()
    with pytest.raises(openai.InternalServerError) as refused:
        lane.openai.chat.completions.create(model="claude", **said("f1"))
    assert (refused.value.status_code, refused.value.response.headers["x-tt-code"]) == (503, "lane_unavailable")
    assert int(refused.value.response.headers["retry-after"]) > 0
    direct = lane.openai.chat.completions.create(model="gpt", **said("f2"))
    assert direct.usage is not None and direct.usage.completion_tokens == WORDS_OUT
    other = lane.openai.chat.completions.with_raw_response.create(model="claude-then-gpt", **said("f3"))
    assert [row.opened.lane for row in attempts(lane, other.headers["x-tt-request-id"], 2)] == ["litellm", "direct"]
    with pytest.raises(openai.InternalServerError) as refused:
        lane.openai.chat.completions.create(model="claude-either", **said("f4"))
    attempts(lane, refused.value.response.headers["x-tt-request-id"], 1)  # all behind it would fail alike
