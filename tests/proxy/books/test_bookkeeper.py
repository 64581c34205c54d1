"""From journal to ledger on both databases: each attempt once, whatever stops in between."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from sqlalchemy import Engine, delete, func, select, text

from tests.proxy.books.records_made import NOON, SUBJECT, a_journal, an_end, an_open, largest_end, write_calls
from token_tracker.database.models import JournalOffset, TokenUsage, TokenUsageTag, UsageHourly
from token_tracker.database.session import make_engine, reading, transaction
from token_tracker.proxy.books import bookkeeper as bookkeeper_module
from token_tracker.proxy.books.bookkeeper import Bookkeeper
from token_tracker.proxy.books.segments import list_segments
from token_tracker.services.outage import Outage


def bookkeeper(engine: Engine, journal: Path) -> Bookkeeper:
    return Bookkeeper(engine, journal, Outage("calls go on"))


def book_all(keeper: Bookkeeper) -> int:
    """Batches until nothing is left; one more step forgets what was deleted."""
    batches = 0
    while keeper.step():
        batches += 1
    keeper.step()
    return batches


def ledger(engine: Engine) -> dict[int, str]:
    """Outcome by call number; a row that came twice cannot be, as the id is the primary key."""
    with reading(engine) as session:
        return {int(row.id, 16): row.end_reason for row in session.scalars(select(TokenUsage))}


def hourly(engine: Engine) -> dict[str, Any]:
    with reading(engine) as session:
        columns = ("attempts", "calls", "errors", "unpriced_calls", "input_tokens", "output_tokens", "cost_nano_usd")
        sums = session.execute(select(*(func.sum(UsageHourly.__table__.c[name]) for name in columns))).one()
        return {name: int(value or 0) for name, value in zip(columns, sums, strict=True)}


def test_a_call_becomes_a_row_with_its_tags_its_hour_and_the_offset(engine: Engine, tmp_path: Path) -> None:
    journal, keeper = a_journal(tmp_path), bookkeeper(engine, tmp_path)
    write_calls(journal, range(1))
    assert book_all(keeper) == 1
    with reading(engine) as session:
        (row,) = session.scalars(select(TokenUsage))
        assert row.id == row.call_id == "0" * 32
        assert (row.timestamp, row.latency_ms, row.ttft_ms) == (NOON, 850.5, 120.25)
        assert (row.input_tokens, row.cache_read_tokens, row.output_tokens, row.reasoning_tokens) == (100, 5, 15, 0)
        assert (row.cost_nano_usd, row.cost_source, row.price_version) == (1_500, "priced", "file:gpt-4o@1a2b3c4d")
        assert (row.user, row.team, row.session, row.tags) == ("alice", "blue", "s-1", '["red","green"]')
        assert sorted(session.scalars(select(TokenUsageTag.tag))) == ["green", "red"]
        hour = session.execute(select(UsageHourly.__table__)).mappings().one()
        assert hour["hour"] == NOON.replace(minute=0)
        assert (hour["user_id"], hour["model"], hour["outcome"]) == ("alice", "gpt-4o", "complete")
        assert (hour["latency_11"], sum(hour[f"latency_{index:02d}"] for index in range(24))) == (1, 1)
        assert session.scalars(select(JournalOffset.offset)).one() > 0
    keeper.close()
    journal.close()


def test_replaying_a_whole_journal_changes_nothing(engine: Engine, tmp_path: Path) -> None:
    journal, keeper = a_journal(tmp_path), bookkeeper(engine, tmp_path)
    write_calls(journal, range(1_200))
    assert book_all(keeper) == 3
    keeper.close()
    before = hourly(engine)
    assert before == {
        "attempts": 1_200,
        "calls": 1_200,
        "errors": 0,
        "unpriced_calls": 0,
        "input_tokens": 120_000,
        "output_tokens": 18_000,
        "cost_nano_usd": 1_800_000,
    }
    with transaction(engine) as session:
        session.execute(delete(JournalOffset))
    again = bookkeeper(engine, tmp_path)
    assert book_all(again) == 3
    assert hourly(engine) == before
    assert len(ledger(engine)) == 1_200
    again.close()
    journal.close()


def test_open_calls_of_a_dead_worker_become_crash_rows_and_its_segments_go(engine: Engine, tmp_path: Path) -> None:
    journal, keeper = a_journal(tmp_path), bookkeeper(engine, tmp_path)
    write_calls(journal, range(3))
    journal.open(an_open(50))
    journal.close()
    book_all(keeper)
    assert ledger(engine) == {0: "complete", 1: "complete", 2: "complete", 50: "crash"}
    sums = hourly(engine)
    assert (sums["calls"], sums["errors"], sums["unpriced_calls"], sums["cost_nano_usd"]) == (4, 1, 1, 4_500)
    assert list_segments(tmp_path) == []
    with reading(engine) as session:
        crash = session.get(TokenUsage, f"{50:032x}")
        assert crash is not None
        assert (crash.cost_nano_usd, crash.cost_source, crash.usage_source) == (None, "unpriced", "none")
        assert (crash.status_code, crash.user, crash.model) == (0, "alice", "gpt-4o")
        assert session.scalars(select(JournalOffset)).all() == []


def test_a_commit_that_fails_is_done_again_with_the_same_rows(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was written in the transaction goes with it, claims and sums included (claim and write are one)."""
    journal, keeper = a_journal(tmp_path), bookkeeper(engine, tmp_path)
    write_calls(journal, range(10))
    monkeypatch.setattr(bookkeeper_module.journal_offsets, "save", _fail_in_the_database)
    assert not keeper.step()
    assert ledger(engine) == {}
    assert hourly(engine)["attempts"] == 0
    monkeypatch.undo()
    assert keeper.step()
    assert len(ledger(engine)) == 10
    assert hourly(engine)["attempts"] == 10
    keeper.close()
    journal.close()


