"""Sums over one dimension equal the rows at all times: while hours close, whatever comes late, and after healing."""

from __future__ import annotations

import random
import threading
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, delete, select, update

from tests.services.ledger_rows import NOON, a_row
from token_tracker.database.models import SUM_DIMENSIONS, UsageHourly, UsageSums
from token_tracker.database.session import reading, transaction
from token_tracker.domain.latency import bucket_of
from token_tracker.services import closed_sums, retention, rollups
from token_tracker.services.booking import LedgerRow, book, hourly_sums

TABLE = UsageSums.__table__
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MIDNIGHT = NOON.replace(hour=0)
LATER = MIDNIGHT + 4 * DAY  # all is over


def some_rows(count: int, seed: int, start: datetime = MIDNIGHT, days: int = 3) -> list[LedgerRow]:
    """Of several of everything, at any time of some days, in any order."""
    chosen = random.Random(seed)
    return [
        a_row(
            seed * 100_000 + number,
            timestamp=start + chosen.random() * days * DAY,
            key_id=chosen.choice("kl"),
            user_id=chosen.choice(["ann", "bob", ""]),
            team_id=chosen.choice(["red", ""]),
            agent=chosen.choice(["", "bot"]),
            model=chosen.choice(["gpt-4o", "small"]),
            provider=chosen.choice(["openai", "groq"]),
            end_reason=chosen.choice(["complete", "timeout"]),
            call_id=chosen.choice(["f" * 32, f"{seed * 100_000 + number:032x}"]),
            cost_nano_usd=chosen.choice([0, 7, 10**12]),
            output_tokens=chosen.randrange(50),
            latency_ms=chosen.random() * 5_000,
        )
        for number in range(count)
    ]


def booked(engine: Engine, rows: list[LedgerRow]) -> None:
    with transaction(engine) as session:
        book(session, rows, at=NOON)


def close(engine: Engine, at: datetime, steps: int = 1000) -> None:
    for _ in range(steps):
        with transaction(engine) as session:
            if not closed_sums.close_next(session, at=at):
                return


def until(engine: Engine) -> datetime | None:
    with reading(engine) as session:
        return closed_sums.closed_until(session)


def standing(engine: Engine) -> dict[Any, tuple[int, int, int, int, int]]:
    names = ("attempts", "calls", "output_tokens", "cost_nano_usd", "latency_17")
    with reading(engine) as session:
        rows = session.execute(select(TABLE)).mappings().all()
    return {
        (row["dimension"], row["span"], row["start"], row["value"]): tuple(row[name] for name in names) for row in rows
    }


def added_up(rows: list[LedgerRow], closed: datetime | None) -> dict[Any, tuple[int, ...]]:
    """What must stand there, from nothing but the rows."""
    found: dict[Any, tuple[int, ...]] = {}
    for row in rows:
        hour = row["timestamp"].replace(minute=0, second=0, microsecond=0)
        is_last = row["id"] == row["call_id"]
        own = (
            1,
            int(is_last),
            row["output_tokens"],
            row["cost_nano_usd"] or 0,
            int(is_last and bucket_of(row["latency_ms"]) == 17),
        )
        for span, start, length in (("hour", hour, HOUR), ("day", hour.replace(hour=0), DAY)):
            if closed is None or start + length > closed:
                continue
            for dimension in SUM_DIMENSIONS:
                column = "end_reason" if dimension == "outcome" else dimension
                place = (dimension, span, start, row[column] if dimension else "")
                found[place] = tuple(a + b for a, b in zip(found.get(place, (0,) * 5), own, strict=True))
    return found


def wrong(engine: Engine) -> int:
    with reading(engine) as session:
        return sum(len(rollups.differing(session, hour=MIDNIGHT + number * HOUR)) for number in range(3 * 24))


@pytest.mark.parametrize("seed", [1, 2])
def test_they_are_the_sums_of_the_rows_whatever_is_booked_when(engine: Engine, seed: int) -> None:
    """Hours close between bookings of any time: early, in time and late."""
    everything: list[LedgerRow] = []
    chosen = random.Random(seed)
    for number in range(8):
        rows = some_rows(40, seed * 10 + number)
        booked(engine, rows)
        booked(engine, rows[:5])  # the same once more
        everything += rows
        close(engine, MIDNIGHT + chosen.random() * 4 * DAY, steps=chosen.choice([1, 5, 30]))
        assert standing(engine) == added_up(everything, until(engine))
    close(engine, LATER)
    assert until(engine) == LATER - HOUR
    assert standing(engine) == added_up(everything, LATER)
    assert wrong(engine) == 0


