"""Reading a request's body, bounded in size and in silence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from token_tracker.domain.errors import Refusal, invalid_request, request_too_large

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ClientLeft(Exception):
    """The client left before its request was complete: nothing was forwarded and nobody waits for an answer."""


async def read_body(receive: Receive, own: Mapping[bytes, bytes], limit_bytes: int, silence_s: float) -> bytes:
    """The whole body. Raises ClientLeft and Refusal: 413 (before anything is read where the length says so), 400 for
    a compressed body, whose facts could not be read and which could grow without bound, 408 after a long silence."""
    if (encoding := own.get(b"content-encoding", b"").strip().lower()) not in (b"", b"identity"):
        shown = encoding.decode("ascii", "replace")[:40]
        raise invalid_request(f"A request body with 'content-encoding: {shown}' is not taken; send it uncompressed.")
    if int(own.get(b"content-length", b"0")) > limit_bytes:
        raise request_too_large(limit_bytes)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message["body"]
        if len(body) > limit_bytes:
            raise request_too_large(limit_bytes)
        return body
    return await _assemble(message, receive, limit_bytes, silence_s)


async def _assemble(message: MutableMapping[str, Any], receive: Receive, limit_bytes: int, silence_s: float) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        if message["type"] != "http.request":
            raise ClientLeft
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > limit_bytes:
            raise request_too_large(limit_bytes)
        if not message.get("more_body"):
            return b"".join(pieces)
        try:
            async with asyncio.timeout(silence_s):
                message = await receive()
        except TimeoutError:
            raise request_timeout(silence_s) from None


def request_timeout(silence_s: float) -> Refusal:
    return Refusal(
        408,
        "request_timeout",
        f"No more of the request came for {silence_s:g} s; nothing was forwarded. Send it again.",
    )
