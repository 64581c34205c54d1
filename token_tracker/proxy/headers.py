"""Which headers pass the gateway, and which stay behind: the contract's list, both ways, order and duplicates kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    b"upgrade http2-settings".split()
)
_CREDENTIALS = frozenset((b"authorization", b"x-api-key", b"api-key", b"cookie", b"cookie2"))
_FORWARDING = frozenset(
    b"forwarded via x-real-ip x-client-ip x-cluster-client-ip true-client-ip cf-connecting-ip cf-connecting-ipv6 "
    b"fastly-client-ip".split()
)
# Set anew for the upstream: the body may change, and it is sent at once.
_REWRITTEN = frozenset((b"host", b"content-length", b"content-encoding", b"expect", b"accept-encoding"))
_NOT_UP = _HOP_BY_HOP | _CREDENTIALS | _FORWARDING | _REWRITTEN
_OURS = (b"x-tt-", b"x-litellm-", b"x-openwebui-", b"x-forwarded-")
_NOT_DOWN = _HOP_BY_HOP | {b"alt-svc", b"strict-transport-security", b"set-cookie", b"set-cookie2"}

_DECODABLE = frozenset(("gzip", "x-gzip", "deflate", "br", "identity"))


@dataclass(slots=True)
class Incoming:
    """A request's headers, sorted once: `forward` goes upstream (latin-1 text), `own` are read by the gateway."""

    forward: list[tuple[str, str]]
    own: dict[bytes, bytes]

    @property
    def content_type(self) -> str:
        """All of them where there are several, as nobody knows which of them the upstream takes."""
        return ", ".join(value for name, value in self.forward if name == "content-type")


def split(headers: Iterable[tuple[bytes, bytes]]) -> Incoming:
    """Sort the headers of an ASGI scope (lower-case names); the first of a repeated own header counts."""
    forward: list[tuple[str, str]] = []
    own: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _NOT_UP or name.startswith(_OURS):
            own.setdefault(name, value)
        else:
            forward.append((name.decode("latin-1"), text(value)))
    if b"connection" in own:
        forward = _without_named(forward, own[b"connection"])
    return Incoming(forward, own)


def text(value: bytes) -> str:
    """A header's value as text that the HTTP client, which writes UTF-8, turns into the same bytes again."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _without_named(forward: list[tuple[str, str]], connection: bytes) -> list[tuple[str, str]]:
    """Without the headers that `Connection` names as belonging to this hop."""
    named = {token.strip().lower() for token in connection.decode("latin-1").split(",")} - {"keep-alive", "close"}
    return [pair for pair in forward if pair[0] not in named] if named else forward


@lru_cache(maxsize=256)
def decodable(accept_encoding: bytes) -> str:
    """The part of a client's Accept-Encoding whose answers the gateway can read: gzip, deflate, brotli, identity."""
    kept = [part.strip() for part in text(accept_encoding).split(",")]
    return ", ".join(part for part in kept if part.partition(";")[0].strip().lower() in _DECODABLE) or "identity"


def down(raw: Iterable[tuple[bytes, bytes]], request_id: bytes) -> list[tuple[bytes, bytes]]:
    """The headers of an upstream's answer as the client gets them (names in lower case), with the call's id first."""
    kept = [(b"x-tt-request-id", request_id)]
    named: set[bytes] = set()
    for name, value in raw:
        lower = name.lower()
        if lower == b"connection":
            named.update(token.strip() for token in value.lower().split(b","))
        elif lower not in _NOT_DOWN and not lower.startswith(b"x-tt-"):
            kept.append((lower, value))
    named -= {b"keep-alive", b"close"}
    return [pair for pair in kept if pair[0] not in named] if named else kept


def without(headers: Iterable[tuple[bytes, bytes]], *names: bytes) -> list[tuple[bytes, bytes]]:
    return [pair for pair in headers if pair[0] not in names]
