"""Redis learns what is booked, wherever it has lost it, and calls of dead workers are not lost on the way."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from msgspec import structs
from sqlalchemy import Engine

from tests.proxy.books.records_made import NOON, a_journal, an_open, write_calls
from tests.proxy.books.test_counters_board import Desk, fill
from tests.proxy.gate.conftest import redis_url as redis_url_fixture
from tests.proxy.gate.stand import REDIS_URL, sweep
from tests.services.budget_rows import a_budget, add
from token_tracker.database.session import reading, transaction
from token_tracker.domain.holds import Ask
from token_tracker.domain.rules import CallFacts
from token_tracker.proxy.books.holds import HoldsReader
from token_tracker.proxy.books.segments import SegmentName
from token_tracker.proxy.books.store_teller import StoreTeller
from token_tracker.proxy.books.tails import CLOSED
from token_tracker.proxy.gate.gate import Gate
from token_tracker.proxy.gate.places import Rules
from token_tracker.proxy.gate.redis import RedisStore
from token_tracker.proxy.gate.redis_books import RedisBooks
from token_tracker.proxy.gate.store import Reason, Verdict
from token_tracker.services import open_holds
from token_tracker.services.open_holds import Held, NodeHolds
from token_tracker.services.outage import Outage
from token_tracker.services.rule_rows import load_budgets

redis_url = redis_url_fixture
DAY_S = int(NOON.replace(hour=0, minute=0).timestamp())
NOON_US = int(NOON.timestamp()) * 1_000_000
FACTS = CallFacts(key="k", user="alice")
pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


class Shared:
    """A recorder, a Redis namespace of its own, and gateways on it."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        self.desk = Desk(engine, directory)
        self.engine = engine
        self.namespace = f"test-{secrets.token_hex(8)}"
        self.teller = self.new_teller()
        self.numbers = itertools.count()

    async def __aenter__(self) -> Shared:
        self.store = RedisStore(REDIS_URL, "00000001", namespace=self.namespace, recovery_s=0, wait_s=1)
        await self.store.start()
        self.gate = Gate(self.store, "00000001")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.store.close()
        await self.teller.close()
        await sweep(self.namespace)

    def new_teller(self, url: str = REDIS_URL) -> StoreTeller:
        return StoreTeller(self.desk.board, RedisBooks(url, namespace=self.namespace))

    def follow_rules(self) -> None:
        with reading(self.engine) as session:
            self.gate.set_rules(Rules(load_budgets(session)))

    async def until(self, reason: Reason | None, nano_usd: int = 1) -> Verdict:
        """Tell and ask until the answer is this one."""
        give_up_s = time.monotonic() + 10
        while True:
            await self.teller.step()
            await self.store.settled()
            ask = Ask(f"try-{next(self.numbers)}", NOON_US, FACTS, nano_usd)
            verdict = await self.gate.admit(ask, self.gate.demands(FACTS))
            if (verdict.refused[0].reason if verdict.refused else None) is reason:
                return verdict
            assert time.monotonic() < give_up_s, f"{verdict} instead of {reason}"


def test_a_gateway_learns_from_redis_what_the_recorder_booked(engine: Engine, tmp_path: Path, redis_url: str) -> None:
    async def scenario() -> None:
        add(engine, a_budget("day", limit_nano_usd=10_000, counter_built_at=NOON))
        async with Shared(engine, tmp_path) as shared:
            shared.follow_rules()
            journal = a_journal(shared.desk.journal)
            write_calls(journal, range(4))
            shared.desk.book()
            await shared.until(Reason.STORE_RECOVERING)
            shared.desk.board.load(NOON)
            verdict = await shared.until(Reason.BUDGET_EXCEEDED, 4_001)
            assert verdict.refused[0].spent == 6_000
            await shared.until(None, 3_000)
            journal.open(structs.replace(an_open(9), held_nano_usd=900))
            journal.close()
            shared.desk.book()
            verdict = await shared.until(Reason.BUDGET_HELD, 200)
            assert (verdict.refused[0].spent, verdict.refused[0].unproven) == (6_000, 900)

    asyncio.run(scenario())


