"""Counters from the ledger to a gateway: at once, only what changed, and never behind the positions they come with."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from msgspec import structs
from sqlalchemy import Engine, insert, update

from tests.proxy.books.records_made import NODE, NOON, SUBJECT, a_journal, an_end, an_open, write_calls
from tests.services.budget_rows import a_budget, add
from token_tracker.database.models import Budget, CounterState
from token_tracker.database.session import transaction
from token_tracker.domain.rules import EACH
from token_tracker.proxy.books.bookkeeper import Bookkeeper
from token_tracker.proxy.books.counters_board import CounterBoard
from token_tracker.proxy.books.counters_reader import CountersReader
from token_tracker.proxy.gate.store import END, Base, Books, CounterBucket
from token_tracker.services import budgets, releases
from token_tracker.services.audit import Actor
from token_tracker.services.outage import Outage

DAY_S = int(NOON.replace(hour=0, minute=0).timestamp())
DAY_END_S = DAY_S + 86_400
ALL = CounterBucket("budget_day|usd|", DAY_S)


class Desk:
    """A recorder's books and board, and a gateway that reads."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        self.engine, self.path, self.journal = engine, directory / "counters", directory / "journal"
        self.reader = CountersReader(self.path)
        self.open()

    def open(self) -> None:
        self.board = CounterBoard(self.engine, self.journal, self.path)
        self.keeper = Bookkeeper(self.engine, self.journal, Outage("calls go on"), board=self.board, clock=lambda: NOON)

    def book(self) -> None:
        while self.keeper.step():
            pass

    def told(self) -> Books | None:
        self.board.publish(NOON)
        return self.reader.read()


@pytest.fixture
def desk(engine: Engine, tmp_path: Path) -> Desk:
    add(engine, a_budget("day", counter_built_at=NOON))
    return Desk(engine, tmp_path)


def test_a_gateway_learns_what_was_booked_and_how_far(desk: Desk) -> None:
    desk.book()
    desk.board.load(NOON)
    assert desk.told() == Books({}, {}, frozenset({"budget_day"}))
    journal = a_journal(desk.journal)
    write_calls(journal, range(3))
    desk.book()
    told = desk.told()
    assert told is not None
    assert told.bases == {ALL: Base(4_500, 0, 1, DAY_END_S)}
    number, offset = told.positions[journal.incarnation]
    assert number == 0
    assert offset > 1_000
    assert desk.told() is None, "nothing changed"
    write_calls(journal, range(3, 4))
    desk.book()
    again = desk.told()
    assert again is not None
    assert again.bases[ALL].spent == 6_000
    assert again.positions[journal.incarnation] > (number, offset)
    journal.close()


def test_nothing_is_told_before_all_is_known(desk: Desk) -> None:
    """After a restart the recorder must not say that calls are booked while it does not know the counters."""
    journal = a_journal(desk.journal)
    write_calls(journal, range(1))
    desk.book()
    assert desk.told() is None
    desk.board.load(NOON)
    told = desk.told()
    assert told is not None
    assert told.bases[ALL].spent == 1_500
    assert journal.incarnation in told.positions
    journal.close()


def test_a_dead_worker_is_told_to_be_at_its_end_once_its_crash_rows_are_in_the_base(desk: Desk) -> None:
    desk.board.load(NOON)
    journal = a_journal(desk.journal)
    journal.open(structs.replace(an_open(1), held_nano_usd=700))
    desk.book()
    told = desk.told()
    assert told is not None
    assert told.positions == {journal.incarnation: (0, 0)}
    journal.close()
    died_s = time.monotonic()
    desk.book()
    told = desk.told()
    assert time.monotonic() - died_s < 5
    assert told is not None
    assert told.positions == {journal.incarnation: END}
    assert told.bases == {ALL: Base(0, 700, 1, DAY_END_S)}


def test_a_worker_that_died_is_still_at_its_end_for_the_next_recorder(desk: Desk) -> None:
    desk.board.load(NOON)
    journal = a_journal(desk.journal)
    write_calls(journal, range(2))
    desk.book()
    desk.told()
    journal.close()
    desk.book()  # and the recorder is killed before it says so
    desk.keeper.step()
    desk.open()
    desk.board.load(NOON)
    told = desk.told()
    assert told is not None
    assert told.positions == {journal.incarnation: END}


def test_a_restart_in_the_middle_of_a_window_gives_nothing_back(desk: Desk) -> None:
    journal = a_journal(desk.journal)
    write_calls(journal, range(3))
    desk.board.load(NOON)
    desk.book()
    before = desk.told()
    assert before is not None
    desk.keeper.close()
    desk.open()
    desk.reader = CountersReader(desk.path)
    desk.board.load(NOON)
    desk.book()
    after = desk.told()
    assert after is not None
    assert after.bases == before.bases
    assert after.positions == before.positions
    journal.close()


def test_what_others_change_is_seen_by_loading_again(desk: Desk) -> None:
    journal = a_journal(desk.journal)
    opened = structs.replace(an_open(1), held_nano_usd=9_000)
    journal.open(opened)
    journal.end(structs.replace(an_end(opened), usage_source="estimated", unproven_nano_usd=7_500))
    desk.board.load(NOON)
    desk.book()
    assert desk.told() is not None
    with transaction(desk.engine) as session:
        ann = Actor("ann")
        releases.release(session, budget_id="budget_day", calls="all", reason="r", actor=ann, at=NOON)
    desk.board.load(NOON)
    told = desk.told()
    assert told is not None
    assert told.bases == {ALL: Base(1_500, 0, 2, DAY_END_S)}
    with transaction(desk.engine) as session:
        budgets.delete(session, budget_id="budget_day", actor=ann, at=NOON)
    desk.board.load(NOON)
    told = desk.told()
    assert told is not None
    assert (told.bases, told.ready) == ({}, frozenset())
    journal.close()


