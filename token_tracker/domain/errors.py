"""Every refusal of the gateway, with its public code; each edge translates it into its own dialect once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Refusal(Exception):
    """A call that is not forwarded. `code` is public contract; `message` says what happened and what to do next."""

    status: int
    code: str
    message: str
    retry_after_s: int | None = None
    param: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message


def invalid_api_key() -> Refusal:
    """One text for missing, unknown, revoked and expired, so that nobody can probe."""
    return Refusal(
        401,
        "invalid_api_key",
        "No valid virtual key in this request. Send one (sk-tt-…) as 'Authorization: Bearer' or 'x-api-key'; "
        "an admin makes keys with POST /api/keys.",
    )


def request_too_large(limit_bytes: int) -> Refusal:
    return Refusal(
        413,
        "request_too_large",
        f"The request body is larger than {limit_bytes} bytes; nothing was forwarded. "
        "Send less, or raise TOKEN_TRACKER_MAX_BODY_SIZE.",
    )


def invalid_request(message: str, param: str | None = None) -> Refusal:
    return Refusal(400, "invalid_request_error", f"{message} Nothing was forwarded.", param=param)


def model_not_found(model: str, nearest: str | None) -> Refusal:
    hint = f" Did you mean '{nearest}'?" if nearest else ""
    return Refusal(
        404,
        "model_not_found",
        f"The model '{model}' is not configured here.{hint} GET /v1/models lists all.",
        param="model",
    )


def model_switched_off(model: str, why: str) -> Refusal:
    return Refusal(
        404, "model_not_found", f"The model '{model}' is configured here, but switched off: {why}.", param="model"
    )


def model_not_allowed(model: str) -> Refusal:
    return Refusal(403, "model_not_allowed", f"This key may not use the model '{model}'.", param="model")


def permission_required(permission: str) -> Refusal:
    """The key is good, but not for this route."""
    return Refusal(
        403,
        "permission_required",
        f"This key does not have the permission '{permission}'; nothing was taken. An admin can give it with "
        f'PATCH /api/keys/{{id}} {{"permissions": ["{permission}"]}}.',
    )


def not_spoken(model: str, path: str) -> Refusal:
    """The upstream does not speak the route's format, and nothing here translates it."""
    return invalid_request(f"The upstream of '{model}' does not answer {path}.", param="model")


def not_found(path: str) -> Refusal:
    return Refusal(404, "route_not_found", f"The gateway has no route {path}.")


def method_not_allowed(method: str, path: str, allowed: str) -> Refusal:
    return Refusal(405, "method_not_allowed", f"{path} takes {allowed}, not {method}.")


def upstream_unreachable(model: str, why: str = "no connection could be made") -> Refusal:
    return Refusal(
        502,
        "upstream_unreachable",
        f"The upstream of '{model}' could not be reached ({why}); the call was not served. Try again.",
    )


def upstream_timeout(model: str, waited_s: float) -> Refusal:
    return Refusal(
        504,
        "upstream_timeout",
        f"The upstream of '{model}' did not answer within {waited_s:g} s. "
        "It may have been billed; the call is in the ledger.",
    )


def lane_unavailable(retry_after_s: int = 5) -> Refusal:
    return Refusal(
        503,
        "lane_unavailable",
        "The translating LiteLLM process is starting or restarting; try again shortly.",
        retry_after_s,
    )


def journal_unavailable(retry_after_s: int = 5) -> Refusal:
    return Refusal(
        503,
        "journal_unavailable",
        "The call could not be written to the journal (is the disk full?), so it was not forwarded.",
        retry_after_s,
    )


def upstream_broke(model: str) -> Refusal:
    return Refusal(
        502,
        "upstream_unreachable",
        f"The upstream of '{model}' closed the connection before its answer was complete. "
        "It may have been billed; the call is in the ledger.",
    )


def upstream_unreadable(model: str) -> Refusal:
    return Refusal(
        502,
        "upstream_unreachable",
        f"The upstream of '{model}' sent a success that could not be translated. It may have been billed; the call is "
        "in the ledger.",
    )


def shutting_down(retry_after_s: int = 2) -> Refusal:
    return Refusal(
        503,
        "shutting_down",
        "The gateway is shutting down and cut this call; it is in the ledger. Try again.",
        retry_after_s,
    )
