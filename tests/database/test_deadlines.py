"""A reading transaction ends in its time whatever it asks; writing ones and those without a bound go on."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from token_tracker.database.deadlines import TooSlow, check, was_too_slow, within
from token_tracker.database.session import reading, transaction


def counting_to(number: int) -> str:
    return f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {number}) SELECT max(i) FROM n"


def test_a_question_without_an_end_is_ended_and_the_connection_can_be_used_again(engine: Engine) -> None:
    bounded = within(engine, 0.3)
    started_s = time.monotonic()
    with pytest.raises(DBAPIError) as raised, reading(bounded) as session:
        session.execute(text(counting_to(10**12)))
    assert was_too_slow(raised.value)
    assert time.monotonic() - started_s < 10
    for _ in range(3):
        with reading(bounded) as session:
            assert session.scalar(text(counting_to(10))) == 10


def test_the_time_is_that_of_all_statements_together(engine: Engine) -> None:
    with pytest.raises(DBAPIError) as raised, reading(within(engine, 0.3)) as session:
        while True:
            session.execute(text(counting_to(20_000)))
    assert was_too_slow(raised.value)


def test_who_works_on_many_rows_is_told_that_the_time_is_over(engine: Engine) -> None:
    with reading(within(engine, 0.05)) as session:
        session.execute(text("SELECT 1"))
        check(session)
        time.sleep(0.06)  # the work
        with pytest.raises(TooSlow) as raised:
            check(session)
    assert was_too_slow(raised.value)


def test_without_a_bound_and_while_writing_it_takes_as_long_as_it_takes(engine: Engine) -> None:
    bounded = within(engine, 0.01)
    with reading(within(bounded, None)) as session:
        assert session.scalar(text(counting_to(200_000))) == 200_000
    with transaction(bounded) as session:
        assert session.scalar(text(counting_to(200_000))) == 200_000
    with reading(engine) as session:
        assert session.scalar(text(counting_to(200_000))) == 200_000
