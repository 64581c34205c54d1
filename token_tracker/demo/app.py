"""The echo provider's ASGI application: seven routes, streams and errors in each client's dialect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

import msgspec

from token_tracker.demo import chat, completions, messages, responses
from token_tracker.demo.echo import BadCall, Call, Event, Json, Reply, echo

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

MODELS = ("demo",)
_JSON: Headers = [(b"content-type", b"application/json")]
_STREAM: Headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
_encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Format:
    """How one route reads, answers and streams. `family` ('openai' | 'anthropic') shapes its errors."""

    family: str
    read: Callable[[Json], Call]
    answer: Callable[[Call, Reply], Json]
    events: Callable[[Call, Reply], Iterable[Event]] | None = None


FORMATS = {
    "/v1/chat/completions": Format("openai", chat.read, chat.answer, chat.events),
    "/v1/completions": Format("openai", completions.read, completions.answer, completions.events),
    "/v1/embeddings": Format("openai", chat.read_embeddings, chat.embeddings_answer),
    "/v1/responses": Format("openai", responses.read, responses.answer, responses.events),
    "/v1/messages": Format("anthropic", messages.read, messages.answer, messages.events),
    "/v1/messages/count_tokens": Format("anthropic", messages.read_countable, messages.count_answer),
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers one HTTP request."""
    wire = FORMATS.get(scope["path"])
    family = wire.family if wire else "openai"
    if scope["path"] == "/v1/models" and scope["method"] == "GET":
        await send_json(send, 200, models(has_header(scope, b"anthropic-version")))
    elif wire is None or scope["method"] != "POST":
        await send_json(send, 404, error(family, "not_found_error", f"No route {scope['method']} {scope['path']}."))
    else:
        body = await read_body(receive)
        try:
            call = wire.read(parse(body))
        except BadCall as problem:
            await send_json(send, 400, error(family, "invalid_request_error", str(problem)))
            return
        await _answer(send, wire, call, echo(call))


async def _answer(send: Send, wire: Format, call: Call, reply: Reply) -> None:
    request_id = [(b"x-request-id", f"req_{reply.serial}".encode()), (b"request-id", f"req_{reply.serial}".encode())]
    if not call.stream or wire.events is None:
        await send_json(send, 200, wire.answer(call, reply), request_id)
        return
    await send({"type": "http.response.start", "status": 200, "headers": _STREAM + request_id})
    for event in wire.events(call, reply):
        await send({"type": "http.response.body", "body": sse(event), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def sse(event: Event) -> bytes:
    """The event as it stands in a stream, with the empty line that ends it."""
    data = event.data.encode() if isinstance(event.data, str) else _encode(event.data)
    name = f"event: {event.name}\n".encode() if event.name else b""
    return name + b"data: " + data + b"\n\n"


def parse(body: bytes) -> Json:
    """The body as a JSON object. Raises BadCall."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError as problem:
        raise BadCall(f"The body must be a JSON object: {problem}") from None


def error(family: str, kind: str, message: str) -> Json:
    if family == "anthropic":
        return {"type": "error", "error": {"type": kind, "message": message}}
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def models(is_anthropic: bool) -> Json:
    """The list of models, in the shape that the client knows."""
    if is_anthropic:
        data = [{"type": "model", "id": m, "display_name": m, "created_at": "2026-01-01T00:00:00Z"} for m in MODELS]
        return {"data": data, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}
    entries = [{"id": m, "object": "model", "created": 1_767_225_600, "owned_by": "token-tracker"} for m in MODELS]
    return {"object": "list", "data": entries}


async def read_body(receive: Receive) -> bytes:
    chunks = []
    while True:
        message = await receive()
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(chunks)


async def send_json(send: Send, status: int, content: Json, headers: Headers | None = None) -> None:
    body = _encode(content)
    length = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": _JSON + length + (headers or [])})
    await send({"type": "http.response.body", "body": body})


def has_header(scope: Scope, name: bytes) -> bool:
    return any(key == name for key, _ in scope["headers"])
