"""A failed translated call as the client sees it: the upstream's own words, in the client's dialect, without ours."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from token_tracker.domain.errors import upstream_unreachable
from token_tracker.proxy.dialects.errors import error_body, error_type
from token_tracker.proxy.litellm.report import Failure

BROKEN_STREAM = "The upstream ended its answer before it was complete."
_TIMED_OUT = "The upstream did not answer in time. It may have been billed; the call is in the ledger."
_NOT_TRANSLATED = "The upstream of '{model}' could not be asked: the request does not fit it."
_FAILED = "The upstream of '{model}' failed."

_NOISE = re.compile(
    r"\n*\s*LiteLLM: model group .*$"
    r"|\.? ?Handle with `litellm\.\w+`\.?"
    r"|\b(?:litellm\.)?\w+(?:Error|Exception): (?=\w+(?:Error|Exception)\b)"
    r"|\blitellm\.\w+(?:Error|Exception): "
    r"|\b\w+Exception - ",
    re.DOTALL,
)
_TELLTALE = re.compile(
    r"litellm|not completed: <|TransferEncodingError|Cannot connect to host|Connection error|Server disconnected"
    r"|Traceback|object has no attribute",
    re.IGNORECASE,
)


class UnreadableAnswer(ConnectionError):
    """The upstream served the call, but nobody can read what it sent: it may have been billed."""


def status_of(failure: Failure | None, status: int) -> int:
    """The status of an answer: the upstream's own if it gave one; 502 if it was not reached, 504 after a time-out
    (LiteLLM's word for that is 408)."""
    if failure is None:
        return 504 if status == 408 else status
    if failure.kind == "answered":
        known = failure.status if 400 <= failure.status <= 599 else 502
        return 504 if known == 408 else known
    return 504 if failure.kind == "timeout" else 502


def from_litellm(body: bytes) -> Failure:
    """LiteLLM's own error answer, where no upstream was heard."""
    try:
        told: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        told = {}
    error = told.get("error") if isinstance(told, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return Failure(kind="refused", message=message if isinstance(message, str) else "")


def clean_message(message: str, internal_model: str, client_model: str, hidden: tuple[str, ...]) -> str:
    """Without LiteLLM's names, keys and addresses; '' if nothing presentable is left."""
    message = _NOISE.sub("", message).strip().replace(internal_model, client_model)
    for secret in hidden:
        message = message.replace(secret, "…")
    return "" if _TELLTALE.search(message) else message


def error_of(family: str, status: int, failure: Failure, client_model: str, request_id: str) -> bytes:
    """The error's body. `failure.message` is clean already."""
    if failure.kind == "unreachable":
        body: bytes = error_body(family, upstream_unreachable(client_model), request_id)
        return body
    message = failure.message or _default_message(status, client_model)
    if family == "anthropic":
        error = {"type": error_type(family, status), "message": message}
        return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})
    fields = {
        "message": message,
        "type": failure.type or error_type(family, status),
        "param": failure.param or None,
        "code": failure.code or None,
    }
    return msgspec.json.encode({"error": fields})


def _default_message(status: int, model: str) -> str:
    if status == 504:
        return _TIMED_OUT
    return (_NOT_TRANSLATED if status < 500 else _FAILED).format(model=model)
