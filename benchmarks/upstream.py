"""A slow provider for many streams at once: one event every 50 ms in each, with the moment at which it was sent.

`python -m benchmarks.upstream PORT`; one process, nothing but writes, so that it is not what is measured.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

EVERY_S = 0.05
EVENTS = 100
SLOTS = 10  # streams are spread over the 50 ms, as those of real people are
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(number: int, at_ns: int) -> bytes:
    said = {"id": "chatcmpl-streams", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    delta = {"index": 0, "delta": {"content": f"@{at_ns} {number} "}, "finish_reason": None}
    return b"data: " + json.dumps(said | {"choices": [delta]}, separators=(",", ":")).encode() + b"\n\n"


USAGE = {"prompt_tokens": 10, "completion_tokens": EVENTS, "total_tokens": 10 + EVENTS}
LAST = (
    b'data: {"id":"chatcmpl-streams","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":'
    + json.dumps(USAGE, separators=(",", ":")).encode()
    + b"}\n\ndata: [DONE]\n\n"
)


class Wheel:
    """All streams of one slot get their event in one go, written once for all."""

    def __init__(self) -> None:
        self.slots: list[dict[Stream, int]] = [{} for _ in range(SLOTS)]

    async def turn(self) -> None:
        loop = asyncio.get_running_loop()
        at_s = loop.time()
        while True:
            for slot in self.slots:
                at_s += EVERY_S / SLOTS
                await asyncio.sleep(max(0.0, at_s - loop.time()))
                now = chunk(event(0, time.monotonic_ns()))
                for stream, left in list(slot.items()):
                    if left > 0:
                        stream.transport.write(now)
                        slot[stream] = left - 1
                    else:
                        del slot[stream]
                        stream.transport.write(chunk(LAST) + b"0\r\n\r\n")


class Stream(asyncio.Protocol):
    """One connection; every request on it is a stream."""

    transport: asyncio.Transport
    made = 0

    def __init__(self, wheel: Wheel) -> None:
        self._wheel, self._buffer = wheel, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop has classes of its own

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
        )
        if len(body) < length:
            return
        self._buffer = b""
        self.transport.write(HEAD)
        Stream.made += 1
        self._wheel.slots[Stream.made % SLOTS][self] = EVENTS

    def connection_lost(self, _: Exception | None) -> None:
        for slot in self._wheel.slots:
            slot.pop(self, None)


async def main(port: int) -> None:
    wheel = Wheel()
    server = await asyncio.get_running_loop().create_server(lambda: Stream(wheel), "127.0.0.1", port, backlog=2048)
    async with server:
        await wheel.turn()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
