"""Who calls: the virtual key of a request, found by its hash in the snapshot, and the models it may use."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

from token_tracker.domain.errors import Refusal, invalid_api_key
from token_tracker.proxy.books.publication import KeyRecord

KEY_PREFIX = b"sk-tt-"


class Keys(Protocol):
    """What the snapshot offers here: live keys by SHA-256; `made_at_us` is 0 while there is no snapshot at all."""

    @property
    def keys(self) -> Mapping[bytes, KeyRecord]: ...

    @property
    def made_at_us(self) -> int: ...


def credential(own: Mapping[bytes, bytes]) -> bytes:
    """The key's text from `Authorization: Bearer`, `x-api-key` or `api-key`; b'' where there is none.

    Clients may fill one of these with a placeholder of their own, so the first that looks like a virtual key counts.
    """
    scheme, _, bearer = own.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"bearer":
        bearer = b""
    texts = (bearer.strip(), own.get(b"x-api-key", b"").strip(), own.get(b"api-key", b"").strip())
    return next((text for text in texts if text.startswith(KEY_PREFIX)), None) or next(filter(None, texts), b"")


def authenticate(own: Mapping[bytes, bytes], keys: Keys, now_us: int) -> KeyRecord:
    """The live key of a request. Raises the one 401 for all that is wrong with it; 503 before the first snapshot."""
    text = credential(own)
    if not text:
        raise invalid_api_key()
    if not keys.made_at_us:
        raise snapshot_unavailable()
    record = keys.keys.get(hashlib.sha256(text).digest())
    if record is None or (record.expires_at_us and record.expires_at_us <= now_us):
        raise invalid_api_key()
    return record


def may_use(patterns: Sequence[str], *names: str) -> bool:
    """Whether a key's list of models (exact names, prefixes with '*', or '*') covers one of `names`."""
    for pattern in patterns:
        if pattern == "*" or pattern in names:
            return True
        if pattern.endswith("*") and any(name.startswith(pattern[:-1]) for name in names):
            return True
    return False


def snapshot_unavailable(retry_after_s: int = 2) -> Refusal:
    return Refusal(
        503,
        "snapshot_unavailable",
        "The gateway has not received its virtual keys yet: the recorder has published no snapshot "
        "(it needs the database for the first one). Nothing was forwarded; try again shortly.",
        retry_after_s,
    )
