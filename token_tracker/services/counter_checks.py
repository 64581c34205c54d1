"""Builds the counters of new budgets, compares all counters with the ledger, and heals what drifted.

What is compared is read in one state of the database, without a lock: the difference between ledger and counters does
not change while others book. It is added to the counters afterwards, unless somebody else changed counters so
meanwhile; then nothing is done, and the next look finds what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import CursorResult, Engine, Table, delete, select, tuple_, update
from sqlalchemy.orm import Session

from token_tracker.database.models import Budget, CounterState, SystemState
from token_tracker.database.session import reading, transaction
from token_tracker.domain.rules import BudgetRule
from token_tracker.domain.windows import first_bucket
from token_tracker.services import bulk, counters
from token_tracker.services.counters import KEPT, Amount, Changed, CounterPlace, measures_of
from token_tracker.services.ledger_amounts import LedgerAmounts, amounts_of, fits_hourly
from token_tracker.services.rule_rows import microseconds, rule_of

GENERATION = "counters_generation"  # in system_state: how often counters were corrected
DELETED_AT_ONCE = 5_000
_STATES = cast(Table, CounterState.__table__)
_PLACE = tuple_(CounterState.budget_id, CounterState.measure, CounterState.member, CounterState.bucket)


@dataclass(frozen=True, slots=True)
class Drift:
    """What has to be added to a budget's counters to make them the ledger's, as seen at `generation`."""

    rule: BudgetRule
    generation: str
    amounts: dict[CounterPlace, Amount]

    def total(self, measure: str) -> int:
        """How far off the counters were, in all: nano-dollars or tokens."""
        return sum(
            abs(amount.spent) + abs(amount.unproven)
            for place, amount in self.amounts.items()
            if place.measure == measure
        )


def wait_for_bookings(engine: Engine) -> None:
    """Until all who book know the budgets that were committed before."""
    with transaction(engine) as session:
        counters.lock_exclusive(session)


def drift_of(engine: Engine, budget_id: str, at: datetime) -> Drift | None:
    """How the counters of the budget's current window differ from the ledger; None where the budget is gone.

    A new budget's differ by all that was there before it: `wait_for_bookings` first. For one that is built the rows
    have the last word, as the hourly sums may be wrong themselves.
    """
    with reading(engine) as session:
        budget = session.get(Budget, budget_id)
        if budget is None:
            return None
        rule = rule_of(budget, ())
        found = _differences(session, rule, amounts_of(session, rule, at))
        if found and rule.is_built and fits_hourly(rule):
            found = _differences(session, rule, amounts_of(session, rule, at, from_rows=True))
        return Drift(rule, _generation(session), found)


def correct(engine: Engine, drift: Drift, at: datetime) -> Changed | None:
    """Add the drift to the counters and mark the budget as built; the changed counters.

    None, and no change, where counters were corrected by somebody else meanwhile, or the budget changed: look again.
    """
    with transaction(engine) as session:
        counters.lock_exclusive(session)
        if not _claim(session, drift.generation):
            return None
        budget = session.get(Budget, drift.rule.id)
        if budget is None:
            return None
        now = rule_of(budget, ())
        if (now.is_built, measures_of(now)) != (drift.rule.is_built, measures_of(drift.rule)):
            return None
        if budget.counter_built_at is None:
            budget.counter_built_at = at
        return counters.add(session, drift.amounts, budgets=[drift.rule], at=at)


def forget_old(engine: Engine, rules: Sequence[BudgetRule], at: datetime) -> int:
    """Delete counters of windows that are long over, at most some thousands at a time; how many."""
    old_us = microseconds(at - KEPT)
    deleted = 0
    with transaction(engine) as session:
        for rule in rules:
            oldest = first_bucket(rule.period, rule.timezone, old_us, rule.starts_at_us)
            old = select(*_PLACE.clauses).where(CounterState.budget_id == rule.id, CounterState.bucket < oldest)
            statement = delete(CounterState).where(_PLACE.in_(old.limit(DELETED_AT_ONCE)))
            result = session.execute(statement.execution_options(synchronize_session=False))
            deleted += cast("CursorResult[Any]", result).rowcount
    return deleted


def _differences(session: Session, rule: BudgetRule, ledger: LedgerAmounts) -> dict[CounterPlace, Amount]:
    stands = _standing(session, rule, ledger)
    found = {}
    for place in stands.keys() | ledger.spent.keys() | ledger.unproven.keys():
        right, counted = ledger.amount(place), stands.get(place, Amount(0, 0))
        difference = Amount(
            _difference(right.spent, counted.spent, place.bucket >= ledger.spent_from_s),
            _difference(right.unproven, counted.unproven, place.bucket >= ledger.unproven_from_s),
        )
        if any(difference):
            found[place] = difference
    return found


def _difference(right: int, counted: int, is_known: bool) -> int:
    """Where rows are gone, the ledger says only what it is at least."""
    return right - counted if is_known else max(0, right - counted)


def _standing(session: Session, rule: BudgetRule, ledger: LedgerAmounts) -> dict[CounterPlace, Amount]:
    columns = (_STATES.c.measure, _STATES.c.member, _STATES.c.bucket, _STATES.c.spent, _STATES.c.unproven)
    statement = select(*columns).where(
        _STATES.c.budget_id == rule.id,
        _STATES.c.measure.in_(measures_of(rule)),
        _STATES.c.bucket >= ledger.start_s,
        _STATES.c.bucket < ledger.end_s,
    )
    return {
        CounterPlace(rule.id, measure, member, bucket): Amount(spent, unproven)
        for measure, member, bucket, spent, unproven in session.execute(statement)
    }


def _generation(session: Session) -> str:
    state = session.get(SystemState, GENERATION)
    return state.value if state else ""


def _claim(session: Session, generation: str) -> bool:
    """Make the generation the next one; False where it is no longer the one seen."""
    if not generation:
        table = cast(Table, SystemState.__table__)
        return bool(bulk.claim(session, table, [{"name": GENERATION, "value": "1"}]))
    statement = update(SystemState).where(SystemState.name == GENERATION, SystemState.value == generation)
    result = session.execute(
        statement.values(value=str(int(generation) + 1)).execution_options(synchronize_session=False)
    )
    return bool(cast("CursorResult[Any]", result).rowcount)
