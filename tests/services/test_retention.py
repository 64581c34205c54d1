"""Retention: old rows go in bounded steps, their sums stay, and the horizon is known before anything is gone."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Engine, func, select

from tests.services.ledger_rows import NOON, a_row
from token_tracker.database.models import TokenUsage, TokenUsageTag, UsageHourly
from token_tracker.database.session import reading, transaction
from token_tracker.services import retention
from token_tracker.services.booking import book
from token_tracker.services.usage_horizon import kept_from

HOUR = timedelta(hours=1)


def test_nothing_is_deleted_before_a_horizon_is_recorded(engine: Engine) -> None:
    with transaction(engine) as session:
        book(session, [a_row(1)], at=NOON)
        assert retention.delete_older(session, limit=10) == 0


def test_the_horizon_is_a_whole_hour_and_only_moves_forward(engine: Engine) -> None:
    with transaction(engine) as session:
        assert retention.move_horizon(session, keep_from=NOON + timedelta(minutes=59)) == NOON
        assert retention.move_horizon(session, keep_from=NOON - HOUR) == NOON
        assert retention.move_horizon(session, keep_from=NOON + HOUR) == NOON + HOUR
    with reading(engine) as session:
        assert kept_from(session) == NOON + HOUR


def test_old_rows_and_their_tags_go_oldest_first_and_their_sums_stay(engine: Engine) -> None:
    rows = [a_row(number, timestamp=NOON + number * timedelta(minutes=10), tags=("t",)) for number in range(12)]
    with transaction(engine) as session:
        book(session, rows, at=NOON)
        retention.move_horizon(session, keep_from=NOON + HOUR)
    deleted = []
    for _ in range(3):
        with transaction(engine) as session:
            deleted.append(retention.delete_older(session, limit=4))
    assert deleted == [4, 2, 0]
    with reading(engine) as session:
        kept = session.scalars(select(TokenUsage.timestamp).order_by(TokenUsage.timestamp)).all()
        assert kept == [row["timestamp"] for row in rows[6:]]
        assert session.scalar(select(func.count()).select_from(TokenUsageTag)) == 6
        assert session.scalar(select(func.sum(UsageHourly.__table__.c.calls))) == 12
