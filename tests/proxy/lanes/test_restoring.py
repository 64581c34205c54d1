"""What LiteLLM answered, as the client gets it: recorded bytes of the pinned version in, the provider's shapes out."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from token_tracker.domain.providers import WireFormat
from token_tracker.proxy.lanes.restoring import Restorer
from token_tracker.proxy.litellm.report import FAILURE_HEADER, Failure, to_header

CHAT, MESSAGES, RESPONSES, IMAGES = WireFormat.CHAT, WireFormat.MESSAGES, WireFormat.RESPONSES, WireFormat.IMAGES
RATE_LIMIT = (
    "litellm.RateLimitError: RateLimitError: OpenAIException - slow down please\n\n"
    "LiteLLM: model group 'openai/gpt-4o' failed with the error above. No fallback was attempted."
)


def restorer(wire: WireFormat = CHAT) -> Restorer:
    return Restorer(wire, "openai/gpt-4o", "gpt-4o", "mine", ("sk-upstream", "http://box:8080/v1"))


def wrapped_id(own: str) -> str:
    text = f"litellm:custom_llm_provider:openai;model_id:abc;response_id:{own}"
    return "resp_" + base64.b64encode(text.encode()).decode()


def failed(failure: Failure) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", b"application/json"), (FAILURE_HEADER.encode(), to_header(failure))]


def test_the_client_sees_the_model_name_it_sent() -> None:
    body = json.loads(restorer().answer_body(b'{"id":"c","model":"openai/gpt-4o","x":[1.50,"\\u00e9"]}'))
    assert body == {"id": "c", "model": "mine", "x": [1.5, "é"]}


def test_a_body_that_is_no_json_object_stays_as_it_is() -> None:
    for body in (b"ID3 music", b"[1]", b""):
        assert restorer().answer_body(body) == body


def test_a_response_keeps_the_providers_own_id() -> None:
    body = json.dumps({"id": wrapped_id("resp_1"), "model": "openai/gpt-4o", "usage": {"input_tokens": 1, "cost": 0.1}})
    assert json.loads(restorer(RESPONSES).answer_body(body.encode())) == {
        "id": "resp_1",
        "model": "mine",
        "usage": {"input_tokens": 1},
    }


def test_ids_that_litellm_did_not_wrap_stay() -> None:
    for own in ("resp_1", "resp_" + base64.b64encode(b"else").decode(), "msg_1"):
        body = json.dumps({"id": own}).encode()
        assert json.loads(restorer(RESPONSES).answer_body(body))["id"] == own


def test_a_usage_of_zeros_that_no_provider_sent_is_taken_out_of_images() -> None:
    zeros = b'{"created":1,"usage":{"total_tokens":0,"input_tokens":0,"output_tokens":0}}'
    assert "usage" not in json.loads(restorer(IMAGES).answer_body(zeros))
    counted = b'{"created":1,"usage":{"total_tokens":5,"input_tokens":2,"output_tokens":3}}'
    assert json.loads(restorer(IMAGES).answer_body(counted))["usage"]["total_tokens"] == 5


CHAT_STREAM = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"openai/gpt-4o","choices":[{"index":0,'
    b'"delta":{"content":"say \\"model\\":\\"openai/gpt-4o\\""}}]}\n\n'
    b'data: {"id":"c","created":1,"model":"openai/gpt-4o","object":"chat.completion.chunk","choices":[{"index":0,'
    b'"delta":{}}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7,"cost":0.005}}\n\n'
    b"data: [DONE]\n\n"
)


def cut_everywhere(wire: WireFormat, stream: bytes) -> set[bytes]:
    results = set()
    for position in range(len(stream) + 1):
        shaper = restorer(wire)
        results.add(shaper.feed(stream[:position]) + shaper.feed(stream[position:]) + shaper.close())
    return results


def test_a_chat_stream_reads_like_the_providers_wherever_it_is_cut() -> None:
    (restored,) = cut_everywhere(CHAT, CHAT_STREAM)
    first, last, done = [line.removeprefix(b"data: ") for line in restored.split(b"\n\n") if line]
    chunk = json.loads(first)
    assert chunk["model"] == "mine"
    assert chunk["choices"][0]["delta"]["content"] == 'say "model":"openai/gpt-4o"'
    usage = json.loads(last)
    assert (usage["model"], usage["choices"]) == ("mine", [])
    assert usage["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert done == b"[DONE]"


def test_a_responses_stream_gets_its_event_names_ids_and_shape_back() -> None:
    created: dict[str, Any] = {"type": "response.created", "response": {"id": wrapped_id("resp_1"), "model": "gpt-4o"}}
    delta = {"type": "response.output_text.delta", "item_id": "msg_1", "delta": "hi", "model": "openai/gpt-4o"}
    events = [created | {"model": "openai/gpt-4o"}, delta]
    stream = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"
    (restored,) = cut_everywhere(RESPONSES, stream)
    blocks = [block.split(b"\n") for block in restored.split(b"\n\n") if block]
    assert [name for name, _ in blocks] == [b"event: response.created", b"event: response.output_text.delta"]
    first, second = [json.loads(data.removeprefix(b"data: ")) for _, data in blocks]
    assert first == {"type": "response.created", "response": {"id": "resp_1", "model": "mine"}}
    assert second == {"type": "response.output_text.delta", "item_id": "msg_1", "delta": "hi"}


def test_a_messages_stream_is_renamed_where_it_names_the_model() -> None:
    start = {"type": "message_start", "message": {"id": "m", "model": "openai/gpt-4o", "content": []}}
    tool = (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"partial_json":"{\\"model\\":"}}\n\n'
    )
    stream = b"event: message_start\ndata: " + json.dumps(start).encode() + b"\n\n" + tool
    (restored,) = cut_everywhere(MESSAGES, stream)
    assert b'"model":"mine"' in restored
    assert restored.endswith(tool)


@pytest.mark.parametrize(
    ("wire", "event"),
    [
        (CHAT, b'data: {"error": {"message": "%s", "type": null, "param": null, "code": "500"}}\n\n'),
        (MESSAGES, b'event: error\ndata: {"type": "error", "error": {"type": "api_error", "message": "%s"}}\n\n'),
        (RESPONSES, b'data: {"error": {"message": "%s", "code": "500"}}\n\n'),
    ],
)
def test_an_error_within_a_stream_names_nothing_of_ours(wire: WireFormat, event: bytes) -> None:
    internals = b"litellm.APIConnectionError: AnthropicException - Response payload is not completed: <X: 400>"
    restored = restorer(wire).feed(event % internals)
    assert b"The upstream ended its answer before it was complete." in restored
    assert b"itellm" not in restored


@pytest.mark.parametrize(
    ("failure", "litellms", "status"),
    [
        (None, 400, 400),
        (None, 408, 504),
        (Failure(kind="answered", status=400), 429, 400),
        (Failure(kind="answered", status=529), 503, 529),
        (Failure(kind="answered", status=304), 304, 502),
        (Failure(kind="answered", status=999), 500, 502),
        (Failure(kind="answered", status=408), 408, 504),
        (Failure(kind="unreachable"), 500, 502),
        (Failure(kind="timeout"), 408, 504),
    ],
)
def test_the_status_is_the_upstreams(failure: Failure | None, litellms: int, status: int) -> None:
    headers = failed(failure) if failure else []
    assert restorer().answer_status(litellms, headers) == status


def test_a_connection_that_broke_is_no_error_answer() -> None:
    with pytest.raises(ConnectionResetError):
        restorer().answer_status(500, failed(Failure(kind="broken")))


def test_headers_of_the_upstream_come_back_and_litellms_go() -> None:
    failure = Failure(kind="answered", status=429, headers={"retry-after": "17", "x-request-id": "req_1"})
    headers = [
        *failed(failure),
        (b"x-litellm-model-api-base", b"http://box:8080/v1"),
        (b"llm_provider-x-ratelimit-remaining-requests", b"9"),
        (b"llm_provider-server", b"nginx"),
        (b"content-security-policy", b"frame-ancestors 'none'"),
    ]
    assert dict(restorer().answer_headers(headers)) == {
        b"content-type": b"application/json",
        b"x-ratelimit-remaining-requests": b"9",
        b"retry-after": b"17",
        b"x-request-id": b"req_1",
    }


def test_an_upstreams_error_reaches_an_openai_client_in_its_own_words() -> None:
    failure = Failure(kind="answered", status=429, message="slow down", type="tokens", code="rate_limit_exceeded")
    body = restorer().reshape_error("openai", 429, failed(failure), b"", "id-1")
    assert json.loads(body) == {
        "error": {"message": "slow down", "type": "tokens", "param": None, "code": "rate_limit_exceeded"}
    }


def test_an_openai_upstreams_error_reaches_an_anthropic_client_in_anthropics_shape() -> None:
    failure = Failure(kind="answered", status=429, message="slow down", type="tokens")
    body = restorer(MESSAGES).reshape_error("anthropic", 429, failed(failure), b"", "id-1")
    assert json.loads(body) == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "slow down"},
        "request_id": "id-1",
    }


def test_an_upstream_that_was_not_reached_is_said_plainly() -> None:
    body = restorer().reshape_error("openai", 502, failed(Failure(kind="unreachable")), b"", "id-1")
    assert json.loads(body)["error"]["code"] == "upstream_unreachable"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (RATE_LIMIT, "slow down please"),
        ("litellm.BadRequestError: OpenAIException - model openai/gpt-4o is off", "model mine is off"),
        ("Incorrect key sk-upstream at http://box:8080/v1", "Incorrect key … at …"),
        (
            "litellm.ServiceUnavailableError: AnthropicException - busy. Handle with `litellm.X`.",
            "busy",
        ),
        ("Router had a LiteLLM problem", "The upstream of 'mine' could not be asked: the request does not fit it."),
        ("", "The upstream of 'mine' could not be asked: the request does not fit it."),
    ],
)
def test_litellms_own_message_loses_its_internal_names(message: str, shown: str) -> None:
    body = json.dumps({"error": {"message": message, "code": "400"}}).encode()
    restored = restorer().reshape_error("openai", 400, [], body, "id-1")
    assert json.loads(restored)["error"]["message"] == shown


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": "text"}', b'{"detail": [1]}'])
def test_an_error_of_any_shape_becomes_the_clients(body: bytes) -> None:
    error = json.loads(restorer().reshape_error("openai", 500, [], body, "id-1"))["error"]
    assert error == {"message": "The upstream of 'mine' failed.", "type": "server_error", "param": None, "code": None}