def test_a_budget_is_ready_only_once_its_counters_stand(desk: Desk) -> None:
    with transaction(desk.engine) as session:
        session.execute(update(Budget).values(counter_built_at=None))
    desk.book()
    desk.board.load(NOON)
    told = desk.told()
    assert told is not None
    assert told.ready == frozenset()
    with transaction(desk.engine) as session:
        session.execute(update(Budget).values(counter_built_at=NOON))
    desk.board.load(NOON)
    told = desk.told()
    assert told is not None
    assert told.ready == {"budget_day"}


def test_a_new_budget_waits_for_what_dead_workers_left_and_an_old_one_does_not(desk: Desk) -> None:
    desk.book()
    desk.board.load(NOON)
    assert desk.told() is not None
    journal = a_journal(desk.journal)
    journal.open(structs.replace(an_open(1), held_nano_usd=700))
    journal.close()
    desk.board.follow([journal.incarnation], has_dead=True)
    add(desk.engine, a_budget("new", period="weekly", counter_built_at=NOON))
    desk.board.load(NOON)
    told = desk.told()
    assert told is not None
    assert told.ready == {"budget_day"}
    desk.book()
    told = desk.told()
    assert told is not None
    assert told.ready == {"budget_day", "budget_new"}
    assert {place.counter for place in told.bases} == {"budget_day|usd|", "budget_new|usd|"}


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_offsets_of_other_nodes_are_not_this_gateways_business(desk: Desk) -> None:
    desk.board.load(NOON)
    desk.board.take({}, {"ffffffff/11111111-0": 5, f"{NODE}/22222222-1": 7, "nonsense": 3})
    told = desk.told()
    assert told is not None
    assert told.positions["22222222"] == (1, 7)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_damaged_file_is_reported_once_and_what_was_known_stays(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.board.load(NOON)
    assert desk.told() is not None
    good = desk.path.read_bytes()
    for content in (b"", b"nonsense", good[:20]):
        desk.path.write_bytes(content)
        assert desk.reader.read() is None
    desk.path.write_bytes(good[:-1])
    assert CountersReader(desk.path).read() is None
    assert desk.reader.made_at_us == int(NOON.timestamp() * 1_000_000)
    assert caplog.text.count("of another format") == 1
    desk.path.write_bytes(good)
    assert desk.reader.read() is not None


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_file_that_cannot_be_written_is_tried_again(desk: Desk) -> None:
    desk.board.load(NOON)
    blocked = desk.path.with_name(".counters.new")
    blocked.mkdir()
    with pytest.raises(OSError, match=r"counters\.new"):
        desk.board.publish(NOON)
    blocked.rmdir()
    assert desk.told() is not None


def fill(engine: Engine, members: int) -> None:
    add(engine, a_budget("users", scope_type="user", scope_id=EACH, counter_built_at=NOON))
    with transaction(engine) as session:
        session.execute(
            insert(CounterState),
            [
                {
                    "budget_id": "budget_users",
                    "measure": "usd",
                    "member": f"member-{number:06d}",
                    "bucket": DAY_S,
                    "spent": number,
                    "unproven": 0,
                    "version": 1,
                    "updated_at": NOON,
                }
                for number in range(members)
            ],
        )


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_of_many_members_only_those_that_changed_are_decoded_and_told(desk: Desk) -> None:
    fill(desk.engine, 5_000)
    desk.board.load(NOON)
    first = desk.told()
    assert first is not None
    assert len(first.bases) == 5_000
    journal = a_journal(desk.journal)
    end = an_end(an_open(1, subject=structs.replace(SUBJECT, user="member-000042")))
    journal.open(end.opened)
    journal.end(end)
    desk.book()
    desk.board.publish(NOON)
    steps = 0

    async def refresh() -> Books | None:
        nonlocal steps

        async def count() -> None:
            nonlocal steps
            while True:
                steps += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        books = await desk.reader.refresh()
        counting.cancel()
        return books

    told = asyncio.run(refresh())
    assert told is not None
    assert {place.counter for place in told.bases} == {"budget_users|usd|member-000042", "budget_day|usd|"}
    assert told.bases["budget_users|usd|member-000042", DAY_S].spent == 1_542  # type: ignore[index]
    assert 1 <= steps <= 4, "the loop is left between the two shards that changed"
    journal.close()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_the_layout_follows_the_number_of_counters(desk: Desk) -> None:
    fill(desk.engine, 3_000)
    desk.board.load(NOON)
    first = desk.told()
    assert first is not None
    with transaction(desk.engine) as session:
        budgets.delete(session, budget_id="budget_users", actor=Actor("ann"), at=NOON)
    desk.board.load(NOON)
    assert desk.told() is not None
    fill(desk.engine, 3_000)
    desk.board.load(NOON)
    again = desk.told()
    assert again is not None
    assert again.bases.keys() <= first.bases.keys()
    fresh = CountersReader(desk.path).read()
    assert fresh is not None
    assert len(fresh.bases) == 3_000


def test_counters_that_left_their_window_are_no_longer_published(desk: Desk) -> None:
    journal = a_journal(desk.journal)
    write_calls(journal, range(1))
    desk.board.load(NOON)
    desk.book()
    assert desk.told() is not None
    tomorrow = NOON.replace(day=NOON.day + 1)
    desk.board.load(tomorrow)
    desk.board.publish(tomorrow)
    fresh = CountersReader(desk.path).read()
    assert fresh is not None
    assert fresh.bases == {}
    journal.close()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_nobody_else_may_read_the_file(desk: Desk) -> None:
    desk.board.load(NOON)
    desk.board.publish(NOON)
    assert desk.path.stat().st_mode & 0o777 == 0o600