def _fail_in_the_database(session: Any, *_: Any, **__: Any) -> None:
    session.execute(text("SELECT * FROM no_such_table"))


def test_a_locked_database_delays_rows_and_loses_none(
    laid_url: str, engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    impatient = make_engine(laid_url, lock_wait_ms=50)
    journal, keeper = a_journal(tmp_path), bookkeeper(impatient, tmp_path)
    write_calls(journal, range(3))
    assert keeper.step()
    with transaction(engine) as session:
        is_sqlite = engine.dialect.name == "sqlite"  # there any statement of a transaction takes the lock
        session.execute(text("SELECT 1" if is_sqlite else "LOCK TABLE token_usage IN ACCESS EXCLUSIVE MODE"))
        write_calls(journal, range(3, 900))
        assert [keeper.step() for _ in range(3)] == [0] * 3
        assert keeper.wait_s > 0.2, "attempts grow further apart"
        assert keeper.unbooked_bytes() > 100_000
    assert book_all(keeper) == 2
    assert (len(ledger(engine)), hourly(engine)["calls"]) == (900, 900)
    assert keeper.unbooked_bytes() == 0
    assert caplog.text.count("the database does not answer") == 1
    assert caplog.text.count("the database answers again") == 1
    keeper.close()
    journal.close()
    impatient.dispose()


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_connection_that_breaks_is_replaced(laid_url: str, engine: Engine, tmp_path: Path) -> None:
    own = make_engine(laid_url)
    journal, keeper = a_journal(tmp_path), bookkeeper(own, tmp_path)
    write_calls(journal, range(3))
    assert keeper.step()
    with transaction(engine) as session:
        session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    write_calls(journal, range(3, 6))
    book_all(keeper)
    assert len(ledger(engine)) == 6
    keeper.close()
    journal.close()
    own.dispose()


def test_a_recorder_that_starts_without_a_database_books_all_once_it_is_there(tmp_path: Path) -> None:
    absent = make_engine("postgresql://nobody@127.0.0.1:1/none")
    journal, keeper = a_journal(tmp_path), bookkeeper(absent, tmp_path)
    write_calls(journal, range(5))
    assert not keeper.step()
    assert keeper.unbooked_bytes() > 1_000
    keeper.close()
    journal.close()
    assert len(list_segments(tmp_path)) == 1


def test_offsets_of_other_nodes_are_left_alone(engine: Engine, tmp_path: Path) -> None:
    with transaction(engine) as session:
        session.add(JournalOffset(segment="ffffffff/11111111-0", offset=5, updated_at=NOON))
        session.add(JournalOffset(segment="0badcafe/22222222-0", offset=5, updated_at=NOON))
    journal, keeper = a_journal(tmp_path), bookkeeper(engine, tmp_path)
    book_all(keeper)
    with reading(engine) as session:
        assert session.scalars(select(JournalOffset.segment)).all() == ["ffffffff/11111111-0"]
    keeper.close()
    journal.close()


def test_no_text_or_number_that_a_record_can_carry_stops_the_books(engine: Engine, tmp_path: Path) -> None:
    journal, keeper = a_journal(tmp_path), bookkeeper(engine, tmp_path)
    subject = structs.replace(
        SUBJECT, session="a\0b" + "🦉" * 400, tags=("x" * 200, "x" * 300, "\0", ""), metadata='{"a\0":1}'
    )
    strange = structs.replace(
        an_end(an_open(1, subject=subject)), upstream_id="\0" * 600, price_version="p" * 900, status_code=2**40
    )
    for end in (strange, largest_end(2)):
        journal.open(end.opened)
        journal.end(end)
    write_calls(journal, range(3, 4))
    assert book_all(keeper) == 1
    assert sorted(ledger(engine)) == [1, 2, 3]
    keeper.close()
    journal.close()


def test_two_recorders_of_two_nodes_book_into_the_same_hours(laid_url: str, engine: Engine, tmp_path: Path) -> None:
    engines = [make_engine(laid_url) for _ in range(2)]
    journals = [a_journal(tmp_path / str(node)) for node in range(2)]
    keepers = [bookkeeper(engines[node], tmp_path / str(node)) for node in range(2)]
    for node, journal in enumerate(journals):
        for number in range(node * 5_000, node * 5_000 + 1_500):
            subject = structs.replace(SUBJECT, user=f"user-{number % 7}")
            end = an_end(an_open(number, subject=subject))
            journal.open(end.opened)
            journal.end(end)
    threads = [threading.Thread(target=book_all, args=(keeper,)) for keeper in keepers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for keeper in keepers:
        book_all(keeper)
        keeper.close()
    assert len(ledger(engine)) == 3_000
    assert hourly(engine)["cost_nano_usd"] == 3_000 * 1_500
    for journal in journals:
        journal.close()
    for each in engines:
        each.dispose()


def test_an_attempt_before_the_last_counts_as_an_attempt_and_not_as_a_call(engine: Engine, tmp_path: Path) -> None:
    journal, keeper = a_journal(tmp_path), bookkeeper(engine, tmp_path)
    last = an_end(structs.replace(an_open(2), attempt=2))
    first = an_end(structs.replace(an_open(1), call_id=last.opened.id), cost_nano_usd=None)
    for end in (structs.replace(first, end_reason="upstream_error"), last):
        journal.open(end.opened)
        journal.end(end)
    book_all(keeper)
    sums = hourly(engine)
    assert (sums["attempts"], sums["calls"], sums["errors"], sums["unpriced_calls"]) == (2, 1, 0, 0)
    keeper.close()
    journal.close()


def test_rows_fall_into_the_utc_hour_of_their_admission(engine: Engine, tmp_path: Path) -> None:
    journal, keeper = a_journal(tmp_path), bookkeeper(engine, tmp_path)
    hour = NOON.replace(minute=0)
    for number, time in enumerate((hour - timedelta(microseconds=1), hour, hour + timedelta(minutes=59, seconds=59))):
        opened = structs.replace(an_open(number), timestamp_us=round(time.timestamp() * 1_000_000))
        journal.open(opened)
        journal.end(an_end(opened))
    book_all(keeper)
    with reading(engine) as session:
        counted = session.execute(select(UsageHourly.__table__.c.hour, UsageHourly.__table__.c.calls)).all()
    assert sorted(counted) == [(hour - timedelta(hours=1), 1), (hour, 2)]
    keeper.close()
    journal.close()
