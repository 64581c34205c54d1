"""Budgets for tests of what counts for them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Engine, select

from tests.services.ledger_rows import NOON
from token_tracker.database.models import Budget, CounterState
from token_tracker.database.session import reading, transaction
from token_tracker.services import counter_checks


def a_budget(name: str, **fields: Any) -> Budget:
    """A hard budget for everybody of 1,000 nano-dollars a day, from before all that tests book."""
    given: dict[str, Any] = {
        "id": f"budget_{name}",
        "name": name,
        "scope_type": "global",
        "scope_id": "",
        "model": "",
        "period": "daily",
        "timezone": "UTC",
        "limit_nano_usd": 1_000,
        "limit_tokens": None,
        "enforcement": "hard",
        "source": "api",
        "starts_at": NOON.replace(year=2020),
        "created_at": NOON,
    }
    return Budget(**(given | fields))


def add(engine: Engine, *rows: object) -> None:
    with transaction(engine) as session:
        session.add_all(rows)


def check(engine: Engine, name: str, at: datetime = NOON) -> dict[tuple[str, str, int], tuple[int, int]]:
    """Compare and correct, as the recorder does for a new budget; what was wrong."""
    counter_checks.wait_for_bookings(engine)
    drift = counter_checks.drift_of(engine, f"budget_{name}", at)
    assert drift is not None
    assert counter_checks.correct(engine, drift, at) is not None
    return {place[1:]: tuple(amount) for place, amount in drift.amounts.items()}


def counters(engine: Engine, name: str) -> dict[tuple[str, str, int], tuple[int, int]]:
    """(spent, unproven) by measure, member and bucket; those of nothing left out."""
    with reading(engine) as session:
        rows = session.scalars(select(CounterState).where(CounterState.budget_id == f"budget_{name}"))
        return {
            (row.measure, row.member, row.bucket): (row.spent, row.unproven)
            for row in rows
            if row.spent or row.unproven
        }
