"""Budgets, rate limits and freezes of the database as the values that the gate and the books work with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from token_tracker.database.models import Budget, BudgetTopUp, Freeze, RateLimit
from token_tracker.domain.rules import BudgetRule, FreezeRule, RateRule

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class AllRules:
    """Each kind in the order of its ids."""

    budgets: tuple[BudgetRule, ...]
    rates: tuple[RateRule, ...]
    freezes: tuple[FreezeRule, ...]


def microseconds(time: datetime) -> int:
    """Unix microseconds of an aware time, exactly."""
    return (time - _EPOCH) // _MICROSECOND


def load(session: Session) -> AllRules:
    return AllRules(
        load_budgets(session),
        tuple(
            RateRule(
                row.id,
                row.scope_type,
                row.scope_id,
                row.model,
                row.unit,
                row.limit,
                row.period,
                row.on_store_error,
            )
            for row in session.scalars(select(RateLimit).order_by(RateLimit.id))
        ),
        tuple(
            FreezeRule(row.id, row.scope_type, row.scope_id, row.model, row.reason)
            for row in session.scalars(select(Freeze).order_by(Freeze.id))
        ),
    )


def load_budgets(session: Session) -> tuple[BudgetRule, ...]:
    """In the order of their ids."""
    top_ups: dict[str, list[BudgetTopUp]] = {}
    for top_up in session.scalars(select(BudgetTopUp).order_by(BudgetTopUp.created_at, BudgetTopUp.id)):
        top_ups.setdefault(top_up.budget_id, []).append(top_up)
    budgets = session.scalars(select(Budget).order_by(Budget.id))
    return tuple(rule_of(budget, top_ups.get(budget.id, ())) for budget in budgets)


def rule_of(budget: Budget, top_ups: Sequence[BudgetTopUp]) -> BudgetRule:
    return BudgetRule(
        id=budget.id,
        scope_type=budget.scope_type,
        scope_id=budget.scope_id,
        model=budget.model,
        period=budget.period,
        timezone=budget.timezone,
        starts_at_us=microseconds(budget.starts_at),
        limit_nano_usd=budget.limit_nano_usd,
        limit_tokens=budget.limit_tokens,
        enforcement=budget.enforcement,
        action=budget.action,
        downgrade_model=budget.downgrade_model,
        downgrade_at=budget.downgrade_at,
        clamp=budget.clamp,
        default_output_tokens=budget.default_output_tokens,
        min_output_tokens=budget.min_output_tokens,
        allow_unbounded=budget.allow_unbounded,
        on_store_error=budget.on_store_error,
        top_ups=tuple(
            (
                top_up.amount_nano_usd,
                0 if top_up.until is None else microseconds(top_up.until),
                microseconds(top_up.created_at),
            )
            for top_up in top_ups
        ),
        is_built=budget.counter_built_at is not None,
        name=budget.name,
    )
