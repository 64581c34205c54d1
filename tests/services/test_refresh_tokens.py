"""Refresh tokens: one use each; a second use ends the login."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine, func, select, text

from token_tracker.database.models import RefreshToken, User
from token_tracker.database.session import transaction
from token_tracker.services import refresh_tokens


def issue(engine: Engine, at: datetime, user: str = "ann") -> str:
    with transaction(engine) as session:
        return refresh_tokens.issue(session, user_id=user, at=at)


def rotate(engine: Engine, token: str, at: datetime) -> str | None:
    """The next token, or None."""
    with transaction(engine) as session:
        rotated = refresh_tokens.rotate(session, token=token, at=at)
        assert rotated is None or rotated[0].id == "ann"
        return rotated[1] if rotated else None


def test_each_token_is_used_once_and_brings_the_next(people: Engine, at: datetime) -> None:
    first = issue(people, at)
    second = rotate(people, first, at)
    assert second is not None
    third = rotate(people, second, at)
    assert len({first, second, third}) == 3


def test_a_second_use_ends_the_whole_login_and_no_other(people: Engine, at: datetime) -> None:
    first, elsewhere = issue(people, at), issue(people, at)
    second = rotate(people, first, at)
    assert second is not None
    assert rotate(people, first, at) is None
    assert rotate(people, second, at) is None
    assert rotate(people, elsewhere, at) is not None


def test_of_many_who_use_one_token_at_once_one_succeeds(people: Engine, at: datetime) -> None:
    token = issue(people, at)
    barrier = threading.Barrier(4)
    results: list[str | None] = []

    def use() -> None:
        barrier.wait()
        results.append(rotate(people, token, at))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [result for result in results if result]
    assert (len(results), len(won)) == (4, 1)
    assert rotate(people, won[0], at) is None  # the second use ended the login


@pytest.mark.parametrize("token", ["", "unknown", "\ud800", "x" * 10_000])
def test_an_unknown_token_is_worth_nothing(people: Engine, at: datetime, token: str) -> None:
    assert rotate(people, token, at) is None


def test_a_login_ends_after_thirty_days_however_often_it_was_refreshed(people: Engine, at: datetime) -> None:
    token = issue(people, at)
    late = rotate(people, token, at + timedelta(days=29))
    assert late is not None
    assert rotate(people, late, at + timedelta(days=30)) is None


def test_a_disabled_account_is_not_refreshed(people: Engine, at: datetime) -> None:
    token = issue(people, at)
    with transaction(people) as session:
        session.get_one(User, "ann").disabled_at = at
    assert rotate(people, token, at) is None


def test_logging_out_ends_that_login_and_may_be_repeated(people: Engine, at: datetime) -> None:
    token, elsewhere = issue(people, at), issue(people, at)
    for _ in range(2):
        with transaction(people) as session:
            refresh_tokens.revoke(session, token=token, at=at)
            refresh_tokens.revoke(session, token="unknown", at=at)
    assert rotate(people, token, at) is None
    assert rotate(people, elsewhere, at) is not None


def test_all_logins_of_an_account_can_be_ended(people: Engine, at: datetime) -> None:
    tokens, other = [issue(people, at), issue(people, at)], issue(people, at, "bob")
    with transaction(people) as session:
        refresh_tokens.revoke_user(session, user_id="ann", at=at)
    assert [rotate(people, token, at) for token in tokens] == [None, None]
    with transaction(people) as session:
        assert refresh_tokens.rotate(session, token=other, at=at) is not None


def test_tokens_are_stored_as_hashes_and_deleted_when_their_time_is_over(people: Engine, at: datetime) -> None:
    token = issue(people, at)
    with people.connect() as connection:
        assert token not in str(connection.execute(text("SELECT * FROM refresh_tokens")).all())
    issue(people, at + timedelta(days=30), "bob")
    with transaction(people) as session:
        assert session.scalars(select(func.count()).select_from(RefreshToken)).one() == 1
