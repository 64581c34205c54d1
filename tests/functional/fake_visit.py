"""One request to the fake provider: read, answered in its manner, and written into the books as it goes."""

from __future__ import annotations

import asyncio
import base64
import email
import email.policy
import itertools
import zlib
from dataclasses import dataclass, field, replace
from typing import Protocol

import brotli
import msgspec

from tests.functional.fake_manners import (
    CREATED_S,
    Manner,
    asked_for,
    bill,
    encoded,
    error_event,
    is_piece,
    manner_of,
    shape_answer,
    shape_events,
    told_usage,
    usage_of,
)
from tests.functional.fake_stored import OBJECTS, remember, serve_stored
from tests.functional.fake_unconversed import UNCONVERSED
from token_tracker.demo.app import FORMATS, Format, Headers, Receive, Scope, Send, error, parse
from token_tracker.demo.echo import BadCall, Call, Event, Json, Reply, echo, read_model

# What providers send along: some to be passed on, the last three to be taken out by a gateway.
PROVIDER_HEADERS: Headers = [
    (b"openai-organization", b"fake-organization"),
    (b"openai-processing-ms", b"12"),
    (b"openai-version", b"2020-10-01"),
    (b"x-ratelimit-limit-requests", b"5000"),
    (b"x-ratelimit-remaining-requests", b"4999"),
    (b"x-ratelimit-reset-requests", b"12ms"),
    (b"x-ratelimit-limit-tokens", b"800000"),
    (b"x-ratelimit-remaining-tokens", b"799000"),
    (b"x-ratelimit-reset-tokens", b"75ms"),
    (b"anthropic-ratelimit-requests-limit", b"4000"),
    (b"anthropic-ratelimit-requests-remaining", b"3999"),
    (b"set-cookie", b"__cf_bm=fake; path=/; HttpOnly"),
    (b"alt-svc", b'h3=":443"; ma=86400'),
    (b"strict-transport-security", b"max-age=31536000"),
]
ERROR_TYPES = {
    "openai": {400: "invalid_request_error", 401: "invalid_request_error", 429: "rate_limit_exceeded"},
    "anthropic": {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"},
}
HANG_S = 600
PREFIXES = {
    "/v1/chat/completions": "chatcmpl-",
    "/v1/completions": "cmpl-",
    "/v1/messages": "msg_",
    "/v1/responses": "resp_",
}


@dataclass(slots=True)
class Entry:
    """One request, as the provider knows it.

    `id` and `request_id` are those in the answer ('' before one). `billed`: what it would bill, by disjoint token class
    (plus 'characters' or 'images' where it counts those), only what is above 0: the whole prompt from the moment
    a 200 begins, and each word as it is sent. `reported`: the usage object the client was last told. `reached_end`: all
    was sent to a client still there; `client_left`: it went away before; `is_open`: still being served.
    """

    number: int
    path: str
    headers: list[tuple[str, str]]
    body_base64: str
    model: str = ""
    marker: str = ""
    stream: bool = False
    status: int = 0
    id: str = ""
    request_id: str = ""
    billed: dict[str, int] = field(default_factory=dict)
    reported: Json | None = None
    reached_end: bool = False
    client_left: bool = False
    is_open: bool = True


ENTRIES: list[Entry] = []
NUMBERS = itertools.count(1)


class Visit:
    """One request and its entry."""

    def __init__(self, scope: Scope, body: bytes, send: Send) -> None:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        self.entry = Entry(next(NUMBERS), scope["path"], headers, base64.b64encode(body).decode())
        ENTRIES.append(self.entry)
        self.asked = dict(headers)
        self.body = body
        self.left = asyncio.Event()
        self._send = send
        self.path: str = scope["path"]
        self.content: Json = {}
        self.wire = FORMATS.get(self.path)
        self.family = self.wire.family if self.wire else "openai"

    @property
    def serial(self) -> str:
        """What makes this answer's ids its own; the header x-fake-serial says it where two answers are to be equal."""
        return self.asked.get("x-fake-serial", f"{self.entry.number:024x}")

    async def serve(self, receive: Receive, stored: tuple[str, bytes] | None = None) -> None:
        """`stored`: method and query of a request about what is kept."""
        watcher = asyncio.create_task(self._watch(receive))
        try:
            await (self._serve() if stored is None else serve_stored(self, *stored))
        except BadCall as problem:
            await self.refuse(400, str(problem))
        finally:
            self.entry.is_open = False
            watcher.cancel()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.entry.client_left = self.entry.is_open and not self.entry.reached_end
        self.left.set()

    async def _serve(self) -> None:
        content = self.content = self._content()
        self.entry.model = read_model(content)
        self.entry.marker = marker_of(content)
        manner = manner_of(self.entry.model, self.asked.get("x-fake-manner", ""))
        if "hang-before-headers" in manner:
            await self._pause(HANG_S)
        elif manner.status:
            await self.refuse(manner.status, f"The fake provider answers {manner.status}.")
        elif self.wire:
            await self._converse(self.wire, self.wire.read(content), manner)
        elif self.path in UNCONVERSED:
            await self._pause(manner.delay_s)
            await UNCONVERSED[self.path](self, content)
        else:
            await self.refuse(404, f"No route POST {self.path}.")

    def _content(self) -> Json:
        """What was asked: JSON, or a form's fields with the size of its files."""
        if not self.asked.get("content-type", "").startswith("multipart/"):
            return parse(self.body)
        head = f"Content-Type: {self.asked['content-type']}\r\n\r\n".encode()
        message = email.message_from_bytes(head + self.body, policy=email.policy.HTTP)
        content: Json = {}
        for part in message.iter_parts():
            name, raw = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
            content[str(name)] = len(raw) if part.get_filename() is not None else raw.decode().rstrip("\r\n")
        return content

    async def _converse(self, wire: Format, call: Call, manner: Manner) -> None:
        self.entry.stream = call.stream
        call, reply = asked_for(call, manner), echo(call)
        if "x-fake-serial" in self.asked:
            reply = replace(reply, serial=self.serial, created_s=CREATED_S)
        reply = replace(reply, usage=usage_of(reply, manner, self.path))
        if call.stream and wire.events:
            await self._stream(wire, call, reply, manner)
        else:
            await self._whole(wire, call, reply, manner)

    async def _whole(self, wire: Format, call: Call, reply: Reply, manner: Manner) -> None:
        await self._pause(manner.delay_s)
        answer = shape_answer(wire.answer(call, reply), manner)
        if self.path == "/v1/responses":
            previous = self.content.get("previous_response_id")
            if previous is not None and previous not in OBJECTS:
                raise BadCall(f"Previous response with id '{previous}' not found.")
            answer = remember(self.content, answer)
        body = msgspec.json.encode(answer)
        headers = self._headers(reply, b"application/json")
        if coding := self._coding(manner):
            body = coding.press(body) + coding.end()
            headers = [*headers, (b"content-encoding", coding.name)]
        self.entry.id = answer.get("id", "")
        self.entry.billed = bill(reply.usage) if "usage" in wire.answer(call, reply) else {}
        self.entry.reported = answer.get("usage")
        await self._start(200, [*headers, (b"content-length", str(len(body)).encode())])
        if not manner.names.isdisjoint({"dies-mid-stream", "hang-mid-stream"}):
            await self._bytes(body[: len(body) // 2], manner)
            await self._pause(HANG_S if "hang-mid-stream" in manner else 0)
            return
        await self._bytes(body, manner)
        await self._end()

    async def _stream(self, wire: Format, call: Call, reply: Reply, manner: Manner) -> None:
        assert wire.events
        events = list(shape_events(wire.events(call, reply), manner))
        if self.path == "/v1/responses":
            remember(self.content, wire.answer(call, reply))
        self.entry.id = PREFIXES[self.path] + reply.serial
        headers = self._headers(reply, b"text/event-stream; charset=utf-8")
        if "content-length-sse" in manner:
            length = sum(len(encoded(event, manner)) for event in events)
            headers = [*headers, (b"content-length", str(length).encode())]
        coding = self._coding(manner)
        await self._start(200, [*headers, (b"content-encoding", coding.name)] if coding else headers)
        if await self._events(events, reply, manner, coding):
            if coding:
                await self._bytes(coding.end(), manner)
            await self._end()

    def _coding(self, manner: Manner) -> Coding | None:
        """Only one that the client accepts."""
        accepted = self.asked.get("accept-encoding", "")
        for named, coding in (("gzip", Gzip), ("brotli", Brotli)):
            if named in manner and coding.name.decode() in accepted:
                return coding()
        return None

    async def _events(self, events: list[Event], reply: Reply, manner: Manner, coding: Coding | None) -> bool:
        """Send them, as far as manner and client let it; whether the answer is to be ended properly."""
        half, said = len(reply.pieces) // 2, 0
        self.entry.billed = bill(reply.usage._replace(output_tokens=reply.usage.output_tokens - len(reply.pieces)))
        for event in events:
            if is_piece(event):
                if said == half and (stop := await self._at_half(manner)) is not None:
                    return stop
                await self._pause(manner.delay_s)
                said += 1
            if self.left.is_set():
                return False
            if is_piece(event):
                self.entry.billed["output_tokens"] = self.entry.billed.get("output_tokens", 0) + 1
            self.entry.reported = told_usage(event.data) or self.entry.reported
            raw = encoded(event, manner)
            await self._bytes(coding.press(raw) if coding else raw, manner)
        return True

    async def _at_half(self, manner: Manner) -> bool | None:
        """What happens after half of the words: None to go on, else whether the answer ends properly."""
        if "hang-mid-stream" in manner:
            await self._pause(HANG_S)
            return False
        if "dies-mid-stream" in manner:
            return False
        if "error-event" in manner:
            await self._bytes(encoded(error_event(self.path), manner), manner)
            return True
        return True if "ends-early" in manner else None

    async def tell(self, answer: Json) -> None:
        await self.say(msgspec.json.encode(answer), b"application/json")

    async def say(self, body: bytes, content_type: bytes) -> None:
        """A whole answer of any kind."""
        length = (b"content-length", str(len(body)).encode())
        await self._start(200, [*self._headers(None, content_type), length])
        await self._bytes(body, Manner(frozenset()))
        await self._end()

    async def refuse(self, status: int, message: str) -> None:
        kind = ERROR_TYPES[self.family].get(status, "api_error" if self.family == "anthropic" else "server_error")
        body = msgspec.json.encode(error(self.family, kind, message))
        headers = [*self._headers(None, b"application/json"), (b"content-length", str(len(body)).encode())]
        await self._start(status, headers + ([(b"retry-after", b"7")] if status in (429, 503) else []))
        await self._bytes(body, Manner(frozenset()))
        await self._end()

    def _headers(self, reply: Reply | None, content_type: bytes) -> Headers:
        serial = reply.serial if reply else self.serial
        self.entry.request_id = f"req_{serial}"
        identity = self.entry.request_id.encode()
        named = [(b"content-type", content_type), (b"x-request-id", identity), (b"request-id", identity)]
        return named + PROVIDER_HEADERS

    async def _start(self, status: int, headers: Headers) -> None:
        self.entry.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _bytes(self, body: bytes, manner: Manner) -> None:
        parts = [body[at : at + 1] for at in range(len(body))] if "cut-every-byte" in manner else [body]
        for part in parts:
            await self._send({"type": "http.response.body", "body": part, "more_body": True})
            await asyncio.sleep(0)  # lets the watcher see a client that left

    async def _end(self) -> None:
        if not self.left.is_set():
            self.entry.reached_end = True
            await self._send({"type": "http.response.body", "body": b""})

    async def _pause(self, pause_s: float) -> None:
        """Wait, but not for a client that left."""
        if pause_s:
            try:
                await asyncio.wait_for(self.left.wait(), pause_s)
            except TimeoutError:
                return


def marker_of(content: Json) -> str:
    metadata = content.get("metadata")
    named = content.get("user") or (metadata.get("user_id") if isinstance(metadata, dict) else None)
    messages = content.get("messages")
    said = messages[-1].get("content") if isinstance(messages, list) and messages else None
    if isinstance(said, list) and len(said) == 1 and isinstance(said[0], dict):
        said = said[0].get("text")
    return next(
        (text for text in (named, said, content.get("input"), content.get("prompt")) if isinstance(text, str)), ""
    )


class Coding(Protocol):
    """A content coding: each piece can be read when it comes."""

    name: bytes

    def press(self, data: bytes) -> bytes: ...

    def end(self) -> bytes: ...


class Gzip:
    name = b"gzip"

    def __init__(self) -> None:
        self._press = zlib.compressobj(wbits=31)

    def press(self, data: bytes) -> bytes:
        return self._press.compress(data) + self._press.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        return self._press.flush()


class Brotli:
    name = b"br"

    def __init__(self) -> None:
        self._press = brotli.Compressor()

    def press(self, data: bytes) -> bytes:
        pressed: bytes = self._press.process(data) + self._press.flush()
        return pressed

    def end(self) -> bytes:
        end: bytes = self._press.finish()
        return end
