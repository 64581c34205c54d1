"""Refused calls on their way from the gateway over the journal into the table."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine, select

from tests.proxy.conftest import MakeHouse
from tests.proxy.house import KEY, key_record, wait_until
from token_tracker.config import paths
from token_tracker.database.models import RefusalsHourly
from token_tracker.database.session import reading
from token_tracker.proxy.books.bookkeeper import Bookkeeper
from token_tracker.proxy.books.journal import Journal, JournalUnavailable
from token_tracker.proxy.books.records import Refused
from token_tracker.proxy.watch.refusal_counts import HOUR_US, KINDS_MAX, RefusalCounts
from token_tracker.services.outage import Outage

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
        journal.refused(ONE.times(2))
        journal.refused(ONE.times(3))
        journal.close()
        book(engine, tmp_path / "journal")
    assert booked(engine) == {("model_not_found", "key-1", "other"): 10}
    with reading(engine) as session:
        [row] = session.scalars(select(RefusalsHourly))
        assert row.hour == datetime.fromtimestamp(491_000 * 3600, UTC)


def test_counts_wait_while_the_journal_takes_nothing_and_kinds_are_bounded() -> None:
    kept: list[Refused] = []
    full = [True]

    def keep(record: Refused) -> None:
        if full[0]:
            raise JournalUnavailable("full")
        kept.append(record)

    counts = RefusalCounts(keep)
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
