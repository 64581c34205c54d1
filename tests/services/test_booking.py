"""Booking: rows, tags and sums together, each attempt once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine, func, select

from tests.services.ledger_rows import NOON, a_row
from token_tracker.database.models import TokenUsage, TokenUsageTag, UsageHourly
from token_tracker.database.session import reading, transaction
from token_tracker.services.booking import LedgerRow, book

HOURLY = UsageHourly.__table__.c


def booked(engine: Engine, *rows: LedgerRow) -> set[str]:
    with transaction(engine) as session:
        return book(session, rows, at=NOON).new


def test_only_new_rows_are_booked_and_added_up(engine: Engine) -> None:
    first, second = a_row(1), a_row(2, cost_nano_usd=60)
    assert booked(engine) == set()
    assert booked(engine, first) == {first["id"]}
    assert booked(engine, first, second, second) == {second["id"]}
    assert booked(engine, a_row(1, cost_nano_usd=999, input_tokens=999)) == set()
    with reading(engine) as session:
        sums = session.execute(select(HOURLY.attempts, HOURLY.calls, HOURLY.input_tokens, HOURLY.cost_nano_usd)).one()
        assert tuple(sums) == (2, 2, 20, 100)
        assert session.scalar(select(func.sum(TokenUsage.cost_nano_usd))) == 100


def test_each_key_has_sums_of_its_own(engine: Engine) -> None:
    booked(
        engine,
        a_row(1),
        a_row(2, timestamp=NOON + timedelta(minutes=59, seconds=59.5)),
        a_row(3, timestamp=NOON + timedelta(hours=1)),
        a_row(4, user_id="bob"),
        a_row(5, end_reason="crash", cost_nano_usd=None, cost_source="unpriced", input_tokens=0, output_tokens=0),
    )
    columns = (HOURLY.hour, HOURLY.user_id, HOURLY.outcome, HOURLY.calls, HOURLY.errors, HOURLY.unpriced_calls)
    with reading(engine) as session:
        found = {tuple(row) for row in session.execute(select(*columns, HOURLY.cost_nano_usd))}
    assert found == {
        (NOON, "ann", "complete", 2, 0, 0, 80),
        (NOON + timedelta(hours=1), "ann", "complete", 1, 0, 0, 40),
        (NOON, "bob", "complete", 1, 0, 0, 40),
        (NOON, "ann", "crash", 1, 1, 1, 0),
    }


def test_tags_are_kept_one_by_one_and_as_they_came(engine: Engine) -> None:
    booked(engine, a_row(1, tags=("b", 'quo"te', "ümlaut")), a_row(2, tags=("b",)))
    with reading(engine) as session:
        pairs = session.execute(select(TokenUsageTag.tag, TokenUsageTag.usage_id)).all()
        assert sorted((tag, int(usage, 16)) for tag, usage in pairs) == [
            ("b", 1),
            ("b", 2),
            ('quo"te', 1),
            ("ümlaut", 1),
        ]
        assert session.scalars(select(TokenUsage.tags).order_by(TokenUsage.id)).first() == '["b","quo\\"te","ümlaut"]'


def test_a_transaction_that_is_rolled_back_leaves_no_claim(engine: Engine) -> None:
    row = a_row(1, tags=("a",))
    with pytest.raises(RuntimeError), transaction(engine) as session:
        assert book(session, [row], at=NOON).new == {row["id"]}
        raise RuntimeError("the process ends here")
    assert booked(engine, row) == {row["id"]}


def test_values_come_back_exactly_as_they_went_in(engine: Engine) -> None:
    exact = a_row(
        1,
        timestamp=NOON.replace(microsecond=123_456),
        latency_ms=0.1 + 0.2,
        ttft_ms=1e-7,
        cost_nano_usd=2**62 + 1,
        stream=True,
        request_metadata='{"k": "\\\\ \\n ☃ \'x\' %s :y"}',
        session_id="back\\slash 'quote' %(x)s",
    )
    booked(engine, exact)
    with reading(engine) as session:
        row = session.execute(select(TokenUsage.__table__)).mappings().one()
    assert {name: row[name] for name in exact if name != "tags"} == {k: v for k, v in exact.items() if k != "tags"}
    assert row["booked_at"] == NOON
