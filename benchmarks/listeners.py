"""Many streams at once, and how late each event came: `python -m benchmarks.listeners URL KEY COUNT` prints JSON."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import cast
from urllib.parse import urlsplit

import uvloop

_SENT = re.compile(rb"@(\d+) ")
BODY = json.dumps({"model": "streams", "stream": True, "messages": [{"role": "user", "content": "Count."}]}).encode()


class Listener(asyncio.Protocol):
    def __init__(self, head: bytes) -> None:
        self.head, self.ended = head, asyncio.get_running_loop().create_future()
        self.late_ns: list[int] = []
        self.first_ns = self.began_ns = 0
        self.is_whole = False
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop has classes of its own
        self.began_ns = time.monotonic_ns()
        self._transport.write(self.head + BODY)

    def data_received(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        found = _SENT.findall(data)  # an event in two pieces would be lost: it is then counted as not delivered
        if found and not self.first_ns:
            self.first_ns = now_ns - self.began_ns
        self.late_ns += [now_ns - int(sent) for sent in found]
        if b"[DONE]" in self._rest + data:
            self.is_whole = True
            if not self.ended.done():
                self.ended.set_result(None)
            self._transport.close()
        self._rest = data[-16:]

    def connection_lost(self, _: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def main(url: str, key: str, count: int) -> None:
    parts = urlsplit(url)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n"
    ).encode()
    loop = asyncio.get_running_loop()
    listeners = []
    for _ in range(count):
        _, listener = await loop.create_connection(lambda: Listener(head), parts.hostname, parts.port)
        listeners.append(listener)
    await asyncio.wait([listener.ended for listener in listeners], timeout=120)
    late = sorted(each / 1e6 for listener in listeners for each in listener.late_ns)
    firsts = sorted(listener.first_ns / 1e6 for listener in listeners)
    print(
        json.dumps(
            {
                "streams": count,
                "whole": sum(listener.is_whole for listener in listeners),
                "events": len(late),
                "p50_ms": late[len(late) // 2],
                "p99_ms": late[int(len(late) * 0.99)],
                "most_ms": late[-1],
                "first_event_p50_ms": firsts[count // 2],
                "first_event_most_ms": firsts[-1],
            }
        )
    )


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
