"""uvicorn's HTTP protocol with three things more: a call learns that its client left without a task of its own, a whole
answer leaves in one write, and a request's head has a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from token_tracker.proxy.client import EXTENSION

HEAD_BYTES = 64 * 1024  # the parser itself has no bound, and before the head is complete nobody knows who sends it
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n"
    b"content-type: text/plain\r\ncontent-length: 36\r\n\r\nThe head of the request is too long."
)


class CorkedTransport:
    """A transport whose next write waits for the one after it: head and body become one packet and one wake-up."""

    __slots__ = ("_held", "_transport", "is_corked")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held: list[bytes] = []
        self.is_corked = False

    def write(self, data: bytes) -> None:
        if self.is_corked:
            self.is_corked = False
            self._held.append(data)
        elif self._held:
            self._held.append(data)
            data = b"".join(self._held)
            self._held.clear()
            self._transport.write(data)
        else:
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class GatewayProtocol(HttpToolsProtocol):
    """Puts itself into each request's scope, as the `Connection` that `proxy.client` knows."""

    on_gone: Callable[[], None] | None = None
    _corked: CorkedTransport
    _head_bytes: int | None = 0  # of a head that is not complete yet; None while a body is read

    def data_received(self, data: bytes) -> None:
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes is not None and self._head_bytes > HEAD_BYTES:
            self._refuse_head()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._corked = CorkedTransport(transport)
        super().connection_made(self._corked)  # type: ignore[arg-type]

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: self}  # type: ignore[dict-item]

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._head_bytes = 0

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.on_gone is not None:
            on_gone, self.on_gone = self.on_gone, None
            on_gone()

    def cork(self) -> None:
        """Hold the next write back until the one after it, which must follow without waiting for anything."""
        self._corked.is_corked = True

    def _refuse_head(self) -> None:
        self._head_bytes = None
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        else:  # behind a call that is still being answered
            self.abort()

    def abort(self) -> None:
        """Drop the connection together with what is still unsent."""
        self.transport.abort()
