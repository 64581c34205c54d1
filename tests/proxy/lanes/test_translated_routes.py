"""The routes beside conversations, translated: each once, both ways, with the row it makes."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest

from tests.functional.provider_books import FakeProvider, header_of
from tests.proxy.house import KEY
from tests.proxy.lanes.translating import Lane, running_lane, tokens
from token_tracker.config.values import Deployment, Secret

RATES = {"input_cost_per_token": Decimal("0.000001"), "output_cost_per_token": Decimal("0.000002")}
SAID = "one two three"


def models(provider: FakeProvider) -> dict[str, tuple[Deployment, ...]]:
    def at(name: str, kind: str = "openai", model: str = "fake-plain", **more: Any) -> Deployment:
        base = provider.url if kind in ("anthropic", "cohere") else provider.openai_base
        fields: dict[str, Any] = {"api_base": base, "api_key": Secret("sk-up"), "rates": RATES, **more}
        return Deployment(name=name, provider=kind, model=model, **fields)

    every = [
        at("claude", "anthropic"),
        at("gpt", lane="litellm"),
        at("whisper", model="whisper-1", lane="litellm", rates=None),
        at("jina", "jina_ai"),
        at("cohere", "cohere"),
    ]
    return {each.name: (each,) for each in every}


@pytest.fixture(scope="module")
def lane() -> Iterator[Lane]:
    with running_lane(models) as running:
        yield running


@pytest.mark.parametrize("model", ["gpt", "claude"])
@pytest.mark.parametrize("stream", [False, True])
def test_completions_reach_any_upstream(lane: Lane, model: str, stream: bool) -> None:
    raw = lane.openai.completions.with_raw_response.create(model=model, prompt=SAID, stream=stream, max_tokens=100)
    said = raw.parse()
    chunks = list(said) if stream else [said]
    assert "".join(chunk.choices[0].text for chunk in chunks) == f"Hello from Token Tracker! You said: {SAID}"
    assert {chunk.model for chunk in chunks} == {model}
    row = lane.row(raw.headers["x-tt-request-id"])
    assert tokens(row) == {"input_tokens": 3, "output_tokens": 9}
    assert (row.usage_source, row.cost_nano_usd, row.end_reason) == ("provider", 3 * 1000 + 9 * 2000, "complete")


def test_a_translated_stream_of_completions_brings_usage_to_those_who_ask(lane: Lane) -> None:
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    *_, last = lane.openai.completions.create(model="gpt", prompt=SAID, **asked)  # type: ignore[call-overload]
    assert (last.choices, last.usage.completion_tokens) == ([], 9)


def test_tokens_are_counted_for_an_upstream_of_openais_format_and_cost_nothing(lane: Lane) -> None:
    raw = lane.anthropic.messages.with_raw_response.count_tokens(
        model="gpt", messages=[{"role": "user", "content": SAID}]
    )
    assert raw.parse().input_tokens > 0
    row = lane.row(raw.headers["x-tt-request-id"])
    assert (tokens(row), row.usage_source, row.cost_nano_usd) == ({}, "none", 0)
    assert not lane.was_awaited(row.opened.id)


def test_a_transcription_is_translated_with_its_file_and_metered(lane: Lane) -> None:
    said = {"prompt": "heard two three", "extra_body": {"api_base": "http://127.0.0.1:9"}}
    raw = lane.openai.audio.transcriptions.with_raw_response.create(model="gpt", file=("a.wav", b"12345"), **said)
    assert raw.parse().text == "word word word word word"
    row = lane.row(raw.headers["x-tt-request-id"])
    assert tokens(row) == {"input_tokens": 3, "input_audio_tokens": 50, "output_tokens": 5}
    assert (row.usage_source, row.cost_source) == ("provider", "priced")
    entry = lane.provider.entry("heard two three")
    assert header_of(entry, "authorization") == ["Bearer sk-up"]


def test_a_transcript_asked_for_as_text_comes_as_text_and_one_asked_for_as_a_stream_is_refused(lane: Lane) -> None:
    create, file = lane.openai.audio.transcriptions.create, ("a.wav", b"12")
    assert create(model="gpt", file=file, response_format="text") == "word word"
    with pytest.raises(openai.BadRequestError, match="cannot be streamed"):
        create(model="gpt", file=file, stream=True)


def test_a_transcription_by_the_second_costs_what_litellm_says_or_is_unpriced(lane: Lane) -> None:
    raw = lane.openai.audio.transcriptions.with_raw_response.create(model="whisper", file=("a.wav", b"12345"))
    row = lane.row(raw.headers["x-tt-request-id"])
    assert row.cost_source in ("litellm", "unpriced")


def test_an_image_edit_is_translated_with_its_picture_and_metered(lane: Lane) -> None:
    raw = lane.openai.images.with_raw_response.edit(model="gpt", image=("a.png", b"12345"), prompt=SAID)
    assert raw.parse().data
    row = lane.row(raw.headers["x-tt-request-id"])
    assert tokens(row) == {"input_tokens": 3, "input_image_tokens": 5, "output_image_tokens": 100}


def test_a_moderation_is_translated(lane: Lane) -> None:
    raw = lane.openai.moderations.with_raw_response.create(model="gpt", input=SAID)
    assert raw.parse().results[0].flagged is False
    row = lane.row(raw.headers["x-tt-request-id"])
    assert (tokens(row), row.cost_source) == ({}, "unpriced")


@pytest.mark.parametrize("model", ["jina", "cohere"])
def test_reranking_reaches_providers_of_their_own_format(lane: Lane, model: str) -> None:
    body = {"model": model, "query": SAID, "documents": ["four five", "six"]}
    url = f"http://127.0.0.1:{lane.house.port}/v1/rerank"
    answer = httpx.post(url, json=body, headers={"authorization": f"Bearer {KEY}"}, timeout=20)
    assert answer.status_code == 200, answer.text
    assert [result["index"] for result in answer.json()["results"]] == [0, 1]
    row = lane.row(answer.headers["x-tt-request-id"])
    assert row.end_reason == "complete"
    # Cohere bills by the search: its tokens are no count to price by.
    counted = ({"input_tokens": 6}, "priced") if model == "jina" else ({}, "unpriced")
    assert (tokens(row), row.cost_source) == counted


def test_what_litellm_cannot_translate_is_refused(lane: Lane) -> None:
    with pytest.raises(openai.BadRequestError, match="does not answer /v1/audio/translations"):
        lane.openai.audio.translations.create(model="gpt", file=("a.wav", b"12345"))
