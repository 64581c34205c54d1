"""The shapes of what LiteLLM 1.106.2 hands to callbacks: known here alone, and tested on recorded payloads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import httpx

from token_tracker.domain.usage import Usage
from token_tracker.proxy.litellm.report import Evidence, Failure

_KEPT_HEADERS = frozenset(("retry-after", "retry-after-ms", "x-request-id", "request-id"))
_KEPT_HEADER_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-")
# All of a failure fits into one header of 8 KiB, base64 included.
_COUNT_MAX = 10**9  # a larger one is nobody's count, and fits into no column
_CHAIN_MAX, _MESSAGE_MAX, _WORD_MAX, _HEADER_MAX, _HEADERS_MAX = 12, 1500, 100, 100, 12


def read_evidence(kwargs: Mapping[str, Any]) -> Evidence | None:
    """Evidence from the keyword arguments of `async_log_success_event`; None for an event that carries no payload.

    The join key is `litellm_call_id`, which the gateway sent as `x-litellm-call-id`.
    """
    payload = kwargs.get("standard_logging_object")
    call_id = kwargs.get("litellm_call_id")
    if not isinstance(payload, Mapping) or not isinstance(call_id, str):
        return None
    provider, upstream_id = _text(payload.get("custom_llm_provider")), _text(payload.get("id"))
    return Evidence(
        call_id=call_id,
        usage=_read_usage(payload),
        cost_usd=_read_cost(payload),
        model=_text(payload.get("model")).removeprefix(f"{provider}/"),
        provider=provider,
        # LiteLLM puts the call id where the upstream gave no id.
        upstream_id="" if upstream_id == call_id else upstream_id,
    )


def read_failure(error: BaseException) -> Failure | None:
    """What happened upstream, from the chain of causes below LiteLLM's own exception; None if LiteLLM itself refused.

    The chain ends in httpx's exceptions on all routes, whatever LiteLLM and the OpenAI client wrapped around them.
    """
    for cause in _chain(error):
        if isinstance(cause, httpx.HTTPStatusError):
            return _answered(cause.response)
        if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout):
            return Failure(kind="unreachable")
        if isinstance(cause, httpx.TimeoutException):
            return Failure(kind="timeout")
        if isinstance(cause, httpx.TransportError):
            return Failure(kind="broken")
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(_CHAIN_MAX):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _answered(response: httpx.Response) -> Failure:
    told = _error_object(response)
    headers = {name: value for name, value in response.headers.items() if _is_kept(name) and len(value) <= _HEADER_MAX}
    return Failure(
        kind="answered",
        status=response.status_code,
        message=_scalar(told.get("message"))[:_MESSAGE_MAX],
        type=_scalar(told.get("type"))[:_WORD_MAX],
        code=_scalar(told.get("code"))[:_WORD_MAX],
        param=_scalar(told.get("param"))[:_WORD_MAX],
        headers=dict(list(headers.items())[:_HEADERS_MAX]),
    )


def _is_kept(name: str) -> bool:
    return name in _KEPT_HEADERS or name.startswith(_KEPT_HEADER_PREFIXES)


def _error_object(response: httpx.Response) -> Mapping[str, Any]:
    """The `error` of an answer in OpenAI's or Anthropic's dialect; else the body's text as its message."""
    try:
        text = response.text
    except httpx.ResponseNotRead:
        return {}
    try:
        body = json.loads(text)
    except ValueError:
        return {"message": text}
    error = body.get("error", body) if isinstance(body, Mapping) else text
    return error if isinstance(error, Mapping) else {"message": error}


def _scalar(value: object) -> str:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _read_cost(payload: Mapping[str, Any]) -> Decimal | None:
    """LiteLLM says 0.0 for a price it does not know as well as for a free model: neither proves a cost."""
    cost = payload.get("response_cost")
    known = isinstance(cost, float | int) and not isinstance(cost, bool) and cost > 0
    return Decimal(repr(cost)) if known else None


def _read_usage(payload: Mapping[str, Any]) -> Usage | None:
    """Disjoint classes. LiteLLM counts as OpenAI does: `prompt_tokens` include cache reads and writes (Anthropic's
    too) and audio and image tokens, `completion_tokens` include reasoning, audio and images. None if it counted
    nothing, or passed on what is no count."""
    metadata = _mapping(payload.get("metadata"))
    counted = _mapping(metadata.get("usage_object"))
    if _is_garbled(counted.get("prompt_tokens")) or _is_garbled(counted.get("completion_tokens")):
        return None
    prompt = _count(counted.get("prompt_tokens")) or _count(payload.get("prompt_tokens"))
    completion = _count(counted.get("completion_tokens")) or _count(payload.get("completion_tokens"))
    if prompt + completion == 0:
        return None
    inputs = _input_classes(counted)
    outputs = _output_classes(counted)
    if "image_generation" in _text(payload.get("call_type")) and not any(outputs.values()):
        outputs["output_image_tokens"] = completion  # these models make nothing else
    return Usage(
        input_tokens=max(0, prompt - sum(inputs.values())),
        output_tokens=max(0, completion - sum(outputs.values())),
        **inputs,
        **outputs,
    )


def _input_classes(counted: Mapping[str, Any]) -> dict[str, int]:
    details = _mapping(counted.get("prompt_tokens_details"))
    written = _count(details.get("cache_creation_tokens")) or _count(details.get("cache_write_tokens"))
    by_age = _mapping(details.get("cache_creation_token_details"))
    for_1h = min(_count(by_age.get("ephemeral_1h_input_tokens")), written)
    return {
        "cache_read_tokens": _count(details.get("cached_tokens")),
        "cache_write_5m_tokens": written - for_1h,
        "cache_write_1h_tokens": for_1h,
        "input_audio_tokens": _count(details.get("audio_tokens")),
        "input_image_tokens": _count(details.get("image_tokens")),
    }


def _output_classes(counted: Mapping[str, Any]) -> dict[str, int]:
    details = _mapping(counted.get("completion_tokens_details"))
    return {
        "reasoning_tokens": _count(details.get("reasoning_tokens")),
        "output_audio_tokens": _count(details.get("audio_tokens")),
        "output_image_tokens": _count(details.get("image_tokens")),
    }


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _COUNT_MAX else 0


def _is_garbled(value: object) -> bool:
    return isinstance(value, int) and not 0 <= value <= _COUNT_MAX


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
