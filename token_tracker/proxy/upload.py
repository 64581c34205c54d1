"""A request's body that goes upstream while it still comes: as fast as the upstream takes it, bounded like all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

from token_tracker.domain.errors import invalid_request, request_too_large
from token_tracker.proxy.body import ClientLeft, Receive


class BodyUpload:
    """The pieces of one body. Iterating raises ClientLeft if it is not sent to its end, for whatever reason."""

    def __init__(self, first: MutableMapping[str, Any], receive: Receive, limit_bytes: int, silence_s: float) -> None:
        self.is_broken_off = False
        self.sent_bytes = 0
        self._first, self._receive = first, receive
        self._limit_bytes, self._silence_s = limit_bytes, silence_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        message, size = self._first, 0
        while True:
            piece: bytes = message.get("body", b"")
            size += len(piece)
            if message["type"] != "http.request" or size > self._limit_bytes:
                self.is_broken_off = True
                raise ClientLeft
            if piece:
                self.sent_bytes += len(piece)
                yield piece
            if not message.get("more_body"):
                return
            try:
                async with asyncio.timeout(self._silence_s):
                    message = await self._receive()
            except TimeoutError:
                self.is_broken_off = True
                raise ClientLeft from None


async def upload(
    receive: Receive, own: dict[bytes, bytes], limit_bytes: int, silence_s: float
) -> bytes | BodyUpload | None:
    """A body as it is to be sent: whole if it came at once, None if there is none. Raises Refusal (400, 413) and
    ClientLeft."""
    encoding = own.get(b"content-encoding", b"").strip().lower()
    if encoding not in (b"", b"identity"):
        raise invalid_request("A compressed request body is not taken; send it uncompressed.")
    if int(own.get(b"content-length", b"0")) > limit_bytes:
        raise request_too_large(limit_bytes)
    message = await receive()
    if message["type"] != "http.request":
        raise ClientLeft
    if message.get("more_body"):
        return BodyUpload(message, receive, limit_bytes, silence_s)
    body: bytes = message.get("body", b"")
    if len(body) > limit_bytes:
        raise request_too_large(limit_bytes)
    return body or None
