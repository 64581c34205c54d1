"""Counters while the recorder runs: built when a budget is made, compared with the ledger, healed, and said so."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, select, update

from tests.services.budget_rows import a_budget, add, counters
from tests.services.ledger_rows import a_row
from token_tracker.database.models import Budget, CounterState
from token_tracker.database.session import reading, transaction
from token_tracker.domain.rules import EACH
from token_tracker.proxy.books.counter_keeper import LEASE, CounterKeeper
from token_tracker.services import leases
from token_tracker.services.booking import book
from token_tracker.services.outage import Outage

NEVER = threading.Event()


def a_keeper(engine: Engine, holder: str = "node1") -> CounterKeeper:
    return CounterKeeper(engine, Outage("calls go on"), holder)


def booked(engine: Engine, *numbers: int) -> None:
    now = datetime.now(UTC)
    with transaction(engine) as session:
        book(session, [a_row(number, now) for number in numbers], at=now)


def amounts(engine: Engine, name: str) -> list[tuple[int, int]]:
    return [*counters(engine, name).values()]


def built(engine: Engine) -> list[str]:
    with reading(engine) as session:
        return [*session.scalars(select(Budget.id).where(Budget.counter_built_at.is_not(None)).order_by(Budget.id))]


def test_new_budgets_are_built_in_one_step(engine: Engine) -> None:
    booked(engine, 1, 2)
    add(engine, a_budget("month", period="monthly"), a_budget("users", scope_type="user", scope_id=EACH))
    keeper = a_keeper(engine)
    keeper.step(NEVER)
    assert built(engine) == ["budget_month", "budget_users"]
    assert amounts(engine, "month") == amounts(engine, "users") == [(80, 0)]
    assert keeper.figures.building == 0
    assert keeper.figures.drifts == 0, "what is built is no drift"


def test_drift_is_healed_at_start_said_once_and_counted(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    add(engine, a_budget("month", period="monthly"))
    booked(engine, 1, 2)
    a_keeper(engine).step(NEVER)
    with transaction(engine) as session:
        session.execute(update(CounterState).values(spent=10, unproven=3))
    keeper = a_keeper(engine)
    keeper.step(NEVER)
    assert amounts(engine, "month") == [(80, 0)]
    figures = keeper.figures
    assert (figures.drifts, figures.drift_nano_usd, figures.drift_tokens) == (1, 73, 0)
    assert figures.checked_at_us > 0
    with transaction(engine) as session:
        session.execute(update(CounterState).values(spent=10))
    keeper.step(NEVER)
    assert amounts(engine, "month") == [(10, 0)], "the next look is due in a minute"
    assert caplog.text.count("were off by 73 nano-dollars and 0 tokens") == 1


def test_while_another_recorder_compares_this_one_only_builds(engine: Engine) -> None:
    add(engine, a_budget("month", period="monthly"))
    booked(engine, 1)
    now = datetime.now(UTC)
    with transaction(engine) as session:
        assert leases.acquire(session, name=LEASE, holder="node2", at=now, lasts=timedelta(minutes=5))
    keeper = a_keeper(engine)
    keeper.step(NEVER)
    assert built(engine) == ["budget_month"]
    with transaction(engine) as session:
        session.execute(update(CounterState).values(spent=10))
    a_keeper(engine).step(NEVER)
    assert amounts(engine, "month") == [(10, 0)]
    with transaction(engine) as session:
        leases.release(session, name=LEASE, holder="node2")
    a_keeper(engine).step(NEVER)
    assert amounts(engine, "month") == [(40, 0)]


def test_it_stops_between_two_budgets_when_it_is_told_to(engine: Engine) -> None:
    add(engine, a_budget("month", period="monthly"))
    stopped = threading.Event()
    stopped.set()
    a_keeper(engine).step(stopped)
    assert built(engine) == []
