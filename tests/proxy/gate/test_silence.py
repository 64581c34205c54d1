"""Gateways that no longer answer: nothing of what they held is given back, whatever Redis went through meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from tests.proxy.gate import stand as stands
from tests.proxy.gate.stand import FACTS, NOON_US, Stand, budget, kill, run
from tests.proxy.gate.test_redis import DAY, Server
from tests.proxy.gate.test_redis import server as server_fixture
from token_tracker.domain.holds import Ask
from token_tracker.proxy.gate.gate import Gate
from token_tracker.proxy.gate.redis import RedisStore
from token_tracker.proxy.gate.redis_books import RedisBooks
from token_tracker.proxy.gate.store import END, SILENCE_S, Base, Books, CounterState, Left

server = server_fixture
READY = frozenset({"b"})


def left(stand: Stand, amount: int) -> dict[str, list[Left]]:
    """What the node of the first gateway said last."""
    return {stand.gates[0].incarnation: [Left("b|usd|", DAY, DAY + 86_400, amount)]}


async def two_gateways(stand: Stand) -> None:
    """The first holds 300 of 1000, the second asks."""
    await stand.add_gate()
    await stand.rules(budget(1000))
    first = Ask("first", NOON_US, FACTS, 300)
    assert (await stand.gates[0].admit(first, stand.gates[0].demands(FACTS))).is_admitted
    await stand.settled()


async def die(stand: Stand) -> None:
    store = stand.stores.pop(0)
    assert isinstance(store, RedisStore)
    await kill(store)


async def say(stand: Stand, books: Books, silence_s: float = 0) -> None:
    """As the recorder of a node that lives."""
    recorder = RedisBooks(stands.REDIS_URL, namespace=stand.namespace, silence_s=silence_s)
    while not await recorder.send(books, True):
        pass
    await recorder.close()
    await stand.settled()


def test_what_a_silent_gateway_held_is_unproven_until_its_journal_is_booked(redis_url: str) -> None:
    async def scenario() -> None:
        async with Stand("redis") as stand:
            await two_gateways(stand)
            await die(stand)
            await say(stand, Books(ready=READY, left=left(stand, 300)), SILENCE_S)
            assert await stand.state() == CounterState(0, 300, 0), "silent for a moment is not gone"
            for _ in range(2):
                await say(stand, Books(ready=READY, left=left(stand, 300)))
                assert await stand.state() == CounterState(0, 0, 300)
            assert not (await stand.ask(701)).is_admitted
            crashed = {("b|usd|", DAY): Base(5, 295, 1, DAY + 86_400)}
            await stand.books(crashed, positions={stand.gates[0].incarnation: END}, ready=READY)
            await say(stand, Books(ready=READY, left=left(stand, 300)))
            assert await stand.state() == CounterState(5, 0, 295), "its row has the last word"

    run(scenario())


def test_a_gateway_that_answers_again_holds_what_it_held(redis_url: str) -> None:
    async def scenario() -> None:
        async with Stand("redis") as stand:
            await two_gateways(stand)
            first = stand.gates[0]
            await say(stand, Books(ready=READY, left=left(stand, 300)))
            await stand.settled()
            assert await stand.state() == CounterState(0, 300, 0)
            await stand.end("first", 40, gate=first)
            assert await stand.state() == CounterState(40, 0, 0)

    run(scenario())


def test_a_server_that_lost_its_state_counts_what_a_dead_gateway_held_by_its_nodes_last_word(server: Server) -> None:
    async def scenario() -> None:
        async with Stand("redis") as stand:
            await two_gateways(stand)
            await die(stand)
            server.stop()
            server.start()
            for _ in range(2):
                await say(stand, Books(ready=READY, left=left(stand, 300)))
                assert await stand.state() == CounterState(0, 0, 300)
            assert not (await stand.ask(701)).is_admitted
            assert (await stand.ask(700)).is_admitted
            await stand.books(positions={stand.gates[0].incarnation: END}, ready=READY)
            assert await stand.state() == CounterState(0, 700, 0)

    run(scenario())


def test_the_last_word_of_a_node_gives_way_to_its_gateways_own(server: Server) -> None:
    async def scenario() -> None:
        async with Stand("redis") as stand:
            await two_gateways(stand)
            first = stand.stores[0]
            assert isinstance(first, RedisStore)
            await first._feed.stop()  # it does not reach Redis for a while
            server.stop()
            server.start()
            del stand.stores[0]
            await say(stand, Books(ready=READY, left=left(stand, 250)))
            assert await stand.state() == CounterState(0, 0, 250)
            await first.start()
            stand.stores.insert(0, first)
            await stand.settled()
            assert await stand.state() == CounterState(0, 300, 0)

    run(scenario())


@pytest.mark.parametrize("recorders", [1, 3])
def test_many_who_find_an_empty_server_at_once_build_one_state_and_each_counts_once(
    server: Server, recorders: int
) -> None:
    gateways = 8

    async def holds(gate: Gate) -> None:
        for number in range(5):
            ask = Ask(f"{gate.incarnation}-{number}", NOON_US, FACTS, 10)
            assert (await gate.admit(ask, gate.demands(FACTS))).is_admitted

    async def scenario() -> None:
        async with Stand("redis") as stand:
            for _ in range(gateways - 1):
                await stand.add_gate()
            await stand.rules(budget(1000))
            await asyncio.gather(*(holds(gate) for gate in stand.gates))
            server.stop()
            server.start()
            books = Books({("b|usd|", DAY): Base(200, 30, 7, DAY + 86_400)}, {}, READY)  # type: ignore[dict-item]
            await asyncio.gather(*(say(stand, books) for _ in range(recorders)))
            assert len({store._feed.generation for store in stand.stores if isinstance(store, RedisStore)}) == 1
            assert await stand.state() == CounterState(200, gateways * 5 * 10, 30)

    run(scenario())


@pytest.mark.parametrize("was_missed", [True, False], ids=["after it was missed", "before"])
def test_what_an_admin_gave_up_counts_no_more_once_the_gateway_is_silent(redis_url: str, was_missed: bool) -> None:
    async def scenario() -> None:
        async with Stand("redis") as stand:
            await two_gateways(stand)
            given_up = {stand.gates[0].incarnation: None}
            await say(stand, Books(ready=READY, left=given_up), SILENCE_S)
            assert await stand.state() == CounterState(0, 300, 0), "it speaks here: an admin may be wrong"
            await die(stand)
            if was_missed:
                await say(stand, Books(ready=READY, left=left(stand, 300)))
                assert await stand.state() == CounterState(0, 0, 300)
            for _ in range(2):
                await say(stand, Books(ready=READY, left=given_up))
                assert await stand.state() == CounterState(0, 0, 0)
            assert (await stand.ask(1000)).is_admitted

    run(scenario())
