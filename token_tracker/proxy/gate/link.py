"""One connection to Redis for scripts: commands are sent as they come, answers come in order, every wait is bounded.

A general client would take a connection for each call in flight and several times the processor time; the gate needs
one command whose answer is one string.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
import secrets
import ssl
import time
from collections import deque
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import cast
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

log = logging.getLogger("token_tracker.gateway")

_PARTS = sorted(files(__package__).joinpath("lua").iterdir(), key=lambda part: part.name)
SCRIPT = b"\n".join(part.read_bytes() for part in _PARTS if part.name.endswith(".lua"))
SCRIPT_SHA = hashlib.sha1(SCRIPT, usedforsecurity=False).hexdigest().encode()
NAMESPACE = "token-tracker"  # the hash tag of all keys
WAIT_S = 0.05
STUCK_S = 1.0  # an answer that is away so long will not come on this connection
Value = bytes | int | None
_ELSEWHERE = ("MOVED", "READONLY", "MASTERDOWN")  # another server has the keys now
_MOVES_MOST = 3
_MOVED = re.compile(r"MOVED \d+ (\S*):(\d+)")


class StoreUnavailable(Exception):
    """Redis gave no answer within the bound, or no usable one."""


class RedisError(Exception):
    """Redis answered with an error."""


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """What a `redis://`, `rediss://` or `unix://` URL says. `path`: of a socket, else ''."""

    host: str
    port: int
    path: str
    user: str
    password: str
    database: int
    is_tls: bool

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """Raises ValueError with a text that shows no password."""
        parts = urlsplit(url)
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise ValueError("REDIS_URL must begin with redis://, rediss:// or unix://.")
        is_socket = parts.scheme == "unix"
        number = parse_qs(parts.query).get("db", [""])[0] or ("" if is_socket else parts.path.strip("/"))
        try:
            database, port = int(number or 0), parts.port or 6379
        except ValueError:
            raise ValueError("REDIS_URL names no port or database number: redis://host:6379/0.") from None
        return cls(
            parts.hostname or "127.0.0.1",
            port,
            parts.path if is_socket else "",
            unquote(parts.username or ""),
            unquote(parts.password or ""),
            database,
            parts.scheme == "rediss",
        )


def command(*words: bytes) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        parts.append(b"$%d\r\n%b\r\n" % (len(word), word))
    return b"".join(parts)


class Answers:
    """Splits a stream of bytes into answers; arrays do not occur."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Value | RedisError]:
        """Raises ValueError for what is no answer that the gate asks for."""
        self._buffer += data
        found: list[Value | RedisError] = []
        start = 0
        while (end := self._buffer.find(b"\r\n", start)) >= 0:
            kind, text = self._buffer[start], bytes(self._buffer[start + 1 : end])
            start_of_next = end + 2
            if kind == 36 and (length := int(text)) >= 0:  # $
                if len(self._buffer) < start_of_next + length + 2:
                    break
                found.append(bytes(self._buffer[start_of_next : start_of_next + length]))
                start_of_next += length + 2
            elif kind == 36:
                found.append(None)
            elif kind == 43:  # +
                found.append(text)
            elif kind == 45:  # -
                found.append(RedisError(text.decode(errors="replace")))
            elif kind == 58:  # :
                found.append(int(text))
            else:
                raise ValueError("an answer of a kind that no command of the gate has")
            start = start_of_next
        del self._buffer[:start]
        return found


