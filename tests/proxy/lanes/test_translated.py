"""What the translated lane sends to the LiteLLM child: the upstream's address and key, nothing LiteLLM would obey."""

from __future__ import annotations

import json
from typing import Any

import pytest

from token_tracker.config.values import Deployment, Secret
from token_tracker.domain.errors import Refusal
from token_tracker.proxy.dialects.base import Request
from token_tracker.proxy.lanes.translated import TranslatedLane

LANE = TranslatedLane("http://127.0.0.1:9/", "sk-master", "http://127.0.0.1:8/")
CALL = "0" * 32


def deployment(provider: str = "openai", model: str = "gpt-4o", **more: Any) -> Deployment:
    more = {"api_base": None, "api_key": Secret("sk-upstream"), **more}
    return Deployment(name="alias", provider=provider, model=model, **more)


def sent(path: str, to: Deployment, stream: bool = False, **fields: Any) -> dict[str, Any]:
    raw = {name: json.dumps(value).encode() for name, value in {"model": "alias", **fields}.items()}
    request = Request("alias", stream, raw, False, "", "", None)
    body: dict[str, Any] = json.loads(LANE.prepare(CALL, path, request, to).body)
    return body


def destination(to: Deployment) -> tuple[str, str | None, str | None]:
    body = sent("/v1/messages", to)
    return body["model"], body.get("api_base"), body.get("api_key")


def test_the_childs_key_and_the_calls_id_are_the_only_headers_with_a_meaning() -> None:
    request = Request("alias", False, {"model": b'"alias"'}, False, "", "", None)
    upstream = LANE.prepare(CALL, "/v1/messages", request, deployment())
    assert str(upstream.url) == "http://127.0.0.1:9/v1/messages"
    assert dict(upstream.headers) == {
        "authorization": "Bearer sk-master",
        "content-type": "application/json",
        "accept-encoding": "identity",
        "x-litellm-call-id": CALL,
    }


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        (deployment(), ("openai/gpt-4o", None, "sk-upstream")),
        (deployment(api_base="http://box:8080/v1/"), ("openai/gpt-4o", "http://box:8080/v1", "sk-upstream")),
        (deployment("groq", "llama"), ("groq/llama", None, "sk-upstream")),
        (deployment("anthropic", "claude"), ("anthropic/claude", None, "sk-upstream")),
        (deployment("anthropic", "claude", api_base="http://a/v1"), ("anthropic/claude", "http://a", "sk-upstream")),
        (
            deployment("hosted_vllm", "m", api_base="http://v:8000/v1", api_key=None),
            ("hosted_vllm/m", "http://v:8000/v1", "none"),
        ),
        (deployment("ollama", "qwen", api_key=None), ("openai/qwen", "http://localhost:11434/v1", "none")),
        (deployment("ollama", "qwen", api_base="http://o:1/v1"), ("openai/qwen", "http://o:1/v1", "sk-upstream")),
        (deployment("demo", "echo", api_key=None), ("openai/echo", "http://127.0.0.1:8/v1", "none")),
        (deployment("gemini", "flash"), ("gemini/flash", None, "sk-upstream")),
    ],
)
def test_a_deployment_is_called_by_litellms_names(to: Deployment, expected: tuple[str, str | None, str | None]) -> None:
    assert destination(to) == expected


def test_what_a_client_says_about_address_key_price_or_retries_does_not_arrive() -> None:
    evil = {
        "api_base": "http://evil",
        "base_url": "http://evil",
        "api_key": "sk-evil",
        "custom_llm_provider": "evil",
        "num_retries": 9,
        "fallbacks": ["evil"],
        "mock_response": "evil",
        "input_cost_per_token": 0,
        "no-log": True,
        "extra_headers": {"x": "evil"},
        "user_config": {"model_list": ["evil"]},
    }
    body = sent("/v1/chat/completions", deployment(), messages=[], **evil)
    assert "evil" not in json.dumps(body)
    assert body == {
        "model": "openai/gpt-4o",
        "messages": [],
        "api_key": "sk-upstream",
        "num_retries": 0,
        "max_retries": 0,
    }


def test_fields_that_only_the_upstream_can_judge_are_forwarded() -> None:
    body = sent("/v1/chat/completions", deployment(), messages=[{"role": "user"}], a_new_field={"a": [1]}, top_k=3)
    assert (body["a_new_field"], body["top_k"]) == ({"a": [1]}, 3)


def test_the_entrys_own_parameters_go_along_as_plain_values() -> None:
    to = deployment("bedrock", "claude", litellm_params={"aws_region_name": "eu-1", "aws_secret": Secret("s")})
    body = sent("/v1/messages", to)
    assert (body["aws_region_name"], body["aws_secret"]) == ("eu-1", "s")


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"other": 1}])
def test_a_chat_stream_always_asks_for_its_usage(options: dict[str, Any] | None) -> None:
    body = sent("/v1/chat/completions", deployment(), stream=True, stream_options=options)
    assert body["stream_options"]["include_usage"] is True


def test_only_the_users_id_remains_of_anthropics_metadata_and_nothing_of_openais() -> None:
    metadata = {"user_id": "u-1", "tags": ["x"], "langfuse_host": "http://evil"}
    assert sent("/v1/messages", deployment(), metadata=metadata)["metadata"] == {"user_id": "u-1"}
    assert "metadata" not in sent("/v1/messages", deployment(), metadata="text")
    assert "metadata" not in sent("/v1/chat/completions", deployment(), metadata=metadata)


def test_responses_become_chat_completions_where_the_server_speaks_only_those() -> None:
    assert sent("/v1/responses", deployment("ollama"), input="hi")["use_chat_completions_api"] is True
    assert "use_chat_completions_api" not in sent("/v1/responses", deployment(), input="hi")


def test_a_model_name_that_litellm_would_take_for_two_is_refused() -> None:
    with pytest.raises(Refusal) as refused:
        sent("/v1/chat/completions", deployment(model="a,b"), messages=[])
    assert refused.value.status == 400


def test_a_schema_that_would_fill_the_childs_memory_is_refused() -> None:
    twice = {f"p{n}": {"a": {"$ref": f"#/$defs/p{n + 1}"}, "b": {"$ref": f"#/$defs/p{n + 1}"}} for n in range(30)}
    schema = {"x": {"$ref": "#/$defs/p0"}, "$defs": {**twice, "p30": {}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    with pytest.raises(Refusal) as refused:
        sent("/v1/chat/completions", deployment("gemini", "flash"), messages=[], tools=[tool])
    assert (refused.value.status, "$ref" in refused.value.message) == (400, True)
