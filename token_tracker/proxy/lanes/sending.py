"""How a request leaves for its upstream, and the moment when it begins to: before it, nothing can be billed.

Nearly all bodies are short and whole. Those are sent on aiohttp's pool of connections by its writer, parser and
response, but without what its session does for each request (merging of headers, cookies, redirects, a task for the
body): measured at a tenth of a call. Uploads and long bodies go the ordinary way, as they are sent while the answer may
come already.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any, Protocol

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.helpers import TimerNoop
from aiohttp.http import StreamWriter
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from token_tracker.proxy.lanes.upstream_request import UpstreamRequest

# An upstream's answer's head may be so long; aiohttp refuses longer ones, and such a call is billed all the same: far
# above what providers send.
HEAD_LINE_BYTES = 64 * 1024
HEAD_LINES = 1000
SHORT_BYTES = 32 * 1024  # below what a connection takes without waiting
ORIGINS_MAX = 1000
TRIED_MAX = 8  # connections that their upstream is found to have closed
_BUFFER_BYTES = 64 * 1024
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
_NOT_ADDED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class Sender(Protocol):
    def sending(self) -> None:
        """A connection is there, and bytes begin to leave."""


SENDING: ContextVar[Sender | None] = ContextVar("sending", default=None)


class MarkingRequest(aiohttp.ClientRequest):
    """Tells the exchange of the current task."""

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        sender = SENDING.get()
        if sender is not None:  # the health check of the LiteLLM process uses the same pool
            sender.sending()
        return await super().send(conn)


class Pool:
    """The one pool of upstream connections: no limit, nothing decoded, nothing added, no cookies, no time-outs of its
    own (`deadline.py` has them). `keepalive_s`: how long an idle connection is kept."""

    def __init__(self, keepalive_s: float) -> None:
        self._connector = aiohttp.TCPConnector(limit=0, limit_per_host=0, keepalive_timeout=keepalive_s)
        self._loop = asyncio.get_running_loop()
        self._origins: dict[tuple[str, str | None, int | None], aiohttp.ClientRequest] = {}
        self.session = aiohttp.ClientSession(
            connector=self._connector,
            request_class=MarkingRequest,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_NOT_ADDED,
            read_bufsize=_BUFFER_BYTES,
            max_line_size=HEAD_LINE_BYTES,
            max_field_size=HEAD_LINE_BYTES,
            max_headers=HEAD_LINES,
            timeout=_NO_TIMEOUT,
        )

    async def close(self) -> None:
        await self.session.close()

    async def send(self, upstream: UpstreamRequest, sender: Sender) -> aiohttp.ClientResponse:
        """Send a request; the answer, once its head is here. The caller closes it. Raises aiohttp.ClientError and
        OSError."""
        body, url = upstream.body, upstream.url
        if isinstance(body, bytes) and len(body) <= SHORT_BYTES and url.raw_user is None:
            return await self._send_short(upstream.method, url, upstream.headers, body, sender)
        SENDING.set(sender)
        try:
            return await self.session.request(
                upstream.method, url, headers=upstream.headers, data=body, allow_redirects=False
            )
        finally:
            SENDING.set(None)  # the task's context would hold the exchange, which holds the task

    async def _send_short(
        self, method: str, url: URL, headers: list[tuple[str, str]], body: bytes, sender: Sender
    ) -> aiohttp.ClientResponse:
        timer = TimerNoop()
        connection, protocol = await self._connected(url)
        try:
            protocol.set_response_params(
                timer=timer,
                skip_payload=method == "HEAD",
                read_until_eof=True,
                auto_decompress=False,
                read_bufsize=_BUFFER_BYTES,
                max_line_size=HEAD_LINE_BYTES,
                max_field_size=HEAD_LINE_BYTES,
                max_headers=HEAD_LINES,
            )
            sent = CIMultiDict([("Host", url.host_port_subcomponent or ""), *headers])
            sent["Content-Length"] = str(len(body))
            sender.sending()
            writer = StreamWriter(protocol, self._loop)
            await writer.write_headers(f"{method} {url.raw_path_qs} HTTP/1.1", sent)
            await writer.write_eof(body)
            response = aiohttp.ClientResponse(
                method,
                url,
                writer=None,
                continue100=None,
                timer=timer,
                request_info=aiohttp.RequestInfo(url, method, CIMultiDictProxy(sent), url),
                traces=[],
                loop=self._loop,
                session=self.session,
                stream_writer=writer,
            )
            try:
                return await response.start(connection)
            except BaseException:
                response.close()
                raise
        except BaseException:
            connection.close()
            raise

    async def _connected(self, url: URL) -> tuple[Connection, ResponseHandler]:
        """A connection on which a request may begin to leave at once."""
        for _ in range(TRIED_MAX):
            connection = await self._connector.connect(self._origin(url), traces=[], timeout=_NO_TIMEOUT)
            try:
                await asyncio.sleep(0)  # calls that came together leave together: one wakes the upstream for all
            except BaseException:
                connection.close()
                raise
            protocol = connection.protocol
            if protocol is not None and protocol.is_connected():
                return connection, protocol
            connection.close()  # its upstream has closed it: nothing has left
        raise aiohttp.ServerDisconnectedError

    def _origin(self, url: URL) -> aiohttp.ClientRequest:
        """By which the pool knows connections to a host."""
        key = (url.scheme, url.raw_host, url.port)
        origin = self._origins.get(key)
        if origin is None:
            if len(self._origins) >= ORIGINS_MAX:
                self._origins.clear()
            origin = self._origins[key] = aiohttp.ClientRequest("GET", url.origin(), loop=self._loop)
        return origin
