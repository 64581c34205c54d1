"""Who owns a stored object, from the journal over the database to the index of every node."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec import structs
from sqlalchemy import Engine, select

from token_tracker.database.models import ProviderObject
from token_tracker.database.session import reading, transaction
from token_tracker.proxy.books import object_books
from token_tracker.proxy.books.bookkeeper import Bookkeeper
from token_tracker.proxy.books.journal import Journal
from token_tracker.proxy.books.object_books import ObjectBooks, object_row
from token_tracker.proxy.books.object_index import SYNCED_TO, ObjectIndex
from token_tracker.proxy.books.records import Stored
from token_tracker.services.objects import book_objects
from token_tracker.services.outage import Outage

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
MADE = Stored(
    kind="response", id="resp_1", account="place-key", deployment="gpt", provider="openai", model="gpt-4o",
    team="core", user="ada", key_id="key-1", call_id="call-1", at_us=int(AT.timestamp() * 1e6), is_background=True,
)  # fmt: skip


@pytest.fixture
def index(tmp_path: Path) -> ObjectIndex:
    return ObjectIndex(tmp_path / "objects.db")


def booked(engine: Engine) -> list[ProviderObject]:
    with reading(engine) as session:
        return list(session.scalars(select(ProviderObject).order_by(ProviderObject.id)))


def test_the_index_takes_records_in_any_order_and_any_number_of_times(index: ObjectIndex) -> None:
    deleted = structs.replace(MADE, is_deleted=True)
    metered = structs.replace(MADE, metered_by="call-2")
    index.put([metered, MADE])
    index.put([MADE])
    assert index.find("response", "resp_1") == [metered]
    index.put([deleted])
    index.put([MADE, metered])
    assert index.find("response", "resp_1") == []


def test_what_is_known_of_an_id_is_kept_apart_by_kind_and_account(index: ObjectIndex) -> None:
    elsewhere = structs.replace(MADE, account="other-key", team="red")
    index.put([MADE, elsewhere])
    assert {each.owner for each in index.find("response", "resp_1")} == {"team:core", "team:red"}
    assert index.find("file", "resp_1") == []
    assert index.owned("response", ["resp_1", "resp_2"], "team:core", "place-key") == {"resp_1"}
    assert index.owned("response", ["resp_1"], "team:core", "other-key") == set()


def test_only_the_first_claim_books_the_usage_of_a_background_response(index: ObjectIndex) -> None:
    index.put([MADE])
    assert [index.claim(MADE, call) for call in ("call-2", "call-3", "call-2")] == [True, False, False]


def test_who_has_no_team_owns_alone() -> None:
    assert (MADE.owner, structs.replace(MADE, team="").owner) == ("team:core", "user:ada")


def test_the_journal_is_booked_once_with_what_was_learned_later(
    engine: Engine, tmp_path: Path, index: ObjectIndex
) -> None:
    journal = Journal(tmp_path / "journal", "node", 100)
    journal.stored(MADE)
    journal.stored(structs.replace(MADE, metered_by="call-2"))
    journal.stored(structs.replace(MADE, id="resp_2", is_background=False))
    journal.close()
    for _ in range(2):
        keeper = Bookkeeper(engine, tmp_path / "journal", Outage("kept"), "node", ObjectBooks(engine, index, "node"))
        while keeper.step():
            pass
        keeper.close()
    [first, second] = booked(engine)
    assert (first.id, first.metered_by, first.team, first.created_at) == ("resp_1", "call-2", "core", AT)
    assert (second.id, second.metered_by, second.deleted_at) == ("resp_2", "", None)
    assert index.find("response", "resp_1")[0].metered_by == "call-2", "the index has what the gateway could not put"


def test_a_replayed_batch_changes_nothing_and_later_words_do_not_undo_the_first(engine: Engine) -> None:
    gone = structs.replace(MADE, is_deleted=True, metered_by="call-2")
    for records in ([gone], [MADE], [structs.replace(MADE, metered_by="call-9")]):
        with transaction(engine) as session:
            book_objects(session, [object_row(record, "node") for record in records], at=AT)
    [row] = booked(engine)
    assert (row.metered_by, row.deleted_at) == ("call-2", AT)


def test_another_node_learns_what_this_one_made_page_by_page(
    engine: Engine, tmp_path: Path, index: ObjectIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_books, "PAGE", 2)
    made = [structs.replace(MADE, id=f"resp_{number}") for number in range(7)]
    with transaction(engine) as session:
        book_objects(session, [object_row(each, "there") for each in made], at=AT)
    here = ObjectBooks(engine, index, "here")
    assert not index.fact(SYNCED_TO)
    here.sync(AT)
    assert index.fact(SYNCED_TO)
    assert all(index.find("response", each.id) for each in made)
    with transaction(engine) as session:
        late = [structs.replace(made[3], is_deleted=True), structs.replace(MADE, id="late")]
        book_objects(session, [object_row(each, "there") for each in late], at=AT + timedelta(seconds=20))
        book_objects(session, [object_row(structs.replace(MADE, id="own"), "here")], at=AT + timedelta(seconds=20))
    here.sync(AT + timedelta(seconds=30))
    assert index.find("response", "resp_3") == []
    assert index.find("response", "late") and not index.find("response", "own"), "its own it has from its gateways"
    fresh = ObjectIndex(tmp_path / "fresh.db")
    ObjectBooks(engine, fresh, "here").sync(AT)
    assert fresh.find("response", "own"), "a new index learns everything"


def test_texts_that_no_column_takes_are_cut() -> None:
    row = object_row(structs.replace(MADE, deployment="x" * 999, model="a\0b"), "node")
    assert (len(row["deployment"]), row["model"]) == (255, "ab")
