"""Wrong passwords make the next attempt wait: longer each time, for a bounded time, and forgotten after a while."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from token_tracker.database.session import transaction
from token_tracker.services import throttle

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)


def attempt(engine: Engine, at: datetime, username: str = "pat", address: str = "10.0.0.1") -> timedelta | None:
    with transaction(engine) as session:
        return throttle.begin(session, username=username, address=address, at=at)


def test_each_wrong_one_after_the_free_ones_doubles_the_wait_up_to_a_bound(engine: Engine) -> None:
    at, waits = NOON, []
    for _ in range(throttle.FREE_BY_ACCOUNT - 1):
        assert attempt(engine, at) is None
    for _ in range(12):
        assert attempt(engine, at) is None
        wait = attempt(engine, at)
        assert wait is not None
        waits.append(wait)
        at += wait
    assert waits[:4] == [throttle.FIRST_WAIT * 2**power for power in range(4)]
    assert waits[-1] == throttle.LONGEST_WAIT


def test_an_attempt_that_must_wait_does_not_lengthen_the_wait(engine: Engine) -> None:
    for _ in range(throttle.FREE_BY_ACCOUNT):
        attempt(engine, NOON)
    assert [attempt(engine, NOON) for _ in range(3)] == [throttle.FIRST_WAIT] * 3


def test_a_right_one_starts_the_account_anew_and_an_hour_of_rest_does_too(engine: Engine) -> None:
    for _ in range(throttle.FREE_BY_ACCOUNT - 1):
        attempt(engine, NOON)
    with transaction(engine) as session:
        throttle.begin(session, username="pat", address="10.0.0.1", at=NOON)
        throttle.succeeded(session, username="pat", address="10.0.0.1")
    assert attempt(engine, NOON) is None
    for _ in range(throttle.FREE_BY_ACCOUNT):
        attempt(engine, NOON, "ann", "10.0.0.2")
    assert attempt(engine, NOON, "ann", "10.0.0.2") is not None
    later = NOON + throttle.FORGOTTEN_AFTER + timedelta(seconds=1)
    assert [attempt(engine, later, "ann", "10.0.0.2") for _ in range(throttle.FREE_BY_ACCOUNT)] == [None] * 5
