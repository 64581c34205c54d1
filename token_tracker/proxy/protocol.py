"""uvicorn's HTTP protocol with two things more: a call learns that its client left without a task of its own, and a
whole answer leaves in one write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from token_tracker.proxy.client import EXTENSION


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

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._corked = CorkedTransport(transport)
        super().connection_made(self._corked)  # type: ignore[arg-type]

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: self}  # type: ignore[dict-item]

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.on_gone is not None:
            on_gone, self.on_gone = self.on_gone, None
            on_gone()

    def cork(self) -> None:
        """Hold the next write back until the one after it, which must follow without waiting for anything."""
        self._corked.is_corked = True

    def abort(self) -> None:
        """Drop the connection together with what is still unsent."""
        self.transport.abort()
