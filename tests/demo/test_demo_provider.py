"""The echo provider, used through the official OpenAI and Anthropic clients and over plain HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import anthropic
import httpx
import openai
import pytest

# The prompt below has 2 + 3 words; the reply is the prefix (6 words) and the 3 words said back.
SYSTEM, SAID = "Be kind", "blue green red"
REPLY = "Hello from Token Tracker! You said: blue green red"
MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": SAID}]
STREAMED_ROUTES = ["/v1/chat/completions", "/v1/responses", "/v1/messages"]


@pytest.fixture
def openai_client(demo_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=demo_url + "/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic_client(demo_url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=demo_url, api_key="any", max_retries=0) as client:
        yield client


def test_a_chat_is_echoed_and_billed_by_the_word(openai_client: openai.OpenAI) -> None:
    answer = openai_client.chat.completions.create(model="demo", messages=MESSAGES)  # type: ignore[arg-type]
    assert answer.choices[0].message.content == REPLY
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (5, 9, 14)


def test_a_streamed_chat_says_the_same_and_its_last_chunk_has_the_usage(openai_client: openai.OpenAI) -> None:
    chunks = list(
        openai_client.chat.completions.create(
            model="demo",
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},  # type: ignore[arg-type]
        )
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == REPLY
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (5, 9)


def test_a_client_that_does_not_ask_for_usage_gets_no_chunk_without_choices(openai_client: openai.OpenAI) -> None:
    stream = openai_client.chat.completions.create(model="demo", messages=MESSAGES, stream=True)  # type: ignore[arg-type]
    assert all(chunk.choices and chunk.usage is None for chunk in stream)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_chat_ends_at_the_maximum_of_tokens(openai_client: openai.OpenAI, name: str) -> None:
    answer = openai_client.chat.completions.create(model="demo", messages=MESSAGES, **{name: 4})  # type: ignore[call-overload]
    assert answer.choices[0].message.content == "Hello from Token Tracker!"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 4


def test_embeddings_come_as_the_client_wants_them_and_count_words(openai_client: openai.OpenAI) -> None:
    answer = openai_client.embeddings.create(model="demo", input=["one two", "three"])
    plain = openai_client.embeddings.create(model="demo", input="one two", encoding_format="float")
    assert answer.usage.prompt_tokens == 3
    assert plain.usage.total_tokens == 2
    assert answer.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert [item.index for item in answer.data] == [0, 1]


def test_a_response_is_echoed_and_billed_by_the_word(openai_client: openai.OpenAI) -> None:
    answer = openai_client.responses.create(model="demo", instructions=SYSTEM, input=SAID)
    assert answer.output_text == REPLY
    assert answer.status == "completed"
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (5, 9, 14)


def test_a_streamed_response_goes_through_its_steps_to_completed(openai_client: openai.OpenAI) -> None:
    with openai_client.responses.stream(model="demo", instructions=SYSTEM, input=SAID) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert final.output_text == REPLY
    assert final.usage is not None
    assert (final.usage.input_tokens, final.usage.output_tokens) == (5, 9)


def test_a_response_that_is_cut_is_incomplete(openai_client: openai.OpenAI) -> None:
    events = list(openai_client.responses.create(model="demo", input=SAID, max_output_tokens=2, stream=True))
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.incomplete_details is not None
    assert events[-1].response.incomplete_details.reason == "max_output_tokens"


def test_a_message_is_echoed_and_billed_by_the_word(anthropic_client: anthropic.Anthropic) -> None:
    answer = anthropic_client.messages.create(
        model="demo", max_tokens=100, system=SYSTEM, messages=[{"role": "user", "content": SAID}]
    )
    assert answer.content[0].type == "text"
    assert answer.content[0].text == REPLY
    assert (answer.stop_reason, answer.usage.input_tokens, answer.usage.output_tokens) == ("end_turn", 5, 9)


def test_a_streamed_message_says_the_same_and_counts_at_its_end(anthropic_client: anthropic.Anthropic) -> None:
    parts = [{"type": "text", "text": "blue green"}, {"type": "text", "text": "red"}]
    with anthropic_client.messages.stream(
        model="demo",
        max_tokens=100,
        system=SYSTEM,
        messages=[{"role": "user", "content": parts}],  # type: ignore[typeddict-item]
    ) as stream:
        assert "".join(stream.text_stream) == REPLY
        final = stream.get_final_message()
    assert (final.stop_reason, final.usage.input_tokens, final.usage.output_tokens) == ("end_turn", 5, 9)


def test_a_message_ends_at_the_maximum_of_tokens(anthropic_client: anthropic.Anthropic) -> None:
    answer = anthropic_client.messages.create(model="demo", max_tokens=2, messages=[{"role": "user", "content": SAID}])
    assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 2)


def test_the_models_are_listed_in_each_clients_shape(
    openai_client: openai.OpenAI, anthropic_client: anthropic.Anthropic
) -> None:
    assert [model.id for model in openai_client.models.list()] == ["demo"]
    assert [model.id for model in anthropic_client.models.list()] == ["demo"]


def test_each_dialects_client_understands_a_refusal(
    openai_client: openai.OpenAI, anthropic_client: anthropic.Anthropic
) -> None:
    with pytest.raises(openai.BadRequestError, match="'model' must be"):
        openai_client.chat.completions.create(model="", messages=MESSAGES)  # type: ignore[arg-type]
    with pytest.raises(anthropic.BadRequestError) as refused:
        anthropic_client.messages.create(model="", max_tokens=5, messages=[{"role": "user", "content": SAID}])
    assert refused.value.body["error"]["type"] == "invalid_request_error"  # type: ignore[index,call-overload]


@pytest.mark.parametrize("path", [*STREAMED_ROUTES, "/v1/embeddings"])
@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b'{"model": 1}', b'{"model": "demo", "messages": "x"}'])
def test_what_is_no_request_is_refused_and_not_answered(demo_url: str, path: str, body: bytes) -> None:
    assert httpx.post(demo_url + path, content=body).status_code == 400


def test_an_unknown_route_is_a_404(demo_url: str) -> None:
    assert httpx.get(demo_url + "/v1/nothing").status_code == 404
    assert httpx.get(demo_url + "/v1/chat/completions").status_code == 404


@pytest.mark.parametrize("path", STREAMED_ROUTES)
def test_the_event_names_are_those_of_the_data(demo_url: str, path: str) -> None:
    body = {"model": "demo", "max_tokens": 9, "messages": MESSAGES[1:], "input": SAID, "stream": True}
    answer = httpx.post(demo_url + path, json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    for event in answer.text.removesuffix("\n\n").split("\n\n"):
        lines = event.split("\n")
        if path == "/v1/chat/completions":
            assert len(lines) == 1
        else:
            assert lines[0] == "event: " + json.loads(lines[1].removeprefix("data: "))["type"]


def test_the_provider_is_light() -> None:
    code = (
        "import sys, token_tracker.demo.app; assert not {'aiohttp', 'flask', 'sqlalchemy', 'yaml'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_without_an_address_it_says_what_is_missing() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TT_DEMO_URL"}
    done = subprocess.run(
        [sys.executable, "-m", "token_tracker.demo"], env=environment, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, "TT_DEMO_URL" in done.stderr, "Traceback" in done.stderr) == (2, True, False)
