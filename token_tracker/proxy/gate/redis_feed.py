"""A gateway's side of Redis beside admissions: the connection, what is still to be told, and what the server knows."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from token_tracker.proxy.gate.link import (
    NAMESPACE,
    Link,
    RedisAddress,
    RedisError,
    StoreUnavailable,
    closed,
    enter,
    facts,
)
from token_tracker.proxy.gate.redis_shapes import decode, encode, position_of
from token_tracker.proxy.gate.store import NOT_BOOKED, Position

log = logging.getLogger("token_tracker.gateway")

CONNECT_S = 1.0
SILENT_S = 10  # single lost answers are not worth a line each
POLL_S = 0.5
GATHER_S = 0.003
POLICY_S = 5.0
BATCH = 100
QUEUED_MOST = 50_000
RECOVERY_S = 6  # more than a heartbeat, so that every living gateway has told again what it holds
REMOVE = b"""local found = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', 500)
for _, key in ipairs(found[2]) do redis.call('UNLINK', key) end
return found[1]"""


class WrongEvictionPolicy(Exception):
    """Redis may throw counters away."""


def check_policy(information: dict[str, str]) -> None:
    """Raises WrongEvictionPolicy."""
    policy = information.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise WrongEvictionPolicy(
            f"Redis has maxmemory-policy {policy}: under pressure it would throw budgets' counters away. Set "
            "'maxmemory-policy noeviction' (CONFIG SET and redis.conf), or give Token Tracker a Redis of its own."
        )


class RedisFeed:
    """Operations go out in batches with a sequence number, in order, each repeated until it is taken; an empty one now
    and then tells the server that this gateway lives, and the gateway what the server knows.

    `link` None: not connected. `generation` '': no server was ever seen. `is_told`: this generation knows all that this
    gateway holds; `is_recovered`: and all that others know. `ready`: rules whose bases are there. `booked`: how far
    this gateway's journal is. `problem`: why the store is away, '' while it is not.
    """

    def __init__(self, url: str, incarnation: str, namespace: str = NAMESPACE, recovery_s: float = RECOVERY_S) -> None:
        """Raises ValueError for a URL that is none of Redis."""
        self.on_lost: Callable[[], None] = lambda: None
        self.problem = ""
        self.key = b"{%b}:g" % namespace.encode()
        self.link: Link | None = None
        self.generation = ""
        self.is_recovered = False
        self.ready: frozenset[str] = frozenset()
        self.booked: Position = NOT_BOOKED
        self._address = RedisAddress.parse(url)
        self._incarnation, self._recovery_s = incarnation, recovery_s
        self._to_tell = 0  # operations until this generation knows all that this gateway holds
        self._queue: deque[dict[str, Any]] = deque()
        self._batch: list[dict[str, Any]] = []
        self._sequence = 0
        self._sent = 0  # batches that were taken, polls included
        self._wake = asyncio.Event()
        self._changed = asyncio.Condition()
        self._work: asyncio.Task[None] | None = None
        self._silent_until_s = self._policy_due_s = 0.0

    @property
    def is_told(self) -> bool:
        return self._to_tell == 0

    @property
    def queued(self) -> int:
        """Operations that the server has not taken yet."""
        return len(self._queue) + len(self._batch)

    @property
    def is_overdue(self) -> bool:
        return len(self._queue) > QUEUED_MOST

    async def start(self) -> None:
        """Connect, ask what the server knows, and go on in the background even if that fails: one that begins beside
        others must not refuse calls because it has not looked yet. Raises WrongEvictionPolicy."""
        try:
            await self._connect()
        except StoreUnavailable as error:
            self.note(error)
        self._work = asyncio.create_task(self._work_on(), name="gate store")
        if self.link is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CONNECT_S):
                    await self.settled()

    async def close(self) -> None:
        """Tell what is still to be told, if the server is there, and leave."""
        if self._work is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CONNECT_S if self.link else 0):
                    await self.settled()
        await self.stop()

    async def stop(self) -> None:
        """Leave at once; what was queued is never told."""
        if self._work is not None:
            self._work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._work
        if self.link is not None:
            await closed(self.link)

    def put(self, operation: dict[str, Any]) -> None:
        self._queue.append(operation)
        self._wake.set()

    def wake(self) -> None:
        """Look soon at what the server knows."""
        self._wake.set()

    async def settled(self) -> None:
        """Until all that is queued now has been taken, and what the server knows has been seen after that."""
        self._wake.set()
        seen = self._sent
        async with self._changed:
            await self._changed.wait_for(lambda: not self._queue and not self._batch and self._sent > seen)

    def note(self, error: Exception) -> None:
        """The store is away; said once."""
        if not self.problem and time.monotonic() >= self._silent_until_s:
            self._silent_until_s = time.monotonic() + SILENT_S
            log.error("the gate's store is away: %s; rules decide by their on_store_error until it is back", error)
        self.problem = str(error)

    def begin(self, generation: str) -> None:
        """The server knows nothing of ours: all entries are told again, and what was queued is among them."""
        if self.generation:
            log.warning("Redis lost its state: the gate's counters are built again from the books and the gateways")
        self.generation = generation
        self.is_recovered, self.ready, self.booked = False, frozenset(), NOT_BOOKED
        self._queue.clear()
        self._batch = []
        self.on_lost()
        self._to_tell = len(self._queue) + 1

    async def _work_on(self) -> None:
        pause_s = 0.05
        while True:
            try:
                if self.link is None or not self.link.is_open:
                    await self._connect()
                await self._send_batch()
                await self._look_at_policy()
                pause_s = 0.05
                continue
            except (StoreUnavailable, WrongEvictionPolicy) as error:
                self.note(error)
            except Exception as error:  # an answer that none of ours is
                log.exception("Redis answered what nobody expected; the connection is made anew")
                self.note(error)
                if self.link is not None:
                    self.link.close()
            if self.link is not None and not self.link.is_open:
                self.link = None
            await asyncio.sleep(pause_s)
            pause_s = min(1.0, pause_s * 2)

    async def _connect(self) -> None:
        self.link = None
        session = await enter(self._address, self.key, CONNECT_S)
        try:
            check_policy(session.information)
        except WrongEvictionPolicy:
            session.link.close()
            raise
        self._policy_due_s = time.monotonic() + POLICY_S
        self.link = session.link
        if session.generation != self.generation:
            self.begin(session.generation)
        if session.replaced:
            await self._remove(session.link, session.replaced)

    async def _look_at_policy(self) -> None:
        """It may be set while the server runs."""
        link = self.link
        if link is None or time.monotonic() < self._policy_due_s:
            return
        self._policy_due_s = time.monotonic() + POLICY_S
        try:
            check_policy(facts(await link.within(CONNECT_S, b"INFO", b"memory")))
        except RedisError as error:
            raise StoreUnavailable(str(error)) from error
        except WrongEvictionPolicy:
            link.close()
            raise

    async def _remove(self, link: Link, generation: str) -> None:
        """The keys of a state that counts no more."""
        pattern, cursor = self.key[:-1] + generation.encode() + b":*", b"0"
        while True:
            try:
                cursor = cast(bytes, await link.within(CONNECT_S, b"EVAL", REMOVE, b"1", self.key, cursor, pattern))
            except RedisError as error:
                raise StoreUnavailable(str(error)) from error
            if cursor == b"0":
                return

    async def _send_batch(self) -> None:
        await self._gather()
        link, generation, count = self.link, self.generation, len(self._batch)
        if link is None:
            raise StoreUnavailable("Redis is not connected")
        answer = decode(await link.run(self.key, b"batch", self._batch_shape(), CONNECT_S))
        if generation != self.generation:
            return
        if answer[0] == "lost":
            link.close()  # connecting tells the generation, or makes a new one
            raise StoreUnavailable("Redis has lost the gate's counters")
        _, state, booked, ready = answer
        self.is_recovered = state == "ready"
        self.booked, self.ready = position_of(booked), frozenset(ready)
        self._batch = []
        if self._to_tell > 0:
            self._to_tell = max(0, self._to_tell - max(1, count))
        self._sent += 1
        if self.problem:
            log.info("the gate's store answers")
            self.problem = ""
        async with self._changed:
            self._changed.notify_all()

    async def _gather(self) -> None:
        """The next batch, unless one is still to be repeated; an empty one if nothing comes for a while."""
        if self._batch:
            return
        if not self._queue:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()
            if self._queue:
                await asyncio.sleep(GATHER_S)  # what comes together goes together
        self._wake.clear()
        self._batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
        self._sequence += 1

    def _batch_shape(self) -> bytes:
        return encode(
            {
                "generation": self.generation,
                "incarnation": self._incarnation,
                "sequence": self._sequence,
                "recovery_s": self._recovery_s,
                "is_told": self._to_tell <= max(1, len(self._batch)),
                "operations": self._batch,
            }
        )
