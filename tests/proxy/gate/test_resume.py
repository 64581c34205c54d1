"""A worker that starts again counts what the books and the journal hold, before it admits under a hard budget."""

from __future__ import annotations

from tests.proxy.gate.stand import FACTS, NOON_US, budget, rate, run
from token_tracker.domain.holds import Ask
from token_tracker.domain.windows import bucket_of
from token_tracker.proxy.gate.gate import Gate
from token_tracker.proxy.gate.memory import MemoryStore
from token_tracker.proxy.gate.places import Rules
from token_tracker.proxy.gate.store import END, Base, Books, CounterBucket, CounterState, Entry, Reason

DAY = bucket_of("daily", "UTC", NOON_US)
NAME = CounterBucket("b|usd|", DAY)


def test_a_restart_refills_nothing() -> None:
    async def scenario() -> None:
        store = MemoryStore("new")
        gate = Gate(store, "new")
        gate.set_rules(Rules([budget(1000)], [rate(9)]))
        ask = Ask("c", NOON_US, FACTS, 301)
        assert (await gate.admit(ask, gate.demands(FACTS))).refused[0].reason is Reason.STORE_RECOVERING
        books = Books({NAME: Base(300, 50, 4, DAY + 86_400)}, {"old": (0, 700)}, frozenset({"b"}))
        journal = [
            Entry("a", "old", NOON_US, FACTS, 100, position=(0, 700)),  # is in the base
            Entry("b", "old", NOON_US, FACTS, 150, 0, 20, 0, (0, 900)),
            Entry("open", "old", NOON_US, FACTS, 180),
        ]
        gate.resume(books, journal)
        assert await store.counter("b|usd|", DAY, DAY) == CounterState(450, 180, 70)
        verdict = await gate.admit(ask, gate.demands(FACTS))
        assert verdict.refused[0].reason is Reason.BUDGET_HELD
        gate.take_books(Books({NAME: Base(500, 180, 5, DAY + 86_400)}, {"old": END}))
        assert await store.counter("b|usd|", DAY, DAY) == CounterState(500, 0, 180)
        assert gate.unbooked == 0

    run(scenario())


def test_rates_need_no_books() -> None:
    async def scenario() -> None:
        gate = Gate(MemoryStore("new"), "new")
        gate.set_rules(Rules([], [rate(1)]))
        verdicts = [await gate.admit(Ask(name, NOON_US, FACTS), gate.demands(FACTS)) for name in "ab"]
        assert [verdict.is_admitted for verdict in verdicts] == [True, False]

    run(scenario())
