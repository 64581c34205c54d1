"""An upstream for tests: a real server whose every answer is said byte by byte, and that remembers what it was sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

Headers = list[tuple[bytes, bytes]]
USAGE = {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17}
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "upstream-name",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello there"}, "finish_reason": "stop"}],
    "usage": USAGE,
}


@dataclass
class Seen:
    """A request as it came over the wire."""

    target: str
    headers: Headers
    body: bytes
    left: threading.Event = field(default_factory=threading.Event)  # the gateway closed the connection

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


class Out:
    """What an answer writes to."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer

    async def head(self, status: str, *headers: str) -> None:
        await self.raw("\r\n".join((f"HTTP/1.1 {status}", *headers, "", "")).encode("latin-1"))

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def whole(self, body: bytes, *headers: str, status: str = "200 OK", kind: str = "application/json") -> None:
        await self.head(status, f"content-type: {kind}", f"content-length: {len(body)}", *headers)
        await self.raw(body)

    async def begin_stream(self, *headers: str) -> None:
        await self.head("200 OK", "content-type: text/event-stream", "transfer-encoding: chunked", *headers)

    async def chunk(self, data: bytes) -> None:
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def end(self) -> None:
        await self.raw(b"0\r\n\r\n")

    def reset(self) -> None:
        self.writer.transport.abort()


Answer = Callable[[Seen, Out], Awaitable[None]]


async def complete(seen: Seen, out: Out) -> None:
    await out.whole(json.dumps(COMPLETION).encode(), "x-request-id: req-up-1")


def event(data: Any) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def delta(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "upstream-name", "choices": [choice]})


USAGE_EVENT = event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": USAGE})
DONE = b"data: [DONE]\n\n"


async def stream(seen: Seen, out: Out) -> None:
    await out.begin_stream()
    for text in ("Hello", " there"):
        await out.chunk(delta(text))
    await out.chunk(USAGE_EVENT)
    await out.chunk(DONE)
    await out.end()


class Upstream:
    """Runs in a thread of its own on a free port; `answer` may be replaced at any time."""

    def __init__(self) -> None:
        self.answer: Answer = complete
        self.seen: list[Seen] = []
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    def start(self) -> Upstream:
        self._thread.start()
        assert self._started.wait(5)
        return self

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def gate(self) -> tuple[Callable[[], None], Callable[[], Awaitable[None]]]:
        """(open, wait): an answer waits until the test opens."""
        opened = asyncio.Event()

        async def wait() -> None:
            await asyncio.wait_for(opened.wait(), 20)

        return (lambda: self._loop.call_soon_threadsafe(opened.set) and None), wait

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        self._started.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.append(writer)
        seen: Seen | None = None
        try:
            while (seen := await _request(reader)) is not None:
                self.seen.append(seen)
                await self._answer_one(seen, reader, Out(writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer_one(self, seen: Seen, reader: asyncio.StreamReader, out: Out) -> None:
        watching = asyncio.create_task(_watch(reader, seen))
        try:
            await self.answer(seen, out)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def _watch(reader: asyncio.StreamReader, seen: Seen) -> None:
    """Sets `left` when the gateway closes while an answer is under way."""
    while not reader.at_eof() and reader.exception() is None:
        await asyncio.sleep(0.01)
    seen.left.set()


async def _request(reader: asyncio.StreamReader) -> Seen | None:
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    lines = head.decode("latin-1").split("\r\n")
    headers: Headers = []
    for line in lines[1:-2]:
        name, _, value = line.partition(": ")
        headers.append((name.encode("latin-1"), value.encode("latin-1")))
    length = next((int(value) for name, value in headers if name.lower() == b"content-length"), 0)
    return Seen(lines[0].split(" ")[1], headers, await reader.readexactly(length))
