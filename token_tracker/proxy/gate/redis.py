"""The store of many gateway workers: counters in Redis, one script call for an admission, all else in batches."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from token_tracker.domain.holds import Ask
from token_tracker.domain.limits import LEASE_US
from token_tracker.proxy.gate.link import (
    NAMESPACE,
    WAIT_S,
    Link,
    RedisAddress,
    RedisError,
    StoreUnavailable,
    closed,
    enter,
)
from token_tracker.proxy.gate.places import Placed, Places
from token_tracker.proxy.gate.redis_shapes import (
    admitted,
    ask_shape,
    decode,
    encode,
    place_operation,
    position_of,
    refused,
    static_of,
)
from token_tracker.proxy.gate.refusals import all_waiting, away, building
from token_tracker.proxy.gate.store import (
    MEMBERS_MOST,
    NOT_BOOKED,
    Books,
    CounterState,
    Entry,
    Position,
    Reason,
    Verdict,
)

log = logging.getLogger("token_tracker.gateway")

CONNECT_S = 1.0
SILENT_S = 10  # single lost answers are not worth a line each
POLL_S = 0.5
GATHER_S = 0.003
BATCH = 100
QUEUED_MOST = 50_000
RECOVERY_S = 6  # more than a heartbeat, so that every living gateway has told again what it holds


REMOVE = b"""local found = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', 500)
for _, key in ipairs(found[2]) do redis.call('UNLINK', key) end
return found[1]"""


class WrongEvictionPolicy(Exception):
    """Redis may throw counters away."""


class RedisStore:
    """A `Store`. `on_lost` is called when the server's state is gone: all entries are to be placed again.

    `namespace` is the hash tag of all keys. `recovery_s`: how long after a loss hard budgets wait at least.
    """

    def __init__(
        self,
        url: str,
        incarnation: str,
        *,
        namespace: str = NAMESPACE,
        recovery_s: float = RECOVERY_S,
        members_most: int = MEMBERS_MOST,
        wait_s: float = WAIT_S,
    ) -> None:
        """Raises ValueError for a URL that is none of Redis."""
        self.on_lost: Callable[[], None] = lambda: None
        self.problem = ""  # why the store is away, '' while it is not
        self._address = RedisAddress.parse(url)
        self._incarnation = incarnation
        self._key = b"{%b}:g" % namespace.encode()
        self._recovery_s, self._members_most, self._wait_s = recovery_s, members_most, wait_s
        self._link: Link | None = None
        self._generation = ""
        self._to_tell = 0  # operations until this generation knows all that this gateway holds
        self._is_recovered = False
        self._ready: frozenset[str] = frozenset()
        self._booked: Position = NOT_BOOKED
        self._queue: deque[dict[str, Any]] = deque()
        self._batch: list[dict[str, Any]] = []
        self._sequence = 0
        self._sent = 0  # batches that were taken, polls included
        self._leases: dict[str, list[str]] = {}
        self._wake = asyncio.Event()
        self._changed = asyncio.Condition()
        self._work: asyncio.Task[None] | None = None
        self._silent_until_s = 0.0

    async def start(self) -> None:
        """Connect, and go on in the background even if that fails. Raises WrongEvictionPolicy."""
        try:
            await self._connect()
        except StoreUnavailable as error:
            self._note(error)
        self._work = asyncio.create_task(self._work_on(), name="gate store")

    async def close(self) -> None:
        """Tell what is still to be told, if the server is there, and leave."""
        if self._work is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CONNECT_S if self._link else 0):
                    await self.settled()
            self._work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._work
        if self._link is not None:
            await closed(self._link)

    async def admit(self, ask: Ask, placed: Placed) -> Verdict:
        if placed.hard:
            if self._generation and (self._to_tell > 0 or not self._is_recovered):
                return Verdict(all_waiting(placed.hard, Reason.STORE_RECOVERING))
            if self._generation and (waiting := building(placed, self._ready)):
                return Verdict(waiting)
        link = self._link
        if link is None or not self._generation or len(self._queue) > QUEUED_MOST:
            return away(ask, placed)
        static, generation = static_of(placed), self._generation
        shape = ask_shape(ask, static, generation, self._incarnation, self._members_most)
        try:
            answer = decode(await self._run(link, shape))
        except StoreUnavailable as error:
            self._note(error)
            return self._unknown(ask, placed)
        except asyncio.CancelledError:
            self._queue_up({"kind": "free", "incarnation": self._incarnation, "id": ask.id, "is_unknown": True})
            raise
        if generation != self._generation:  # counted in a state that is lost, and not among what was told again
            answer = ["lost"]
        match answer[0]:
            case "admitted":
                if static.has_leases:
                    self._leases[ask.id] = [each.counter for each in placed.rates if each.rule.unit == "concurrent"]
                return admitted(ask, placed, answer)
            case "refused":
                return refused(ask, placed, answer) or away(ask, placed)
            case "lost" | "recovering":
                self._wake.set()
                if placed.hard:
                    return Verdict(all_waiting(placed.hard, Reason.STORE_RECOVERING))
        return away(ask, placed)

    async def _run(self, link: Link, shape: bytes) -> bytes:
        return await link.run(self._key, b"admit", shape, self._wait_s)

    def _unknown(self, ask: Ask, placed: Placed) -> Verdict:
        """No answer: whatever was taken is given back, unless the rules let the call go; then it is told again."""
        verdict = away(ask, placed)
        if not verdict.is_admitted:
            self._queue_up({"kind": "free", "incarnation": self._incarnation, "id": ask.id, "is_unknown": True})
        return verdict

    def place(self, entries: Sequence[tuple[Entry, Places]]) -> None:
        for entry, places in entries:
            if not entry.is_live:
                self._leases.pop(entry.id, None)
            self._queue.append(place_operation(entry, places))
        self._wake.set()

    def free(self, call_id: str, incarnation: str) -> None:
        self._leases.pop(call_id, None)
        self._queue_up({"kind": "free", "incarnation": incarnation, "id": call_id})

    def recovered(self) -> None:
        """Redis itself knows when it has been told everything."""

    def renew(self, call_ids: Iterable[str], now_us: int) -> None:
        for call_id in call_ids:
            if counters := self._leases.get(call_id):
                self._queue_up({"kind": "renew", "id": call_id, "counters": counters, "until_us": now_us + LEASE_US})

    def take_books(self, books: Books) -> None:
        """The recorder tells Redis itself."""

    def booked(self, incarnation: str) -> Position:
        return self._booked if incarnation == self._incarnation else NOT_BOOKED

    async def settled(self) -> None:
        """Until all that is queued now has been taken, and what the server knows has been seen after that."""
        self._wake.set()
        seen = self._sent
        async with self._changed:
            await self._changed.wait_for(lambda: not self._queue and not self._batch and self._sent > seen)

    async def counter(self, counter: str, first_bucket: int, last_bucket: int) -> CounterState:
        """Raises StoreUnavailable."""
        if self._link is None:
            raise StoreUnavailable("Redis is not connected")
        asked = encode({"counter": counter, "first": first_bucket, "last": last_bucket})
        cells = decode(await self._link.run(self._key, b"counter", asked, CONNECT_S))
        return CounterState(*(sum(int(cell[place]) for cell in cells) for place in range(3)))

    def _queue_up(self, operation: dict[str, Any]) -> None:
        self._queue.append(operation)
        self._wake.set()

    def _note(self, error: Exception) -> None:
        if not self.problem and time.monotonic() >= self._silent_until_s:
            self._silent_until_s = time.monotonic() + SILENT_S
            log.error("the gate's store is away: %s; rules decide by their on_store_error until it is back", error)
        self.problem = str(error)

    async def _work_on(self) -> None:
        pause_s = 0.05
        while True:
            try:
                if self._link is None or not self._link.is_open:
                    await self._connect()
                await self._send_batch()
                pause_s = 0.05
            except (StoreUnavailable, WrongEvictionPolicy) as error:
                self._note(error)
                if self._link is not None and not self._link.is_open:
                    self._link = None
                await asyncio.sleep(pause_s)
                pause_s = min(1.0, pause_s * 2)

    async def _connect(self) -> None:
        self._link = None
        session = await enter(self._address, self._key, CONNECT_S)
        policy = session.information.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            session.link.close()
            raise WrongEvictionPolicy(
                f"Redis has maxmemory-policy {policy}: under pressure it would throw budgets' counters away. Set "
                "'maxmemory-policy noeviction' (CONFIG SET and redis.conf), or give Token Tracker a Redis of its own."
            )
        self._link = session.link
        if session.generation != self._generation:
            self._begin(session.generation)
        if session.replaced:
            await self._remove(session.link, session.replaced)

    async def _remove(self, link: Link, generation: str) -> None:
        """The keys of a state that counts no more."""
        pattern, cursor = self._key[:-1] + generation.encode() + b":*", b"0"
        while True:
            try:
                cursor = cast(bytes, await link.within(CONNECT_S, b"EVAL", REMOVE, b"1", self._key, cursor, pattern))
            except RedisError as error:
                raise StoreUnavailable(str(error)) from error
            if cursor == b"0":
                return

    def _begin(self, generation: str) -> None:
        """The server knows nothing of ours: all entries are told again, and what was queued is among them."""
        if self._generation:
            log.warning("Redis lost its state: the gate's counters are built again from the books and the gateways")
        self._generation = generation
        self._is_recovered, self._ready, self._booked = False, frozenset(), NOT_BOOKED
        self._queue.clear()
        self._batch = []
        self.on_lost()
        self._to_tell = len(self._queue) + 1

    async def _send_batch(self) -> None:
        """One batch, or an empty one from time to time: its answer tells what the server knows."""
        if not self._batch:
            if not self._queue:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._wake.wait()
                if self._queue:
                    await asyncio.sleep(GATHER_S)  # what comes together goes together
            self._wake.clear()
            self._batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            self._sequence += 1
        link, generation, count = self._link, self._generation, len(self._batch)
        if link is None:
            raise StoreUnavailable("Redis is not connected")
        answer = decode(await link.run(self._key, b"batch", self._batch_shape(), CONNECT_S))
        if generation != self._generation:
            return
        if answer[0] == "lost":
            link.close()  # connecting tells the generation, or makes a new one
            raise StoreUnavailable("Redis has lost the gate's counters")
        _, state, booked, ready = answer
        self._is_recovered = state == "ready"
        self._booked, self._ready = position_of(booked), frozenset(ready)
        self._batch = []
        if self._to_tell > 0:
            self._to_tell = max(0, self._to_tell - max(1, count))
        self._sent += 1
        if self.problem:
            log.info("the gate's store answers")
            self.problem = ""
        async with self._changed:
            self._changed.notify_all()

    def _batch_shape(self) -> bytes:
        return encode(
            {
                "generation": self._generation,
                "incarnation": self._incarnation,
                "sequence": self._sequence,
                "recovery_s": self._recovery_s,
                "operations": self._batch,
            }
        )
