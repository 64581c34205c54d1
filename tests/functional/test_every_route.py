"""Every route of the contract on the direct lane, metered by what its answer says; forms, aliases, Azure's paths."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.functional.conftest import OneGateway
from tests.functional.house import marker
from tests.functional.provider_books import body_of
from tests.functional.wire import FORM, FORM_ROUTES, JSON_ROUTES, SAID, SOUND, Answer, form_body, request, send
from tests.proxy.house import KEY
from token_tracker.domain.usage import TOKEN_CLASSES
from token_tracker.proxy.books.records import End

COUNTED = sorted({*JSON_ROUTES, *FORM_ROUTES} - {"/v1/audio/speech", "/v1/moderations", "/v1/messages/count_tokens"})


def post(gateway: OneGateway, path: str, body: bytes, content_type: str = "application/json", **headers: str) -> Answer:
    sent = {"authorization": f"Bearer {KEY}", "content-type": content_type, **headers}
    return send(gateway.url, path, body, list(sent.items()))


def tokens(row: End) -> dict[str, int]:
    return {name: count for name, count in zip(TOKEN_CLASSES, row.tokens, strict=True) if count}


@pytest.mark.parametrize("path", COUNTED)
def test_a_route_that_tells_its_usage_is_booked_with_the_providers_own_count(gateway: OneGateway, path: str) -> None:
    name = marker("counted")
    answer = post(gateway, path, *request(path, gateway.model(path, "gpt-image"), name))
    assert answer.status == 200, answer.body
    row = gateway.row(answer)
    assert tokens(row) == gateway.provider.entry(name)["billed"] != {}
    assert (row.usage_source, row.end_reason, row.cost_source) == ("provider", "complete", "priced")
    assert (row.opened.endpoint, row.opened.lane, row.opened.subject.end_user) == (path, "direct", name)
    assert row.cost_nano_usd and answer.header("x-tt-cost-usd") == f"{row.cost_nano_usd / 1e9:.9f}"


@pytest.mark.parametrize("stream", [False, True])
def test_completions_are_metered_like_chat(gateway: OneGateway, stream: bool) -> None:
    raw = gateway.openai.completions.with_raw_response.create(
        model="fake-cached", prompt="one two three", stream=stream
    )
    said = raw.parse()
    text = "".join(chunk.choices[0].text for chunk in said) if stream else said.choices[0].text
    assert text == "Hello from Token Tracker! You said: one two three"
    row = gateway.row(raw)
    assert tokens(row) == {"input_tokens": 3, "cache_read_tokens": 1000, "output_tokens": 9}
    assert (row.usage_source, row.end_reason, row.opened.stream) == ("provider", "complete", stream)


def test_completions_whose_provider_does_not_count_are_estimated_by_their_text(gateway: OneGateway) -> None:
    for stream in (False, True):
        raw = gateway.openai.completions.with_raw_response.create(model="fake-no-usage", prompt="x" * 38, stream=stream)
        _ = list(raw.parse()) if stream else raw.parse()
        row = gateway.row(raw)
        assert (tokens(row)["input_tokens"], row.usage_source) == (10, "estimated")
        assert tokens(row)["output_tokens"] == -(-(len("Hello from Token Tracker! You said: ") + 38) // 4)


def test_counting_tokens_is_a_row_that_costs_nothing(gateway: OneGateway) -> None:
    answer = gateway.anthropic.messages.with_raw_response.count_tokens(
        model="claude-plain", messages=[{"role": "user", "content": "one two three"}], system="four"
    )
    assert answer.parse().input_tokens == 4
    row = gateway.row(answer)
    assert (tokens(row), row.usage_source, row.cost_nano_usd, row.end_reason) == ({}, "none", 0, "complete")
    assert answer.headers["x-tt-cost-usd"] == "0.000000000"


@pytest.mark.parametrize(
    ("path", "model", "more"),
    [
        ("/v1/audio/speech", "fake-tts", {}),
        ("/v1/images/generations", "fake-dall-e", {}),
        ("/v1/moderations", "fake-plain", {}),
        ("/v1/audio/transcriptions", "fake-in-seconds", {}),
        ("/v1/audio/transcriptions", "fake-plain", {"response_format": "vtt"}),
        ("/v1/audio/transcriptions", "fake-plain", {"response_format": "text", "stream": "true"}),
    ],
)
def test_what_nobody_counted_in_tokens_is_unpriced_and_neither_guessed_nor_free(
    gateway: OneGateway, path: str, model: str, more: dict[str, Any]
) -> None:
    answer = post(gateway, path, *request(path, model, marker("uncounted"), **more))
    row = gateway.row(answer)
    assert (answer.status, row.end_reason, tokens(row)) == (200, "complete", {})
    assert (row.usage_source, row.cost_source, row.cost_nano_usd) == ("none", "unpriced", None)
    assert answer.header("x-tt-cost-usd") is None


@pytest.mark.parametrize(
    ("path", "units"),
    [
        ("/v1/audio/speech", len(SAID)),
        ("/v1/images/generations", 1),
        ("/v1/audio/transcriptions", len(SOUND)),
        ("/v1/audio/translations", len(SOUND)),
    ],
)
def test_units_that_are_no_tokens_are_priced_where_the_price_names_them(
    gateway: OneGateway, path: str, units: int
) -> None:
    answer = post(gateway, path, *request(path, "by-unit", marker("units")))
    row = gateway.row(answer)
    assert (tokens(row), row.usage_source) == ({}, "none")
    assert (row.cost_source, row.cost_nano_usd) == ("priced", units * 500_000_000)


def test_what_nobody_counted_costs_nothing_where_every_rate_is_zero(gateway: OneGateway) -> None:
    row = gateway.row(post(gateway, "/v1/moderations", *request("/v1/moderations", "free", marker("free"))))
    assert (row.usage_source, row.cost_source, row.cost_nano_usd) == ("none", "priced", 0)


def test_a_streamed_transcript_is_metered(gateway: OneGateway) -> None:
    name = marker("heard")
    answer = post(gateway, "/v1/audio/transcriptions", form_body("fake-plain", name, stream="true"), FORM)
    row = gateway.row(answer)
    assert tokens(row) == gateway.provider.entry(name)["billed"]
    assert tokens(row)["input_audio_tokens"] == 10 * len(SOUND)
    assert (row.usage_source, row.opened.stream, row.end_reason) == ("provider", True, "complete")


@pytest.mark.parametrize("path", FORM_ROUTES)
def test_in_a_form_only_the_alias_is_changed(gateway: OneGateway, path: str) -> None:
    name = marker("alias")
    sent = form_body("alias", name)
    answer = post(gateway, path, sent, FORM)
    assert answer.status == 200
    assert body_of(gateway.provider.entry(name)) == sent.replace(b"\r\n\r\nalias\r\n", b"\r\n\r\nfake-plain\r\n")
    assert (gateway.row(answer).opened.requested_model, gateway.row(answer).opened.model) == ("alias", "fake-plain")


def test_openais_client_uploads_files_under_an_alias(gateway: OneGateway) -> None:
    heard = gateway.openai.audio.transcriptions.create(model="alias", file=("a.wav", b"12345"))
    assert heard.text == "word word word word word"
    drawn = gateway.openai.images.edit(model="alias", image=("a.png", b"\x89PNG"), prompt="a hat")
    assert drawn.data and drawn.data[0].b64_json
    ranked = gateway.openai.moderations.create(model="alias", input="hello")
    assert ranked.results[0].flagged is False


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/v1/audio/transcriptions", form_body("x", "m").replace(b"name=model", b"name=other"), "'model' is missing"),
        ("/v1/audio/transcriptions", form_body("x", "m").replace(b"name=empty", b"name=model"), "2 times"),
        ("/v1/audio/transcriptions", form_body("x", "m").replace(b"--\r\nepilogue", b""), "closing boundary"),
        ("/v1/audio/transcriptions", form_body("x", "m").replace(b";name=user", b";title=user"), "plain name"),
        ("/v1/images/edits", b"", "closing boundary"),
        ("/v1/images/edits", form_body("no-such-model", "m"), "not configured"),
    ],
)
def test_a_form_that_is_no_request_is_refused_with_what_is_wrong(
    gateway: OneGateway, path: str, body: bytes, named: str
) -> None:
    before = len(gateway.provider.books(slim=True))
    answer = post(gateway, path, body, FORM)
    assert answer.status in (400, 404) and named in answer.body.decode()
    assert len(gateway.provider.books(slim=True)) == before


def test_azures_client_finds_the_same_routes(gateway: OneGateway) -> None:
    azure = openai.AzureOpenAI(azure_endpoint=gateway.url, api_key=KEY, api_version="2024-10-21", max_retries=0)
    with azure:
        name = marker("azure")
        raw = azure.chat.completions.with_raw_response.create(
            model="alias", user=name, messages=[{"role": "user", "content": "one two three"}]
        )
        assert raw.parse().choices[0].message.content
        row, entry = gateway.row(raw), gateway.provider.entry(name)
        assert (row.opened.endpoint, row.opened.requested_model, row.opened.model) == (
            "/v1/chat/completions", "alias", "fake-plain",
        )  # fmt: skip
        assert (entry["path"], entry["model"]) == ("/v1/chat/completions", "fake-plain")
        assert not [name for name, _ in entry["headers"] if name == "api-key"]
        assert azure.embeddings.create(model="fake-embedding", input="one").data
        assert azure.audio.transcriptions.create(model="alias", file=("a.wav", b"12")).text == "word word"
        assert azure.responses.create(model="fake-plain", input="one").output_text


@pytest.mark.parametrize(
    ("path", "said"), [("/v1/chat/completions", {}), ("/v1/completions", {}), ("/v1/audio/transcriptions", {})]
)
@pytest.mark.parametrize("model", ["fake-plain", "alias"])
def test_the_model_in_azures_path_counts_and_the_version_stays_here(
    gateway: OneGateway, path: str, said: dict[str, Any], model: str
) -> None:
    name = marker("path")
    body, content_type = request(path, "another", name, **said)
    target = f"/openai/deployments/{model}{path.removeprefix('/v1')}?api-version=2024-10-21&x=1"
    answer = send(gateway.url, target, body, [("api-key", KEY), ("content-type", content_type)])
    assert answer.status == 200, answer.body
    entry = gateway.provider.entry(name)
    assert (entry["path"], entry["model"]) == (path, "fake-plain")
    assert b"another" not in body_of(entry)
    assert gateway.row(answer).opened.requested_model == model