def test_an_hour_closes_a_quarter_of_an_hour_after_its_end_and_no_step_comes_twice(engine: Engine) -> None:
    booked(engine, [a_row(1, timestamp=NOON)])
    close(engine, NOON + HOUR + timedelta(minutes=14))
    assert standing(engine) == {}
    close(engine, NOON + HOUR + timedelta(minutes=15))
    assert until(engine) == NOON + HOUR
    before = standing(engine)
    assert {place[:3] for place in before} == {(dimension, "hour", NOON) for dimension in SUM_DIMENSIONS}
    close(engine, NOON)  # a clock that was put back
    assert (until(engine), standing(engine)) == (NOON + HOUR, before)


def test_a_day_is_added_up_when_it_is_over_also_if_nothing_came_after_it(engine: Engine) -> None:
    rows = [a_row(1, timestamp=NOON), a_row(2, timestamp=MIDNIGHT + 2 * DAY + HOUR)]
    booked(engine, rows[:1])
    close(engine, MIDNIGHT + DAY)
    assert not any(place[1] == "day" for place in standing(engine))
    booked(engine, rows[1:])
    close(engine, LATER)
    assert standing(engine) == added_up(rows, LATER)


@pytest.mark.parametrize(
    "damage",
    [
        update(TABLE).where(TABLE.c.span == "day").values(cost_nano_usd=TABLE.c.cost_nano_usd + 1),
        update(TABLE).where(TABLE.c.dimension == "user_id").values(latency_17=TABLE.c.latency_17 + 1),
        delete(TABLE).where(TABLE.c.span == "hour"),
        delete(TABLE),
        update(TABLE).where(TABLE.c.dimension == "team_id", TABLE.c.value == "red").values(value="blue"),
        update(UsageHourly.__table__).values(calls=50),
    ],
    ids=["days", "one dimension", "hours missing", "all missing", "of nobody", "what they are made of"],
)
def test_whatever_is_wrong_is_found_and_added_up_again(engine: Engine, damage: Any) -> None:
    rows = some_rows(40, 7, days=1)
    booked(engine, rows)
    close(engine, LATER)
    with transaction(engine) as session:
        session.execute(damage)
    assert wrong(engine) > 0
    for number in range(24):
        with transaction(engine) as session:
            rollups.heal(session, hour=MIDNIGHT + number * HOUR)
    assert wrong(engine) == 0
    assert standing(engine) == added_up(rows, LATER)


def test_they_stay_when_their_rows_are_removed_and_can_still_be_made_again(engine: Engine) -> None:
    rows = some_rows(30, 3, days=1)
    booked(engine, rows)
    close(engine, LATER)
    with transaction(engine) as session:
        retention.move_horizon(session, keep_from=LATER)
        assert retention.delete_older(session, limit=100) == 30
        session.execute(delete(TABLE))
    for number in range(24):
        with transaction(engine) as session:
            rollups.heal(session, hour=MIDNIGHT + number * HOUR)
    assert standing(engine) == added_up(rows, LATER)


def test_closing_beside_a_running_recorder_loses_nothing(engine: Engine) -> None:
    everything = some_rows(600, 5)
    done = threading.Event()

    def record() -> None:
        for number in range(0, 600, 6):
            booked(engine, everything[number : number + 6])
        done.set()

    recorder = threading.Thread(target=record)
    recorder.start()
    at = MIDNIGHT
    while not done.is_set():
        close(engine, at, steps=3)
        at = min(at + 2 * HOUR, LATER)
    recorder.join()
    close(engine, LATER)
    assert standing(engine) == added_up(everything, LATER)


def test_sums_at_the_largest_number_stop_nothing(engine: Engine) -> None:
    rows = [a_row(number, timestamp=NOON + number * HOUR, output_tokens=2**62) for number in range(3)]
    assert all(row["output_tokens"] == 2**62 for row in hourly_sums(rows))
    booked(engine, rows)
    close(engine, LATER)
    assert until(engine) == LATER - HOUR
