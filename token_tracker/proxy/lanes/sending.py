"""The moment when a request begins to leave for its upstream: before it, nothing can be billed."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Protocol

import aiohttp


class Sender(Protocol):
    def sending(self) -> None:
        """A connection is there, and bytes begin to leave."""


SENDING: ContextVar[Sender | None] = ContextVar("sending", default=None)


class MarkingRequest(aiohttp.ClientRequest):
    """Tells the exchange of the current task."""

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        sender = SENDING.get()
        if sender is not None:  # the health check of the LiteLLM process uses the same pool
            sender.sending()
        return await super().send(conn)
