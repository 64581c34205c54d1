"""Leases: one holder at a time, whoever asks and however often."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from token_tracker.database.session import reading, transaction
from token_tracker.services import leases

AT = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)
LASTS = timedelta(seconds=15)


def asks(engine: Engine, holder: str, after_s: float = 0) -> bool:
    with transaction(engine) as session:
        return leases.acquire(session, name="job", holder=holder, at=AT + timedelta(seconds=after_s), lasts=LASTS)


def test_a_lease_has_one_holder_until_it_ends(engine: Engine) -> None:
    assert asks(engine, "first")
    assert not asks(engine, "second", 14.9)
    assert asks(engine, "first", 14.9), "its holder renews it"
    assert not asks(engine, "second", 29.8)
    assert asks(engine, "second", 29.9)
    assert not asks(engine, "first", 30)


def test_a_lease_given_back_is_free_at_once_but_only_its_holder_gives_it(engine: Engine) -> None:
    assert asks(engine, "first")
    for holder, free in (("second", False), ("first", True)):
        with transaction(engine) as session:
            leases.release(session, name="job", holder=holder)
        assert asks(engine, "third") is free


def test_of_many_that_ask_at_once_one_gets_it(engine: Engine) -> None:
    got: list[str] = []
    threads = [
        threading.Thread(target=lambda name=f"h{number}": got.append(name) if asks(engine, name) else None)
        for number in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1


def test_a_lease_is_held_until_it_ends_and_no_longer(engine: Engine) -> None:
    def held(after_s: float) -> bool:
        with reading(engine) as session:
            return leases.is_held(session, name="job", at=AT + timedelta(seconds=after_s))

    assert not held(0)
    assert asks(engine, "first")
    assert held(14.9) and not held(15)