class Link(asyncio.Protocol):
    """An open connection. `closed` is done when it ends."""

    def __init__(self) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answers = Answers()
        self._asked: deque[tuple[asyncio.Future[Value], float]] = deque()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, address: RedisAddress) -> Link:
        """Raises OSError or TimeoutError."""
        loop = asyncio.get_running_loop()
        tls = ssl.create_default_context() if address.is_tls else None
        if address.path:
            _, link = await loop.create_unix_connection(cls, address.path)
        else:
            _, link = await loop.create_connection(cls, address.host, address.port, ssl=tls)
        return link

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name

    def data_received(self, data: bytes) -> None:
        try:
            answers = self._answers.feed(data)
        except ValueError as error:
            log.error("Redis sent %s; the connection is made anew", error)
            self.close()
            return
        for answer in answers:
            if not self._asked:
                self.close()
                return
            future, _ = self._asked.popleft()
            if future.done():
                continue
            if isinstance(answer, RedisError):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        for future, _ in self._asked:
            if not future.done():
                future.set_exception(StoreUnavailable("the connection to Redis was lost"))
        self._asked.clear()
        if not self.closed.done():
            self.closed.set_result(None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def ask(self, *words: bytes) -> asyncio.Future[Value]:
        """Send a command; its answer. Raises StoreUnavailable, RedisError (also later, from the answer)."""
        now_s = time.monotonic()
        if self._transport is None or self._transport.is_closing():
            raise StoreUnavailable("Redis is not connected")
        if self._asked and now_s - self._asked[0][1] > STUCK_S:
            self.close()
            raise StoreUnavailable("Redis does not answer")
        future: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
        self._asked.append((future, now_s))
        self._transport.write(command(*words))
        return future

    async def within(self, wait_s: float, *words: bytes) -> Value:
        """Raises StoreUnavailable, also when there is no answer in time; RedisError."""
        future = self.ask(*words)
        timer = asyncio.get_running_loop().call_later(wait_s, _give_up, future)
        try:
            return await future
        finally:
            timer.cancel()

    async def run(self, key: bytes, name: bytes, arguments: bytes, wait_s: float = WAIT_S) -> bytes:
        """The script's answer; the script is sent along where the server has forgotten it, within the same bound."""
        give_up_s = time.monotonic() + wait_s
        try:
            answer = await self.within(wait_s, b"EVALSHA", SCRIPT_SHA, b"1", key, name, arguments)
        except RedisError as error:
            if not str(error).startswith("NOSCRIPT"):
                if str(error).startswith(_ELSEWHERE):
                    self.close()
                raise StoreUnavailable(f"Redis refused: {error}") from error
            left_s = give_up_s - time.monotonic()
            try:
                answer = await self.within(left_s, b"EVAL", SCRIPT, b"1", key, name, arguments)
            except RedisError as second:
                raise StoreUnavailable(f"Redis refused: {second}") from second
        assert isinstance(answer, bytes)
        return answer


def _give_up(future: asyncio.Future[Value]) -> None:
    if not future.done():
        future.set_exception(StoreUnavailable("Redis gave no answer in time"))


async def connect(address: RedisAddress, wait_s: float) -> tuple[Link, dict[str, str]]:
    """A connection that has logged in, and what the server says of itself (`INFO`). Raises StoreUnavailable."""
    link: Link | None = None
    try:
        async with asyncio.timeout(wait_s):
            link = await Link.open(address)
            if address.password:
                login = (
                    (address.user.encode(), address.password.encode()) if address.user else (address.password.encode(),)
                )
                await link.ask(b"AUTH", *login)
            if address.database:
                await link.ask(b"SELECT", b"%d" % address.database)
            information = await link.ask(b"INFO")
    except (OSError, TimeoutError, RedisError, StoreUnavailable) as error:
        if link is not None:
            link.close()
        raise StoreUnavailable(
            f"Redis at {address.path or f'{address.host}:{address.port}'}: {error or 'no answer'}"
        ) from error
    return link, facts(information)


def facts(information: Value) -> dict[str, str]:
    """What an answer to `INFO` says, by name."""
    assert isinstance(information, bytes)
    lines = information.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


@dataclass(frozen=True, slots=True)
class Session:
    """A connection to the server that holds the keys, and the generation of its state. `replaced`: the generation that
    was lost, where this session has just begun a new one; else ''."""

    link: Link
    information: dict[str, str]
    generation: str
    replaced: str


async def enter(address: RedisAddress, key: bytes, wait_s: float) -> Session:
    """Connect, in a cluster to the node that has `key`, and find out whether the server is still the one that was told
    everything. Raises StoreUnavailable."""
    for _ in range(_MOVES_MOST):
        link, information = await connect(address, wait_s)
        found = msgspec.msgpack.encode({"run": information.get("run_id", ""), "new_id": secrets.token_hex(6)})
        try:
            await link.within(wait_s, b"SCRIPT", b"LOAD", SCRIPT)
            answer = await link.run(key, b"generation", found, wait_s)
        except (RedisError, StoreUnavailable) as error:
            link.close()
            if (moved := _MOVED.search(str(error))) is None:
                raise StoreUnavailable(str(error)) from error
            address = replace(address, host=moved[1] or address.host, port=int(moved[2]), path="")
            continue
        generation, _, replaced = msgspec.msgpack.decode(answer)
        return Session(link, information, generation, replaced)
    raise StoreUnavailable("the nodes of the Redis cluster name each other for the gate's keys")


async def closed(link: Link) -> None:
    link.close()
    with contextlib.suppress(asyncio.CancelledError):
        await link.closed
