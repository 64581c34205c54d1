"""uvicorn's HTTP protocol with one thing more: a call learns that its client left without a task of its own."""

from __future__ import annotations

from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from token_tracker.proxy.client import EXTENSION


class GatewayProtocol(HttpToolsProtocol):
    """Puts itself into each request's scope, as the `Connection` that `proxy.client` knows."""

    on_gone: Callable[[], None] | None = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: self}  # type: ignore[dict-item]

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.on_gone is not None:
            on_gone, self.on_gone = self.on_gone, None
            on_gone()

    def abort(self) -> None:
        self.transport.abort()
