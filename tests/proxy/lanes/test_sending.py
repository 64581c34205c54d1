"""A request on a pooled connection: what was never sent is never taken for sent."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from yarl import URL

from token_tracker.proxy.lanes.sending import Pool
from token_tracker.proxy.lanes.upstream_request import UpstreamRequest

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Marks:
    def __init__(self) -> None:
        self.sent = 0

    def sending(self) -> None:
        self.sent += 1


class Server:
    """Answers each request on a connection, and keeps the connection until it is told otherwise."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.requests: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head + await reader.readexactly(4))
                writer.write(ANSWER)
        except asyncio.IncompleteReadError:
            writer.close()


def with_server(test: Callable[[Pool, Server, UpstreamRequest], Awaitable[None]]) -> None:
    async def run() -> None:
        answering = Server()
        server = await asyncio.start_server(answering.serve, "127.0.0.1", 0)
        url = URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        pool = Pool(keepalive_s=30)
        try:
            await test(pool, answering, UpstreamRequest("POST", url, [], b"body"))
        finally:
            await pool.close()
            server.close()

    asyncio.run(run())


async def send(pool: Pool, request: UpstreamRequest, marks: Marks) -> bytes:
    response = await pool.send(request, marks)
    try:
        return await response.read()
    finally:
        response.close()


def test_a_connection_is_used_again() -> None:
    async def test(pool: Pool, server: Server, request: UpstreamRequest) -> None:
        marks = Marks()
        assert [await send(pool, request, marks) for _ in range(3)] == [b"ok"] * 3
        assert (len(server.writers), marks.sent) == (1, 3)

    with_server(test)


def test_a_connection_that_its_upstream_closed_meanwhile_is_replaced_and_the_request_sent_once() -> None:
    async def test(pool: Pool, server: Server, request: UpstreamRequest) -> None:
        marks = Marks()
        await send(pool, request, marks)
        server.writers[0].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        await asyncio.sleep(0)  # the loop has heard of it, and tells the connection right after this task's next step
        assert await send(pool, request, marks) == b"ok"
        assert (len(server.requests), marks.sent) == (2, 2)

    with_server(test)
