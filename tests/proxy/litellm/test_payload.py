"""Payloads recorded from the pinned LiteLLM, read into our own terms. The numbers come from `upstream.py`."""

from __future__ import annotations

import json
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest

from token_tracker.domain.usage import Usage
from token_tracker.proxy.litellm.payload import read_evidence, read_failure
from token_tracker.proxy.litellm.report import Evidence, Failure, from_header, from_line, to_header, to_line

PAYLOADS = Path(__file__).with_name("payloads")
# 1000 in of which 800 cached, 50 out of which 20 reasoning.
OPENAI = Usage(input_tokens=200, cache_read_tokens=800, output_tokens=30, reasoning_tokens=20)
# 100 fresh, 2000 read, 300 written for five minutes, 400 for an hour, 40 out.
ANTHROPIC = Usage(
    input_tokens=100, cache_read_tokens=2000, cache_write_5m_tokens=300, cache_write_1h_tokens=400, output_tokens=40
)


def recorded(name: str) -> Evidence:
    evidence = read_evidence(json.loads((PAYLOADS / f"{name}.json").read_text()))
    assert evidence is not None
    return evidence


def test_the_payloads_are_recorded_from_the_installed_version() -> None:
    assert version("litellm") == "1.106.2", "record anew: python -m tests.proxy.litellm.record"


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("chat_anthropic", ANTHROPIC),
        ("chat_anthropic_stream", ANTHROPIC),
        ("responses_anthropic", ANTHROPIC),
        ("chat_openai_stream", OPENAI),
        ("messages_openai", OPENAI),
        ("messages_openai_stream", OPENAI),
        ("responses_openai", OPENAI),
        ("embeddings", Usage(input_tokens=7)),
        ("images_tokens", Usage(input_tokens=10, input_image_tokens=20, output_image_tokens=272)),
    ],
)
def test_no_token_is_counted_in_two_classes(name: str, usage: Usage) -> None:
    assert recorded(name).usage == usage


@pytest.mark.parametrize("name", ["speech", "images_unpriced"])
def test_an_answer_without_any_count_has_no_usage_rather_than_zero(name: str) -> None:
    assert recorded(name).usage is None


def test_speech_costs_by_characters_exactly() -> None:
    # 'hi there' at 0.000015 USD a character: LiteLLM does not count the space
    assert recorded("speech").cost_usd == Decimal("0.000105")


@pytest.mark.parametrize("name", ["chat_unpriced", "images_unpriced"])
def test_a_price_that_litellm_does_not_know_is_no_cost_of_zero(name: str) -> None:
    assert recorded(name).cost_usd is None


def test_provider_and_model_are_named_apart() -> None:
    evidence = recorded("responses_anthropic")
    assert (evidence.provider, evidence.model) == ("anthropic", "claude-sonnet-4-5")


def test_the_call_id_is_not_taken_for_the_upstreams_id() -> None:
    assert recorded("speech").upstream_id == ""
    assert recorded("messages_openai").upstream_id == "chatcmpl-1"


def test_an_event_without_a_payload_gives_nothing() -> None:
    assert read_evidence({"litellm_call_id": "0" * 32}) is None
    assert read_evidence({"standard_logging_object": {}}) is None


def test_nonsense_in_a_payload_becomes_no_count_instead_of_an_error() -> None:
    usage = {"prompt_tokens": "many", "completion_tokens": -4, "prompt_tokens_details": [], "x": None}
    payload: dict[str, Any] = {"metadata": {"usage_object": usage}, "response_cost": "1", "id": 7}
    evidence = read_evidence({"litellm_call_id": "c", "standard_logging_object": payload})
    assert evidence == Evidence(call_id="c")


def test_details_greater_than_their_total_never_give_a_negative_count() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 9}}
    evidence = read_evidence({"litellm_call_id": "c", "standard_logging_object": {"metadata": {"usage_object": usage}}})
    assert evidence is not None
    assert evidence.usage == Usage(input_tokens=0, cache_read_tokens=9, output_tokens=1)


def test_evidence_survives_its_line() -> None:
    evidence = recorded("chat_anthropic")
    line = to_line(evidence)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert from_line(line) == evidence


def wrapped(cause: BaseException) -> BaseException:
    """As LiteLLM raises: its own exception, from inside the handling of another."""
    try:
        try:
            raise cause
        except BaseException:
            raise RuntimeError("litellm.RateLimitError: openai/gpt-4o …")  # noqa: B904 (LiteLLM does not, either)
    except RuntimeError as error:
        return error


def answered(status: int, body: str, **headers: str) -> BaseException:
    request = httpx.Request("POST", "http://upstream.example/v1")
    response = httpx.Response(
        status, request=request, text=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    return wrapped(httpx.HTTPStatusError("…", request=request, response=response))


def test_an_upstreams_error_is_told_in_its_own_words() -> None:
    body = '{"error": {"message": "slow down", "type": "tokens", "code": "rate_limit_exceeded", "param": null}}'
    failure = read_failure(answered(429, body, retry_after="17", x_request_id="req_1", server="nginx"))
    assert failure == Failure(
        kind="answered",
        status=429,
        message="slow down",
        type="tokens",
        code="rate_limit_exceeded",
        headers={"retry-after": "17", "x-request-id": "req_1"},
    )


def test_anthropics_error_is_read_as_well() -> None:
    failure = read_failure(answered(529, '{"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}'))
    assert failure == Failure(kind="answered", status=529, message="busy", type="overloaded_error")


@pytest.mark.parametrize("body", ["<html>bad gateway</html>", "[1]", '"text"', "", '{"error": "text"}'])
def test_an_error_of_any_shape_keeps_its_status(body: str) -> None:
    failure = read_failure(answered(502, body))
    assert failure is not None
    assert failure.status == 502


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ConnectError("…"), "unreachable"),
        (httpx.ConnectTimeout("…"), "unreachable"),
        (httpx.ReadTimeout("…"), "timeout"),
        (httpx.RemoteProtocolError("…"), "broken"),
    ],
)
def test_a_lost_connection_is_told_from_a_time_out(error: Exception, kind: str) -> None:
    assert read_failure(wrapped(error)) == Failure(kind=kind)


def test_litellms_own_refusal_is_no_failure_of_the_upstream() -> None:
    assert read_failure(ValueError("unsupported parameter")) is None


def test_a_failure_fits_into_one_header_and_survives_it() -> None:
    many = {f"x_ratelimit_{number}": "9" * 90 for number in range(40)}
    failure = read_failure(answered(429, '{"error": {"message": "' + "ü" * 9000 + '"}}', **many))
    assert failure is not None
    assert len(to_header(failure)) < 8000
    assert from_header(to_header(failure)) == failure
    assert from_header(b"not base64") is None


@pytest.mark.parametrize("garbled", [{"prompt_tokens": 10**30}, {"completion_tokens": -7}])
def test_a_count_that_is_none_is_no_usage(garbled: dict[str, int]) -> None:
    payload = {"metadata": {"usage_object": {"prompt_tokens": 10, "completion_tokens": 5, **garbled}}}
    evidence = read_evidence({"standard_logging_object": payload, "litellm_call_id": "c"})
    assert evidence is not None and evidence.usage is None
