"""The roll-up check: it finds and heals every difference, and touches nothing else, whenever it is stopped."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, select, update

from tests.services.ledger_rows import NOON, a_row
from token_tracker.database.models import ROLLUP_KEYS, TokenUsage, UsageHourly
from token_tracker.database.session import reading, transaction
from token_tracker.domain.latency import UPPER_BOUNDS_MS
from token_tracker.services import retention, rollups
from token_tracker.services.booking import book

TABLE = UsageHourly.__table__
HOUR = timedelta(hours=1)


def fill(engine: Engine) -> None:
    """Three hours: two keys in the first, one in each of the others."""
    rows = [
        a_row(1, cost_nano_usd=5),
        a_row(2, user_id="bob", latency_ms=3_000.0, tags=("x",)),
        a_row(3, call_id="f" * 32, end_reason="upstream_error", cost_nano_usd=0),
        a_row(4, timestamp=NOON + HOUR, cost_nano_usd=None, cost_source="unpriced"),
        a_row(5, timestamp=NOON + 2 * HOUR, end_reason="timeout"),
    ]
    with transaction(engine) as session:
        book(session, rows, at=NOON)


def contents(engine: Engine) -> dict[Any, Any]:
    with reading(engine) as session:
        return {
            tuple(row[name] for name in ROLLUP_KEYS): dict(row) for row in session.execute(select(TABLE)).mappings()
        }


def change(engine: Engine, statement: Any) -> None:
    with transaction(engine) as session:
        session.execute(statement)


def wrong_in(engine: Engine, hour: Any) -> int:
    with reading(engine) as session:
        return len(rollups.differing(session, hour=hour))


def healed(engine: Engine, hour: Any) -> int:
    with transaction(engine) as session:
        return rollups.heal(session, hour=hour)


def test_what_was_booked_is_found_right(engine: Engine) -> None:
    fill(engine)
    before = contents(engine)
    assert [wrong_in(engine, NOON + hours * HOUR) for hours in range(4)] == [0, 0, 0, 0]
    assert [healed(engine, NOON + hours * HOUR) for hours in range(4)] == [0, 0, 0, 0]
    assert contents(engine) == before


@pytest.mark.parametrize(
    ("damage", "wrong"),
    [
        (update(TABLE).where(TABLE.c.hour == NOON).values(cost_nano_usd=TABLE.c.cost_nano_usd + 1), 3),
        (update(TABLE).where(TABLE.c.user_id == "bob").values(latency_00=7), 1),
        (delete(TABLE).where(TABLE.c.hour == NOON), 3),
        (update(TABLE).where(TABLE.c.user_id == "bob").values(user_id="nobody"), 2),
    ],
    ids=["wrong sums", "wrong latencies", "missing", "a key without rows"],
)
def test_every_difference_is_found_and_healed_and_other_hours_are_left(engine: Engine, damage: Any, wrong: int) -> None:
    fill(engine)
    before = contents(engine)
    change(engine, damage)
    change(engine, update(TABLE).where(TABLE.c.hour == NOON + HOUR).values(calls=50))
    assert wrong_in(engine, NOON) == wrong
    assert healed(engine, NOON) == wrong
    assert healed(engine, NOON) == 0
    assert wrong_in(engine, NOON + HOUR) == 1, "one hour at a time"
    assert healed(engine, NOON + HOUR) == 1
    assert contents(engine) == before


def test_a_check_that_is_stopped_half_way_leaves_the_hour_as_it_was(engine: Engine) -> None:
    fill(engine)
    change(engine, update(TABLE).values(calls=9))
    damaged = contents(engine)
    with pytest.raises(RuntimeError), transaction(engine) as session:
        assert rollups.heal(session, hour=NOON) == 3
        raise RuntimeError("stopped before the commit")
    assert contents(engine) == damaged
    assert healed(engine, NOON) == 3


def test_hours_before_the_retention_horizon_are_never_touched(engine: Engine) -> None:
    fill(engine)
    with transaction(engine) as session:
        retention.move_horizon(session, keep_from=NOON + HOUR)
        assert retention.delete_older(session, limit=100) == 3
    before = contents(engine)
    with reading(engine) as session:
        assert rollups.first_hour(session) == NOON + HOUR
    assert (wrong_in(engine, NOON), healed(engine, NOON)) == (0, 0)
    assert contents(engine) == before


def test_the_first_hour_is_the_earliest_of_rows_and_sums(engine: Engine) -> None:
    with reading(engine) as session:
        assert rollups.first_hour(session) is None
    fill(engine)
    change(engine, delete(TABLE).where(TABLE.c.hour == NOON))
    with reading(engine) as session:
        assert rollups.first_hour(session) == NOON
    change(engine, delete(TokenUsage))
    with reading(engine) as session:
        assert rollups.first_hour(session) == NOON + HOUR


def test_a_check_beside_a_running_recorder_ends_with_the_right_sums(engine: Engine) -> None:
    fill(engine)
    done = threading.Event()

    def record() -> None:
        for number in range(100, 150):
            with transaction(engine) as session:
                book(session, [a_row(number), a_row(number + 1_000, user_id=f"u{number % 9}")], at=NOON)
        done.set()

    recorder = threading.Thread(target=record)
    recorder.start()
    while not done.is_set():
        change(engine, update(TABLE).where(TABLE.c.user_id == "ann").values(input_tokens=0))
        healed(engine, NOON)
    recorder.join()
    healed(engine, NOON)
    assert wrong_in(engine, NOON) == 0
    ann = contents(engine)[(NOON, "k", "ann", "", "", "gpt-4o", "openai", "complete")]
    assert (ann["calls"], ann["input_tokens"]) == (51, 510)


latencies = st.floats(0, 2e6) | st.sampled_from(UPPER_BOUNDS_MS)


@given(values=st.lists(latencies, min_size=1, max_size=30, unique=True))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_database_sorts_latencies_into_the_same_counters(engine: Engine, values: list[float]) -> None:
    change(engine, delete(TokenUsage))
    change(engine, delete(TABLE))
    with transaction(engine) as session:
        book(session, [a_row(number, latency_ms=value) for number, value in enumerate(values)], at=NOON)
    assert wrong_in(engine, NOON) == 0
