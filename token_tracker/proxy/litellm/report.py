"""What the child tells the gateway beside its answers: a line of evidence per finished call, a header per failure."""

from __future__ import annotations

from base64 import b64decode, b64encode
from decimal import Decimal
from pathlib import Path

import msgspec

from token_tracker.domain.usage import Usage

WORKER_DIGITS = 8  # a call id ends with the 8 hex digits of its worker's incarnation


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What LiteLLM measured of one call. `usage` is None where it counted nothing (speech, say), `cost_usd` where it
    knows no price; `model` and `provider` are its names of what it called."""

    call_id: str
    usage: Usage | None = None
    cost_usd: Decimal | None = None
    model: str = ""
    provider: str = ""
    upstream_id: str = ""


def socket_path(directory: Path, incarnation: str) -> Path:
    """Where the worker of that incarnation listens for evidence."""
    return directory / f"{incarnation}.sock"


def worker_of(call_id: str) -> str:
    """The incarnation named in a call id; '' if this is no call id of ours."""
    worker = call_id[-WORKER_DIGITS:]
    is_ours = len(call_id) == 32 and all(character in "0123456789abcdef" for character in call_id)
    return worker if is_ours else ""


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a translated call failed, as the upstream itself said it: LiteLLM's own error mixes that with names of its
    own, guesses statuses from words in the text, and drops headers on some routes.

    `kind`: 'answered' (the upstream's status and error follow), 'unreachable', 'broken' (the connection ended early),
    'timeout' or 'unreadable' (a success that LiteLLM could not translate).
    `headers`: retry-after, request ids and rate limits of the answer.
    """

    kind: str
    status: int = 0
    message: str = ""
    type: str = ""
    code: str = ""
    param: str = ""
    headers: dict[str, str] = {}


FAILURE_HEADER = "x-tt-upstream-failure"
COUNTED_MARK = b": counted by LiteLLM\n\n"  # in a stream: the usage that follows is LiteLLM's own count


_encoder = msgspec.json.Encoder(decimal_format="string")
_decoder = msgspec.json.Decoder(Evidence)
_failure_decoder = msgspec.json.Decoder(Failure)


def to_line(evidence: Evidence) -> bytes:
    return _encoder.encode(evidence) + b"\n"


def from_line(line: bytes) -> Evidence:
    """Raises `msgspec.DecodeError` or `msgspec.ValidationError` for what is no evidence."""
    return _decoder.decode(line)


def to_header(failure: Failure) -> bytes:
    return b64encode(_encoder.encode(failure))


def from_header(value: bytes) -> Failure | None:
    """None for what is no failure report."""
    try:
        return _failure_decoder.decode(b64decode(value, validate=True))
    except (ValueError, msgspec.DecodeError):
        return None
