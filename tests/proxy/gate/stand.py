"""A gate on either store, its books, and calls in few words."""

from __future__ import annotations

import itertools
import os
import secrets
import warnings
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

from token_tracker.domain.holds import Ask
from token_tracker.domain.rules import BudgetRule, CallFacts, RateRule
from token_tracker.domain.windows import NEVER_S
from token_tracker.proxy.gate.gate import Gate
from token_tracker.proxy.gate.link import RedisAddress, connect
from token_tracker.proxy.gate.memory import MemoryStore
from token_tracker.proxy.gate.places import Rules
from token_tracker.proxy.gate.redis import RedisStore
from token_tracker.proxy.gate.redis_books import RedisBooks
from token_tracker.proxy.gate.store import Base, Books, CounterBucket, CounterState, Entry, Position, Verdict

REDIS_URL = os.environ.get("TEST_REDIS_URL") or "redis://127.0.0.1:6379/9"
NOON_US = 1_790_000_000_000_000 // 86_400_000_000 * 86_400_000_000 + 43_200_000_000
FACTS = CallFacts(key="k", user="u", team="t", models=frozenset({"m"}), providers=frozenset({"p"}))
Result = TypeVar("Result")


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """What is left open is told afterwards: a warning raised in uvloop's closing would keep it there for ever."""
    with warnings.catch_warnings(record=True) as left_open:
        warnings.simplefilter("always", ResourceWarning)
        result = uvloop.run(coroutine)
    assert not left_open, [str(each.message) for each in left_open]
    return result


def budget(limit: int | None = 1000, **more: Any) -> BudgetRule:
    given = {
        "id": "b",
        "scope_type": "global",
        "scope_id": "",
        "model": "",
        "period": "daily",
        "timezone": "UTC",
        "starts_at_us": 0,
        "limit_nano_usd": limit,
        "is_built": True,
    }
    return BudgetRule(**(given | more))


def rate(limit: int, unit: str = "requests", period: str = "minute", **more: Any) -> RateRule:
    given = {"id": f"r-{unit}", "scope_type": "global", "scope_id": "", "model": ""}
    return RateRule(**(given | {"unit": unit, "limit": limit, "period": period} | more))


class Stand:
    """`async with Stand(kind) as stand`: one gate, its store, and the books' side of it."""

    def __init__(self, kind: str, **options: Any) -> None:
        self.kind, self.options = kind, options
        self.namespace = f"test-{secrets.token_hex(8)}"
        self.numbers = itertools.count(1)
        self.gates: list[Gate] = []
        self.stores: list[MemoryStore | RedisStore] = []
        self.redis_books = RedisBooks(REDIS_URL, namespace=self.namespace)
        self.last_books = Books()

    async def __aenter__(self) -> Stand:
        await self.add_gate()
        return self

    async def __aexit__(self, *_: object) -> None:
        for store in self.stores:
            await store.close()
        if self.kind == "redis":
            await self.redis_books.close()
            await sweep(self.namespace)

    @property
    def gate(self) -> Gate:
        return self.gates[-1]

    @property
    def store(self) -> MemoryStore | RedisStore:
        return self.stores[-1]

    async def add_gate(self, incarnation: str = "") -> Gate:
        incarnation = incarnation or f"{len(self.gates) + 1:08x}"
        store: MemoryStore | RedisStore
        if self.kind == "memory":
            store = MemoryStore(incarnation, **self.options)
        else:
            options = {"recovery_s": 0.0, "wait_s": 1.0} | self.options
            make = options.pop("make", RedisStore)
            store = make(REDIS_URL, incarnation, namespace=self.namespace, **options)
            await store.start()
        self.stores.append(store)
        self.gates.append(Gate(store, incarnation))
        return self.gates[-1]

    async def rules(self, *rules: BudgetRule | RateRule) -> None:
        """They apply, and their counters stand."""
        budgets = [each for each in rules if isinstance(each, BudgetRule)]
        rates = [each for each in rules if isinstance(each, RateRule)]
        for gate in self.gates:
            gate.set_rules(Rules(budgets, rates))
        await self.books(ready=frozenset(each.id for each in budgets), is_complete=True)
        for store in self.stores:
            if isinstance(store, MemoryStore):
                store.recovered()

    async def books(
        self,
        bases: dict[tuple[str, int], Base] | None = None,
        positions: dict[str, Position] | None = None,
        ready: frozenset[str] = frozenset(),
        is_complete: bool = False,
    ) -> None:
        named = {CounterBucket(*name): base for name, base in (bases or {}).items()}
        books = Books(named, positions or {}, ready)
        if self.kind == "memory":
            for gate in self.gates:
                gate.take_books(books)
            return
        while not await self.redis_books.send(books, is_complete):
            is_complete = True
        await self.settled()

    async def settled(self) -> None:
        for store in self.stores:
            await store.settled()

    async def ask(self, usd: int = 100, *, now_us: int = NOON_US, facts: CallFacts = FACTS, **more: Any) -> Verdict:
        """A call with the id of its number, whose worst case is `usd` nano-dollars unless `more` says otherwise."""
        ask = Ask(**({"id": f"c{next(self.numbers)}", "now_us": now_us, "facts": facts, "usd_fixed_nano": usd} | more))
        return await self.gate.admit(ask, self.gate.demands(facts))

    async def end(
        self,
        call_id: str,
        spent: int,
        *,
        unproven: int = 0,
        tokens: int = 0,
        at: Position = (0, 1),
        now_us: int = NOON_US,
        facts: CallFacts = FACTS,
        gate: Gate | None = None,
    ) -> None:
        gate = gate or self.gate
        gate.settle(Entry(call_id, gate.incarnation, now_us, facts, spent, tokens, unproven, 0, at))
        await self.settled()

    async def state(self, counter: str = "b|usd|") -> CounterState:
        await self.settled()
        return await self.store.counter(counter, 0, NEVER_S)


async def sweep(namespace: str) -> None:
    """Remove the keys of a test."""
    link, _ = await connect(RedisAddress.parse(REDIS_URL), 1.0)
    script = (
        "local n = 0 local c = '0' repeat local r = redis.call('SCAN', c, 'MATCH', ARGV[1], 'COUNT', 1000) c = r[1] "
        "for _, k in ipairs(r[2]) do redis.call('UNLINK', k) n = n + 1 end until c == '0' return n"
    )
    await link.within(5.0, b"EVAL", script.encode(), b"0", b"{%b}:*" % namespace.encode())
    link.close()
    await link.closed


async def kill(store: RedisStore) -> None:
    """As the kernel does: what was queued is never sent."""
    await store._feed.stop()
