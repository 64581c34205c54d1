"""/metrics without a key, on a port of its own: for scrapers in a network that people do not reach."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from token_tracker.config.values import Address
from token_tracker.proxy.watch.exposition import CONTENT_TYPE

PATH = "/metrics"
HEAD_BYTES = 8192
PATIENCE_S = 5.0


@contextlib.asynccontextmanager
async def metrics_port(
    address: Address | None, text: Callable[[], Awaitable[bytes]], workers: int = 1
) -> AsyncIterator[None]:
    """Serve `text()` at `address` for as long as this lasts; None: nothing is served. Each of several
    `workers` takes the first free one of as many ports from there on. Raises OSError."""
    if address is None:
        yield
        return

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await _answer(head, text))
                await writer.drain()
        writer.close()

    for port in range(address.port, address.port + workers):
        try:
            server = await asyncio.start_server(serve, address.host, port, limit=HEAD_BYTES)
            break
        except OSError:
            if port == address.port + workers - 1:
                raise
    try:
        yield
    finally:
        server.close()


async def _answer(head: bytes, text: Callable[[], Awaitable[bytes]]) -> bytes:
    method, _, rest = head.partition(b" ")
    path = rest.split(b" ", 1)[0].split(b"?", 1)[0]
    if path != PATH.encode():
        return _response(b"404 Not Found", b"text/plain", b"Only /metrics is here.\n", method)
    if method not in (b"GET", b"HEAD"):
        return _response(b"405 Method Not Allowed", b"text/plain", b"/metrics takes GET.\n", method)
    return _response(b"200 OK", CONTENT_TYPE, await text(), method)


def _response(status: bytes, kind: bytes, body: bytes, method: bytes) -> bytes:
    head = b"HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    return head % (status, kind, len(body)) + (b"" if method == b"HEAD" else body)
