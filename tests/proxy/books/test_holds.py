"""Calls in flight: what they hold is told from the journal, complete in its sums and bounded in its names."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from msgspec import structs
from sqlalchemy import Engine, select

from tests.proxy.books.records_made import NODE, NOON, SUBJECT, a_journal, an_end, an_open
from tests.services.budget_rows import a_budget, add
from token_tracker.database.models import OpenHolds
from token_tracker.database.session import reading
from token_tracker.domain.rules import EACH
from token_tracker.proxy.books import holds as holds_module
from token_tracker.proxy.books.bookkeeper import Bookkeeper
from token_tracker.proxy.books.holds import MOST_HOLDS, HoldsTeller
from token_tracker.proxy.books.journal import Journal
from token_tracker.proxy.books.records import Awaiting, Open
from token_tracker.services import open_holds
from token_tracker.services.open_holds import Held, NodeHolds
from token_tracker.services.outage import Outage

DAY_S = int(NOON.replace(hour=0, minute=0).timestamp())


class Desk:
    def __init__(self, engine: Engine, directory: Path) -> None:
        self.engine = engine
        self.journal: Journal = a_journal(directory)
        self.keeper = Bookkeeper(engine, directory, Outage("calls go on"), clock=lambda: NOON)
        self.teller = HoldsTeller(engine)

    def open(self, number: int, user: str = "alice", held: int = 100, tokens: int = 0) -> Open:
        subject = structs.replace(SUBJECT, user=user)
        opened = structs.replace(an_open(number, subject=subject), held_nano_usd=held, held_tokens=tokens)
        self.journal.open(opened)
        return opened

    def held(self, counter: str, amount: int, calls: int) -> Held:
        """Of this day, by the one worker."""
        return Held(counter, DAY_S, amount, calls, self.journal.incarnation, DAY_S + 86_400)

    def told(self, at: datetime = NOON) -> NodeHolds:
        while self.keeper.step():
            pass
        self.teller.tell(self.keeper.open_records(), at)
        with reading(self.engine) as session:
            ((content, _),) = open_holds.load(session, at=at)
        return content


@pytest.fixture
def desk(engine: Engine, tmp_path: Path) -> Desk:
    shape = {"scope_type": "user", "scope_id": EACH, "limit_tokens": 5}
    add(engine, a_budget("day"), a_budget("users", **shape), a_budget("other", model="claude"))
    return Desk(engine, tmp_path)


def test_holds_are_told_while_calls_are_in_flight_and_no_longer(desk: Desk) -> None:
    first = desk.open(1)
    desk.open(2, user="bob", held=30, tokens=4)
    desk.open(3, held=0)
    told = desk.told()
    assert told.calls == 2
    assert told.held == (
        desk.held("budget_day|usd|", 130, 2),
        desk.held("budget_users|tokens|bob", 4, 1),
        desk.held("budget_users|usd|alice", 100, 1),
        desk.held("budget_users|usd|bob", 30, 1),
    )
    assert [(hold.call_id[-1], hold.user, hold.held_nano_usd, hold.state) for hold in told.holds] == [
        ("1", "alice", 100, "in_flight"),
        ("2", "bob", 30, "in_flight"),
    ]
    assert told.holds[0].tags == ("red", "green")
    desk.journal.awaiting(Awaiting(an_end(first)))
    assert desk.told().holds[0].state == "awaiting_usage"
    desk.journal.end(an_end(first))
    assert [held.amount for held in desk.told().held] == [30, 4, 30]
    desk.journal.close()


def test_a_worker_that_died_holds_nothing(desk: Desk) -> None:
    desk.open(1)
    assert desk.told().calls == 1
    desk.journal.close()
    assert desk.told() == NodeHolds()


def test_the_oldest_are_named_and_the_sums_are_of_all(desk: Desk) -> None:
    for number in range(MOST_HOLDS + 50):
        desk.open(number, held=1)
    told = desk.told()
    assert told.calls == MOST_HOLDS + 50
    assert told.held[0] == desk.held("budget_day|usd|", MOST_HOLDS + 50, MOST_HOLDS + 50)
    assert [hold.call_id for hold in told.holds] == [f"{number:032x}" for number in range(MOST_HOLDS)]
    desk.journal.close()


def test_a_budget_made_meanwhile_is_told_of_too(desk: Desk, engine: Engine) -> None:
    desk.open(1)
    desk.told()
    add(engine, a_budget("late", scope_type="user", scope_id="alice"))
    assert "budget_late|usd|" in [held.counter for held in desk.told().held]
    desk.journal.close()


def test_nothing_is_written_where_nothing_changed_but_for_the_heartbeat(
    desk: Desk, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def published_at() -> datetime:
        with reading(engine) as session:
            return session.scalars(select(OpenHolds.published_at).where(OpenHolds.node == NODE)).one()

    desk.open(1)
    desk.told()
    desk.told(NOON + timedelta(seconds=1))
    assert published_at() == NOON
    monkeypatch.setattr(holds_module, "HEARTBEAT_S", 0.0)
    desk.teller = HoldsTeller(engine)
    desk.told(NOON + timedelta(seconds=2))
    desk.told(NOON + timedelta(seconds=3))
    assert published_at() == NOON + timedelta(seconds=3)
    desk.journal.close()


def test_a_node_that_fell_silent_is_seen_and_forgotten_after_a_week(desk: Desk, engine: Engine) -> None:
    opened = desk.open(1)
    desk.told()
    with reading(engine) as session:
        assert [stale for _, stale in open_holds.load(session, at=NOON + timedelta(seconds=15))] == [False]
        assert [stale for _, stale in open_holds.load(session, at=NOON + timedelta(seconds=16))] == [True]
    desk.journal.end(an_end(opened))
    assert desk.told(NOON + timedelta(seconds=5)).calls == 0
    later = HoldsTeller(engine)
    later.tell({"another": {}}, NOON + timedelta(days=8))
    with reading(engine) as session:
        assert session.scalars(select(OpenHolds.node)).all() == ["another"]
    desk.journal.close()


def test_a_node_that_never_came_back_is_kept_in_mind_while_what_it_held_counts(desk: Desk, engine: Engine) -> None:
    add(engine, a_budget("ever", period="total"))
    desk.open(1)
    desk.told()
    later = HoldsTeller(engine)
    later.tell({"another": {}}, NOON + timedelta(days=400))
    with reading(engine) as session:
        assert session.scalars(select(OpenHolds.node).order_by(OpenHolds.node)).all() == sorted([NODE, "another"])
        (content,) = [each for each, is_silent in open_holds.load(session, at=NOON + timedelta(days=400)) if is_silent]
    assert "budget_ever|usd|" in [held.counter for held in content.held]
    desk.journal.close()


def test_a_node_says_how_much_waits_and_since_when_its_store_is_away(desk: Desk) -> None:
    desk.teller = HoldsTeller(desk.engine, NODE)
    desk.open(1)
    desk.told()
    for second in (1, 2):
        at = NOON + timedelta(seconds=second)
        desk.teller.tell(desk.keeper.open_records(), at, backlog_bytes=5 << 20, is_store_away=True)
    with reading(desk.engine) as session:
        ((_, content),) = open_holds.by_node(session)
    since_us = int((NOON + timedelta(seconds=1)).timestamp()) * 1_000_000
    assert (content.backlog_mib, content.store_away_since_us) == (5, since_us)
    assert desk.told().store_away_since_us == 0
