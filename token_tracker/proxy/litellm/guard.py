"""The ASGI guard around LiteLLM's app: a handful of its thousand routes, our key, no WebSockets."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from token_tracker.proxy.litellm.report import COUNTED_MARK, FAILURE_HEADER, Failure, to_header
from token_tracker.proxy.litellm.witness import Witness, witness

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LIVE_PATH = "/health/liveliness"
ROUTES = frozenset(
    {
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
        "/v1/audio/speech",
        "/v1/images/generations",
    }
)


def guarded(app: App, master_key: str) -> App:
    """`app`, reachable only by POST on `ROUTES` with `Authorization: Bearer <master_key>`; GET `LIVE_PATH` answers
    200 to anybody, and only once the app has started (uvicorn accepts no connection before)."""
    expected = f"Bearer {master_key}".encode("latin-1")

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "lifespan":
            await app(scope, receive, send)
        elif scope["path"] == LIVE_PATH:
            await _answer(send, 200)
        elif scope["path"] not in ROUTES or scope["method"] != "POST":
            await _answer(send, 404)
        elif not _has_key(scope, expected):
            await _answer(send, 401)
        else:
            seen = Witness()
            witness.set(seen)
            await app(scope, receive, _telling(seen, send))

    return guard


def _telling(seen: Witness, send: Send) -> Send:
    """The answer with what was seen: a failure as a header, LiteLLM's own count as a comment in the stream."""
    marks = False  # between two events of a stream, and it is not marked yet

    async def sending(message: Message) -> None:
        nonlocal marks
        if message["type"] == "http.response.start":
            if (failure := _failure(seen, message["status"])) is not None:
                message["headers"] = [*message["headers"], (FAILURE_HEADER.encode(), to_header(failure))]
            marks = any(value.startswith(b"text/event-stream") for _, value in message["headers"])
        elif marks and seen.has_counted and message.get("body"):
            message["body"] = COUNTED_MARK + message["body"]
            marks = False
        await send(message)

    return sending


def _failure(seen: Witness, status: int) -> Failure | None:
    if seen.failures:
        return seen.failures[-1]
    return Failure(kind="unreadable") if status >= 400 and seen.was_served else None


def _has_key(scope: Scope, expected: bytes) -> bool:
    sent = [value for name, value in scope["headers"] if name == b"authorization"]
    return len(sent) == 1 and hmac.compare_digest(sent[0], expected)


async def _answer(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
