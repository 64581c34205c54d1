"""The caller's side of a call: what is sent to it, whether it is still there, and how it is let go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any, Protocol

from token_tracker.proxy.deadline import Deadline

EXTENSION = "tt.connection"
Message = MutableMapping[str, Any]


class Connection(Protocol):
    """What our server's protocol offers beyond ASGI, so that a call needs no task of its own to watch its client."""

    on_gone: Callable[[], None] | None

    def cork(self) -> None:
        """Hold the next write back until the one after it, which must follow without waiting for anything."""

    def abort(self) -> None:
        """Drop the connection together with what is still unsent."""


class Client:
    """One answer on its way. Writing to a client that is gone does nothing; one that takes nothing becomes gone."""

    __slots__ = (
        "_connection",
        "_deadline",
        "_on_gone",
        "_send",
        "_stall_s",
        "finished",
        "gone",
        "has_body",
        "started",
    )

    def __init__(self, scope: MutableMapping[str, Any], send: Any, stall_s: float) -> None:
        self._send = send
        self.has_body = scope["method"] != "HEAD"
        self._stall_s = stall_s
        self._deadline: Deadline | None = None
        self._on_gone: Callable[[], None] | None = None
        self.started = self.finished = self.gone = False
        self._connection: Connection | None = scope.get("extensions", {}).get(EXTENSION)
        if self._connection is not None:
            self._connection.on_gone = self.leave

    def watch(self, deadline: Deadline, on_gone: Callable[[], None]) -> None:
        """From now on `on_gone` is called once when the client leaves, and sending is bounded by the deadline."""
        self._deadline, self._on_gone = deadline, on_gone
        if self.gone:
            on_gone()

    def unwatch(self) -> None:
        """The attempt that watched is over. Who left meanwhile is `gone`."""
        self._deadline = self._on_gone = None

    def leave(self) -> None:
        if not self.gone and not self.finished:
            self.gone = True
            if self._on_gone is not None:
                self._on_gone()

    async def start(self, status: int, headers: list[tuple[bytes, bytes]], *, is_followed: bool = False) -> None:
        """The head. `is_followed`: by bytes of the body, without waiting for anything: both leave in one write."""
        if not self.gone:
            self.started = True
            if is_followed and self._connection is not None and self.has_body:
                self._connection.cork()
            await self._put({"type": "http.response.start", "status": status, "headers": headers})

    async def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """A whole answer in one write."""
        await self.start(status, headers, is_followed=bool(body))
        await self.finish(body)

    async def write(self, data: bytes) -> None:
        if data and not self.gone:
            await self._put({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes = b"") -> None:
        """The rest of the body and its clean end."""
        if not self.gone:
            message = {"type": "http.response.body", "body": data, "more_body": False}
            # Before the last write: a client that closes as soon as it has all has not left.
            self.finished = True
            await self._put(message)

    def release(self) -> None:
        """The call is over; its connection may carry another."""
        if self._connection is not None and self._connection.on_gone == self.leave:
            self._connection.on_gone = None

    async def _put(self, message: Message) -> None:
        deadline = self._deadline
        if deadline is None:
            await self._send(message)
            return
        deadline.enter("client", self._stall_s)
        try:
            await self._send(message)
        except asyncio.CancelledError:
            if deadline.fired != "client":
                raise
            deadline.take()
            self.finished = False
            self._stalled()

    def _stalled(self) -> None:
        if self._connection is not None:
            self._connection.abort()
        self.leave()
