"""The store of many gateway workers: counters in Redis, one script call for an admission, all else in batches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

from token_tracker.domain.holds import Ask
from token_tracker.domain.limits import LEASE_US
from token_tracker.proxy.gate.link import NAMESPACE, WAIT_S, Link, StoreUnavailable
from token_tracker.proxy.gate.places import Placed, Places
from token_tracker.proxy.gate.redis_feed import CONNECT_S, RECOVERY_S, RedisFeed
from token_tracker.proxy.gate.redis_shapes import (
    admitted,
    ask_shape,
    decode,
    encode,
    place_operation,
    refused,
    static_of,
)
from token_tracker.proxy.gate.refusals import away, waiting
from token_tracker.proxy.gate.store import (
    MEMBERS_MOST,
    NOT_BOOKED,
    Books,
    CounterState,
    Entry,
    Position,
    Refused,
    StoreFigures,
    StoreState,
    Verdict,
    admission_waits,
)


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
        self._feed = RedisFeed(url, incarnation, namespace, recovery_s)
        self._incarnation, self._members_most, self._wait_s = incarnation, members_most, wait_s
        self._leases: dict[str, list[str]] = {}
        self._waits = admission_waits()
        self._strange: frozenset[str] = frozenset()
        self._leaks = 0

    @property
    def on_lost(self) -> Callable[[], None]:
        return self._feed.on_lost

    @on_lost.setter
    def on_lost(self, tell_again: Callable[[], None]) -> None:
        self._feed.on_lost = tell_again

    @property
    def problem(self) -> str:
        """Why the store is away, '' while it is not."""
        return self._feed.problem

    @property
    def figures(self) -> StoreFigures:
        feed = self._feed
        state = StoreState.READY if feed.is_told and feed.is_recovered else StoreState.RECOVERING
        if feed.problem or feed.link is None or not feed.generation:
            state = StoreState.AWAY
        return StoreFigures("redis", state, feed.queued, self._waits, self._leaks)

    async def start(self) -> None:
        """Connect, and go on in the background even if that fails. Raises WrongEvictionPolicy."""
        await self._feed.start()

    async def close(self) -> None:
        """Tell what is still to be told, if the server is there, and leave."""
        await self._feed.close()

    async def settled(self) -> None:
        await self._feed.settled()

    async def admit(self, ask: Ask, placed: Placed) -> Verdict:
        feed, said = self._feed, self._waiting(placed)
        link, generation = feed.link, feed.generation
        if link is None or not generation or feed.is_overdue:
            return Verdict(said) if said else away(ask, placed)
        static = static_of(placed)
        shape = ask_shape(ask, static, generation, self._incarnation, self._members_most, bool(said))
        try:
            answer = decode(await self._run(link, shape))
        except StoreUnavailable as error:
            feed.note(error)
            return Verdict(said) if said else self._unknown(ask, placed)
        except asyncio.CancelledError:
            self._give_back(ask.id)
            raise
        if generation != feed.generation:  # counted in a state that is lost, and not among what was told again
            answer = ["lost"]
        match answer[0]:
            case "admitted":
                if static.has_leases:
                    self._leases[ask.id] = [each.counter for each in placed.rates if each.rule.unit == "concurrent"]
                return admitted(ask, placed, answer)
            case "refused" | "recovering":
                if answer[0] == "recovering":
                    feed.wake()
                    said = waiting(placed, None)
                return refused(ask, placed, answer, said) or away(ask, placed)
            case "lost":
                feed.wake()
                if placed.hard:
                    return Verdict(waiting(placed, None))
        return Verdict(said) if said else away(ask, placed)

    def _waiting(self, placed: Placed) -> tuple[Refused, ...]:
        """What is known here already of hard budgets that cannot count yet."""
        feed = self._feed
        if not placed.hard or not feed.generation:
            return ()
        return waiting(placed, feed.ready if feed.is_told and feed.is_recovered else None)

    async def _run(self, link: Link, shape: bytes) -> bytes:
        began_s = time.monotonic()
        try:
            return await link.run(self._feed.key, b"admit", shape, self._wait_s)
        finally:
            self._waits.add((time.monotonic() - began_s) * 1000)

    def _unknown(self, ask: Ask, placed: Placed) -> Verdict:
        """No answer: whatever was taken is given back, unless the rules let the call go; then it is told again."""
        verdict = away(ask, placed)
        if not verdict.is_admitted:
            self._give_back(ask.id)
        return verdict

    def _give_back(self, call_id: str) -> None:
        """Its admission was given up without an answer, and may still come."""
        self._put("free", call_id, incarnation=self._incarnation, is_unknown=True)

    def place(self, entries: Sequence[tuple[Entry, Places]]) -> None:
        for entry, places in entries:
            if not entry.is_live:
                self._leases.pop(entry.id, None)
            self._feed.put(place_operation(entry, places))

    def free(self, call_id: str, incarnation: str) -> None:
        self._leases.pop(call_id, None)
        self._put("free", call_id, incarnation=incarnation)

    def recovered(self) -> None:
        """Redis itself knows when it has been told everything."""

    def renew(self, call_ids: Iterable[str], now_us: int) -> None:
        for call_id in call_ids:
            if counters := self._leases.get(call_id):
                self._put("renew", call_id, counters=counters, until_us=now_us + LEASE_US)

    async def compare(self, known: Container[str]) -> None:
        """Twice in a row: an admission may just be on its way. Raises StoreUnavailable."""
        feed = self._feed
        if feed.link is None:
            raise StoreUnavailable("Redis is not connected")
        asked = encode({"incarnation": self._incarnation})
        generation, ids = decode(await feed.link.run(feed.key, b"live", asked, CONNECT_S))
        strange = frozenset(call_id for call_id in ids if call_id not in known)
        leaked = strange & self._strange if generation == feed.generation else frozenset()
        self._strange = strange - leaked
        for call_id in leaked:
            self._leaks += 1
            self.free(call_id, self._incarnation)

    def take_books(self, books: Books) -> None:
        """The recorder tells Redis itself."""

    def booked(self, incarnation: str) -> Position:
        return self._feed.booked if incarnation == self._incarnation else NOT_BOOKED

    async def counter(self, counter: str, first_bucket: int, last_bucket: int) -> CounterState:
        """Raises StoreUnavailable."""
        feed = self._feed
        if feed.link is None:
            raise StoreUnavailable("Redis is not connected")
        asked = encode({"counter": counter, "first": first_bucket, "last": last_bucket})
        cells = decode(await feed.link.run(feed.key, b"counter", asked, CONNECT_S))
        return CounterState(*(sum(int(cell[place]) for cell in cells) for place in range(3)))

    def _put(self, kind: str, call_id: str, **more: Any) -> None:
        self._feed.put({"kind": kind, "id": call_id, **more})
