"""A refusal's body in OpenAI's and Anthropic's shapes, as their clients expect it."""

from __future__ import annotations

from typing import Any

import msgspec

from token_tracker.domain.errors import Refusal

_OPENAI_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_body(family: str, refusal: Refusal, request_id: str) -> bytes:
    """JSON for `family` 'openai' or 'anthropic'; `request_id` appears in Anthropic's shape only."""
    if family == "anthropic":
        error: dict[str, Any] = {
            "type": error_type(family, refusal.status),
            "message": refusal.message,
            "code": refusal.code,
            "details": refusal.details,
        }
        return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})
    error = {
        "message": refusal.message,
        "type": error_type(family, refusal.status),
        "param": refusal.param,
        "code": refusal.code,
        "details": refusal.details,
    }
    return msgspec.json.encode({"error": error})


def error_type(family: str, status: int) -> str:
    """The provider's own name for errors of that status, which its clients' exceptions rest on."""
    types, server = (_ANTHROPIC_TYPES, "api_error") if family == "anthropic" else (_OPENAI_TYPES, "server_error")
    return types.get(status, "invalid_request_error" if status < 500 else server)
