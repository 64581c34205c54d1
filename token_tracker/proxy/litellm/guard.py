"""The ASGI guard around LiteLLM's app: a handful of its thousand routes, our key, no WebSockets."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

from token_tracker.proxy.litellm.report import FAILURE_HEADER, Failure, to_header

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Filled in by the callback's failure hook, which runs in the request's context; the guard sends it as a header.
failed: ContextVar[list[Failure]] = ContextVar("failed")

LIVE_PATH = "/health/liveliness"
ROUTES = frozenset(
    {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/audio/speech",
        "/v1/audio/transcriptions",
        "/v1/images/generations",
        "/v1/images/edits",
        "/v1/moderations",
        "/v1/rerank",
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
            failures: list[Failure] = []
            failed.set(failures)
            await app(scope, receive, _telling(failures, send))

    return guard


def _telling(failures: list[Failure], send: Send) -> Send:
    async def sending(message: Message) -> None:
        if failures and message["type"] == "http.response.start":
            told = (FAILURE_HEADER.encode(), to_header(failures[-1]))
            message["headers"] = [*message["headers"], told]
        await send(message)

    return sending


def _has_key(scope: Scope, expected: bytes) -> bool:
    sent = [value for name, value in scope["headers"] if name == b"authorization"]
    return len(sent) == 1 and hmac.compare_digest(sent[0], expected)


async def _answer(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
