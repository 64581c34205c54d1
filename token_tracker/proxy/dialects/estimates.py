"""A cheap guess at a prompt's tokens, for rows whose provider never counted."""

from __future__ import annotations

import re

from token_tracker.proxy.dialects.base import Request

BYTES_PER_TOKEN = 4
BINARY_TOKENS = 1000  # an image or a file in base64, roughly what providers count for a picture
_BINARY = re.compile(rb"[A-Za-z0-9+/=_-]{1024,}")


def tokens_of_fields(request: Request, *names: str) -> int:
    """The bytes of the named fields over 4, rounded up; base64 data counts as a picture, not as text."""
    tokens = 0
    for name in names:
        raw = request.fields.get(name, b"")
        if len(raw) > 4096 and b"base64" in raw:
            raw, found = _BINARY.subn(b"", raw)
            tokens += found * BINARY_TOKENS
        if raw not in (b"", b"null"):
            tokens += -(-len(raw) // BYTES_PER_TOKEN)
    return tokens
