"""Minutes of traffic in seconds: many clients, gateways that die, answers that get lost, a store that forgets, clocks
that jump; all from one seed. The provider's own books decide whether the caps were hard.

    python -m tests.proxy.gate.simulation memory|redis [seed]
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import uvloop
from msgspec import structs

from tests.proxy.gate.ledger import Ledger
from tests.proxy.gate.stand import NOON_US, Stand, budget, kill, rate, sweep
from token_tracker.domain.holds import Ask, unproven_of
from token_tracker.domain.rules import BudgetRule, CallFacts
from token_tracker.domain.windows import NEVER_S, bucket_of
from token_tracker.proxy.gate.gate import Gate
from token_tracker.proxy.gate.link import Link, StoreUnavailable
from token_tracker.proxy.gate.memory import MemoryStore
from token_tracker.proxy.gate.places import Rules
from token_tracker.proxy.gate.redis import RedisStore
from token_tracker.proxy.gate.store import END, CounterState, Entry

TICK_US = 50_000
CLIENTS = 200
TOKEN_NANO = 600  # what an output token costs
BUDGETS = (
    budget(900_000_000, id="total", period="total", limit_tokens=3_000_000),
    budget(200_000_000, id="team", scope_type="team", scope_id="*", period="rolling_24h"),
    budget(120_000_000, id="dear", model="dear", period="hourly"),
)
RATES = (rate(9000), rate(190, "concurrent", ""))


class Broken(AssertionError):
    """A law did not hold."""


@dataclass
class Call:
    gate: Gate
    entry: Entry
    cost: int  # nano-dollars at the provider
    tokens: int


@dataclass
class Figures:
    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    largest: dict[str, tuple[int, int]] = field(default_factory=dict)  # spent + held + unproven, limit

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        largest = ", ".join(f"{name} {most} of {limit}" for name, (most, limit) in self.largest.items())
        return f"seed {self.seed}: {counts}; largest spent + held + unproven: {largest}"


class Forgetful(RedisStore):
    """Some answers never arrive, though the server has done what it was asked."""

    chance = random.Random(0)

    async def _run(self, link: Link, shape: bytes) -> bytes:
        answer = await super()._run(link, shape)
        if self.chance.random() < 0.03:
            raise StoreUnavailable("the answer was lost")
        return answer


class Simulation:
    """`plant`: a bug that must be found: 'short hold' (one token less) or 'crash forgiven' (its hold is given back).
    `full_share`: of calls that cost all that was held for them."""

    def __init__(self, kind: str, seed: int, *, minutes: float = 3, plant: str = "", full_share: float = 0.6) -> None:
        self.kind, self.plant, self.full_share = kind, plant, full_share
        self.random = random.Random(seed)
        self.figures = Figures(seed)
        self.ticks = int(minutes * 60_000_000 / TICK_US)
        self.now_us = NOON_US
        self.stand = Stand(kind, **({"make": Forgetful} if kind == "redis" else {}))
        Forgetful.chance = random.Random(seed + 1)
        self.ledger = Ledger()
        self.gates: list[Gate] = []
        self.dead: list[str] = []
        self.ends: list[tuple[int, int, Call]] = []  # heap by tick
        self.number = itertools.count()
        self.busy: set[int] = set()
        # by rule, measure, member and bucket: what the provider billed
        self.provider: dict[tuple[str, int, str, int], int] = defaultdict(int)

    async def run(self) -> Figures:
        try:
            for _ in range(1 if self.kind == "memory" else 3):
                await self.start_gate()
            await self.tell_the_books()
            for tick in range(self.ticks):
                await self.step(tick)
            await self.finish()
        finally:
            await self.stand.__aexit__()
        return self.figures

    async def step(self, tick: int) -> None:
        self.now_us += TICK_US
        await asyncio.gather(*(self.call(tick) for _ in range(self.random.randint(0, 8))))
        while self.ends and self.ends[0][0] <= tick:
            self.end(heapq.heappop(self.ends)[2])
        if tick % 100 == 0:
            for gate in self.gates:
                gate.heartbeat(self.now_us)
        if self.random.random() < 0.05:
            self.book()
            await self.tell_the_books()
        if self.random.random() < 0.004:
            await self.die()
        if self.kind == "redis" and self.random.random() < 0.001:
            await self.forget()
        if self.random.random() < 0.002:
            self.now_us += self.random.choice([-1800, -60, 60, 1800, 3600]) * 1_000_000
            self.figures.counts["clock jumps"] += 1

    async def call(self, tick: int) -> None:
        if len(self.ends) >= CLIENTS:
            return
        chance = self.random
        gate = chance.choice(self.gates)
        model = chance.choice(["dear", "cheap"])
        facts = CallFacts(team=chance.choice(["a", "b", "c", "d"]), models=frozenset({model, "cheap"}))
        fixed, bounds = chance.randint(1_000, 50_000), chance.choice([(64, 64), (16, 400), (300, 300)])
        said_fixed = fixed - (TOKEN_NANO if self.plant == "short hold" else 0)
        ask = Ask(
            f"c{next(self.number)}",
            self.now_us,
            facts,
            said_fixed,
            TOKEN_NANO * 1000,
            200,
            1,
            *bounds,
            is_own_maximum=False,
        )
        verdict = await gate.admit(ask, gate.demands(facts))
        self.figures.counts["calls"] += 1
        if gate not in self.gates:  # it died with the answer in its hands: nothing left
            return
        if not verdict.is_admitted:
            for each in verdict.refused:
                self.figures.counts[str(each.reason)] += 1
            return
        entry = Entry(ask.id, gate.incarnation, ask.now_us, facts, verdict.held_nano_usd, verdict.held_tokens)
        self.ledger.open(entry)
        if chance.random() < 0.03:
            self.ledger.never_left(entry)
            gate.release(ask.id)
            self.figures.counts["released"] += 1
            return
        output = (
            verdict.output_tokens if chance.random() < self.full_share else chance.randint(0, verdict.output_tokens)
        )
        call = Call(gate, entry, fixed + output * TOKEN_NANO, 200 + output)
        self.bill(facts._replace(models=frozenset({model})), call)
        heapq.heappush(self.ends, (tick + chance.randint(1, 200), next(self.number), call))

    def bill(self, facts: CallFacts, call: Call) -> None:
        call.entry = structs.replace(call.entry, facts=facts)
        rules = Rules(BUDGETS)
        for place in rules.demands(facts).places(call.entry.admitted_us):
            rule_id, _, member = place.counter.split("|")
            amount = call.tokens if place.measure else call.cost
            self.provider[rule_id, place.measure, member, place.bucket] += amount

    def end(self, call: Call) -> None:
        if call.gate not in self.gates:
            return
        chance, entry = self.random, call.entry
        is_proven = chance.random() < 0.85
        spent = call.cost if is_proven else call.cost // 2
        tokens = call.tokens if is_proven else call.tokens // 2
        unproven = unproven_of(entry.nano_usd, spent, is_proven), unproven_of(entry.tokens, tokens, is_proven)
        ended = structs.replace(
            entry, nano_usd=spent, tokens=tokens, unproven_nano_usd=unproven[0], unproven_tokens=unproven[1]
        )
        call.gate.settle(self.ledger.end(ended))
        self.figures.counts["proven" if is_proven else "not proven"] += 1

    def book(self) -> None:
        for gate in self.gates:
            self.ledger.book(gate.incarnation, self.random.randint(0, 200))
        if self.random.random() < 0.5:
            self.bury()

    def bury(self) -> None:
        for incarnation in self.dead:
            if self.plant == "crash forgiven":
                self.ledger.opens.pop(incarnation, None)
            self.ledger.bury(incarnation)

    async def tell_the_books(self) -> None:
        books = self.ledger.books(BUDGETS)
        bases = {tuple(name): base for name, base in books.bases.items()}
        await self.stand.books(bases, dict(books.positions), books.ready, is_complete=True)  # type: ignore[arg-type]
        for store in self.stand.stores:
            if isinstance(store, MemoryStore):
                store.recovered()
        await self.judge()

    async def start_gate(self) -> Gate:
        gate = await self.stand.add_gate(f"{len(self.dead) + len(self.gates) + 1:08x}")
        gate.set_rules(Rules(BUDGETS, RATES))
        self.gates.append(gate)
        return gate

    async def die(self) -> None:
        gate = self.gates.pop(self.random.randrange(len(self.gates)))
        self.dead.append(gate.incarnation)
        place = self.stand.gates.index(gate)
        store = self.stand.stores[place]
        if isinstance(store, RedisStore):
            await kill(store)
        del self.stand.gates[place], self.stand.stores[place]
        new = await self.start_gate()
        if self.kind == "memory":
            books = self.ledger.books(BUDGETS)
            new.take_books(books)
            for incarnation in self.dead:
                if books.positions.get(incarnation) != END:
                    new.restore(self.ledger.unbooked(incarnation))
            await self.tell_the_books()
        self.figures.counts["kills"] += 1

    async def forget(self) -> None:
        """Redis is empty from one moment to the next."""
        await self.stand.settled()
        await sweep(self.stand.namespace)
        for _ in range(2):
            await self.stand.settled()
        self.bury()
        await self.tell_the_books()
        self.figures.counts["losses"] += 1

    async def judge(self) -> None:
        for rule in BUDGETS:
            for measure, limit in enumerate((rule.limit_nano_usd, rule.limit_tokens)):
                if limit is None:
                    continue
                for member in "abcd" if rule.scope_id == "*" else ("",):
                    await self.judge_counter(rule, measure, member, limit)

    async def judge_counter(self, rule: BudgetRule, measure: int, member: str, limit: int) -> None:
        counter = f"{rule.id}|{('usd', 'tokens')[measure]}|{member}"
        bucket = bucket_of(rule.period, "UTC", self.now_us, rule.starts_at_us)
        first = bucket - 24 * 3600 if rule.period == "rolling_24h" else bucket
        last = NEVER_S if rule.period == "rolling_24h" else bucket
        state: CounterState = await self.stand.store.counter(counter, first, last)
        billed = sum(
            amount
            for (rule_id, of, whose, at), amount in self.provider.items()
            if (rule_id, of, whose) == (rule.id, measure, member) and first <= at <= last
        )
        name = f"{rule.id} {('usd', 'tokens')[measure]}"
        most, _ = self.figures.largest.get(name, (0, 0))
        self.figures.largest[name] = max(most, state.counted), limit
        if state.counted > limit or billed > limit:
            raise Broken(
                f"{counter}: counted {state.counted}, the provider billed {billed}, limit {limit}; {self.figures}"
            )

    async def finish(self) -> None:
        """Everything ends and is booked: nothing may be held any more, and the counters are the ledger's."""
        while self.ends:
            self.end(heapq.heappop(self.ends)[2])
        self.bury()
        for gate in self.gates:
            self.ledger.book(gate.incarnation, 10**6)
        await self.stand.settled()
        await self.tell_the_books()
        await self.stand.settled()
        for (counter, bucket), base in self.ledger.books(BUDGETS).bases.items():
            state = await self.stand.store.counter(counter, bucket, bucket)
            if state != CounterState(base.spent, 0, base.unproven):
                raise Broken(f"{counter} at {bucket} is {state}, the ledger says {base}; {self.figures}")


def simulate(kind: str, seed: int, **more: Any) -> Figures:
    return uvloop.run(Simulation(kind, seed, **more).run())


if __name__ == "__main__":
    logging.disable()
    print(simulate(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().getrandbits(32)))