def test_a_new_recorder_tells_all_again_and_nothing_is_counted_twice(
    engine: Engine, tmp_path: Path, redis_url: str
) -> None:
    async def scenario() -> None:
        add(engine, a_budget("day", limit_nano_usd=10_000, counter_built_at=NOON))
        async with Shared(engine, tmp_path) as shared:
            shared.follow_rules()
            journal = a_journal(shared.desk.journal)
            for first in (0, 2):
                write_calls(journal, range(first, first + 2))
                shared.desk.open()
                shared.desk.book()
                shared.desk.board.load(NOON)
                await shared.teller.close()
                shared.teller = shared.new_teller()
                spent = (first + 2) * 1_500
                verdict = await shared.until(Reason.BUDGET_EXCEEDED, 10_001)
                assert verdict.refused[0].spent == spent
            journal.close()

    asyncio.run(scenario())


def test_many_counters_are_told_in_steps(engine: Engine, tmp_path: Path, redis_url: str) -> None:
    async def scenario() -> None:
        add(engine, a_budget("day", counter_built_at=NOON))
        fill(engine, 1_800)
        async with Shared(engine, tmp_path) as shared:
            shared.desk.book()
            shared.desk.board.load(NOON)
            shared.follow_rules()
            await shared.until(None)
            day_s = NOON_US // 86_400_000_000 * 86_400
            for number in (7, 1_799):
                state = await shared.store.counter(f"budget_users|usd|member-{number:06d}", day_s, day_s)
                assert state.spent == number

    asyncio.run(scenario())


def test_while_redis_is_away_nothing_is_lost_and_it_is_said_once(
    engine: Engine, tmp_path: Path, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        add(engine, a_budget("day", limit_nano_usd=10_000, counter_built_at=NOON))
        async with Shared(engine, tmp_path) as shared:
            shared.follow_rules()
            shared.desk.board.load(NOON)
            away = shared.new_teller("redis://127.0.0.1:1/0")
            journal = a_journal(shared.desk.journal)
            for number in range(3):
                write_calls(journal, range(number, number + 1))
                shared.desk.book()
                await away.step()
                assert "127.0.0.1:1" in away.problem
            verdict = await shared.until(Reason.BUDGET_EXCEEDED, 10_001)
            assert verdict.refused[0].spent == 4_500
            journal.close()

    asyncio.run(scenario())
    assert caplog.text.count("Redis cannot be told") == 1


def test_what_a_node_held_that_fell_silent_is_told_as_unproven_and_its_return_settles_it(
    engine: Engine, tmp_path: Path, redis_url: str
) -> None:
    gone = "0000dead"

    def says(engine: Engine, amount: int, at: datetime) -> None:
        leaves_s = DAY_S + 86_400
        held = (Held("budget_day|usd|", DAY_S, amount, 1, gone, leaves_s),) if amount else ()
        with transaction(engine) as session:
            open_holds.publish(session, node="far", content=NodeHolds(len(held), held), at=at)

    async def scenario() -> None:
        now = [NOON]
        add(engine, a_budget("day", limit_nano_usd=1_000, counter_built_at=NOON))
        async with Shared(engine, tmp_path) as shared:
            books = RedisBooks(REDIS_URL, namespace=shared.namespace, silence_s=0)
            shared.teller = StoreTeller(shared.desk.board, books, HoldsReader(engine, Outage(""), lambda: now[0]))
            shared.desk.book()
            shared.desk.board.load(NOON)
            shared.follow_rules()
            await shared.until(None, 100)
            says(engine, 400, NOON)
            for silent_s, unproven in ((10, 0), (16, 400)):
                now[0] = NOON + timedelta(seconds=silent_s)
                shared.teller._heartbeat_s = 0.0
                await shared.teller.step()
                counted = await shared.store.counter("budget_day|usd|", DAY_S, DAY_S)
                assert (counted.held, counted.unproven) == (100, unproven)
            await shared.until(Reason.BUDGET_HELD, 501)
            says(engine, 0, now[0])
            shared.desk.board.take({}, {str(SegmentName("far", gone, 0)): CLOSED})  # its own recorder has booked all
            await shared.until(None, 501)

    asyncio.run(scenario())
