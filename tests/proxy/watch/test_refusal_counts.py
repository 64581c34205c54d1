"""Refused calls on their way from the gateway over the journal into the table."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from msgspec import structs
from sqlalchemy import Engine, delete, select

from tests.proxy.conftest import MakeHouse
from tests.proxy.house import KEY, key_record, wait_until
from token_tracker.config import paths
from token_tracker.database.models import JournalOffset, RefusalsHourly
from token_tracker.database.session import reading, transaction
from token_tracker.proxy.books.bookkeeper import Bookkeeper
from token_tracker.proxy.books.journal import Journal, JournalUnavailable
from token_tracker.proxy.books.records import Refused
from token_tracker.proxy.books.rows import refusal_row
from token_tracker.proxy.watch.refusal_counts import HOUR_US, KINDS_MAX, RefusalCounts
from token_tracker.services.outage import Outage
from token_tracker.services.refusals import book_refusals

ONE = Refused(491_000 * HOUR_US, "model_not_found", 404, "key-1", "ada", "core", "other", "/v1/embeddings", 0)


def booked(engine: Engine) -> dict[tuple[str, str, str], int]:
    with reading(engine) as session:
        return {(row.code, row.key_id, row.model): row.calls for row in session.scalars(select(RefusalsHourly))}


def book(engine: Engine, journal: Path) -> None:
    keeper = Bookkeeper(engine, journal, Outage("kept"))
    while keeper.step():
        pass
    keeper.close()


def test_a_flood_is_one_record_for_each_kind(make_house: MakeHouse) -> None:
    house = make_house(keys={KEY: key_record(models=("gpt",))})
    for number in range(30):
        assert house.call({}, key=f"sk-tt-guess-{number}").status == 401
        assert house.chat(f"made-up-{number}").status == 404
    house.stop()
    found = {(each.code, each.key_id, each.model): 0 for each in house.records() if isinstance(each, Refused)}
    for each in house.records():
        if isinstance(each, Refused):
            found[each.code, each.key_id, each.model] += each.calls
    assert found == {("invalid_api_key", "", ""): 30, ("model_not_found", "key-1", "other"): 30}
    assert sum(isinstance(each, Refused) for each in house.records()) <= 6


def test_counts_reach_the_table_once_however_often_they_are_read(
    engine: Engine, make_house: MakeHouse, tmp_path: Path
) -> None:
    house = make_house(keys={KEY: key_record(models=("else",))})
    assert [house.chat().status for _ in range(3)] == [403] * 3
    house.stop()
    for _ in range(2):
        book(engine, paths.journal_dir(house.settings))
    assert booked(engine) == {("model_not_allowed", "key-1", "gpt"): 3}


def test_the_same_kind_adds_up_over_records_and_batches(engine: Engine, tmp_path: Path) -> None:
    for _ in range(2):
        journal = Journal(tmp_path / "journal", "node", 100)
        journal.refused(ONE.counted(2, journal.incarnation, 1))
        journal.refused(ONE.counted(3, journal.incarnation, 2))
        journal.close()
        book(engine, tmp_path / "journal")
    assert booked(engine) == {("model_not_found", "key-1", "other"): 10}
    with reading(engine) as session:
        [row] = session.scalars(select(RefusalsHourly))
        assert row.hour == datetime.fromtimestamp(491_000 * 3600, UTC)


def test_a_journal_that_is_booked_again_from_its_start_adds_nothing(engine: Engine, tmp_path: Path) -> None:
    """Its offsets are lost, and a copy of it lies beside it as a dead node's: each count is known by its writer."""
    directory = tmp_path / "journal"
    journal = Journal(directory, "node", 100)
    counts = RefusalCounts(journal.refused, journal.incarnation)
    for _ in range(3):
        counts.add(ONE)
        counts.add(structs.replace(ONE, key_id="key-2"))
        counts.flush()
    book(engine, directory)
    expected = {("model_not_found", "key-1", "other"): 3, ("model_not_found", "key-2", "other"): 3}
    assert booked(engine) == expected
    copied = shutil.copytree(directory / "node", directory / "dead")
    with transaction(engine) as session:
        session.execute(delete(JournalOffset))
    book(engine, directory)
    assert not list(copied.iterdir()), "a dead worker's segments are booked to their end and go"
    assert booked(engine) == expected
    counts.add(ONE)
    counts.flush()
    book(engine, directory)
    assert booked(engine) == expected | {("model_not_found", "key-1", "other"): 4}
    journal.close()


def test_records_of_versions_that_named_no_writer_are_still_booked(engine: Engine, tmp_path: Path) -> None:
    with transaction(engine) as session:
        book_refusals(session, [refusal_row(structs.replace(ONE, calls=2))] * 2)
    assert booked(engine) == {("model_not_found", "key-1", "other"): 4}


def test_counts_wait_while_the_journal_takes_nothing_and_kinds_are_bounded() -> None:
    kept: list[Refused] = []
    full = [True]

    def keep(record: Refused) -> None:
        if full[0]:
            raise JournalUnavailable("full")
        kept.append(record)

    counts = RefusalCounts(keep, "0badcafe")
    for number in range(KINDS_MAX + 20):
        counts.add(Refused(0, "frozen", 403, f"key-{number}", "", "", "", "", 0))
    counts.flush()
    assert not kept
    full[0] = False
    counts.flush()
    counts.flush()
    assert len(kept) == KINDS_MAX + 1 and sum(each.calls for each in kept) == KINDS_MAX + 20


def test_a_running_gateway_writes_them_within_seconds(make_house: MakeHouse) -> None:
    house = make_house()
    assert house.call({}, key=None).status == 401
    wait_until(lambda: [each for each in house.records() if isinstance(each, Refused)], "the count", 6)
