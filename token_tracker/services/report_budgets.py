"""How budgets stand, for a report: the fullest first."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from token_tracker.database.models import Budget
from token_tracker.domain.money import format_usd
from token_tracker.domain.rules import EACH
from token_tracker.services import budget_status
from token_tracker.services.budget_status import BudgetStatus, Measure

MOST_SHOWN = 8


def standings(session: Session, *, team: str, at: datetime) -> list[dict[str, Any]]:
    """At most 8 budgets, or members of a budget for each, in their window of this moment; with `team` its own only."""
    statement = select(Budget)
    if team:
        statement = statement.where(Budget.scope_type == "team", or_(Budget.scope_id == team, Budget.scope_id == EACH))
    found = [
        _shown(status, unit, measure)
        for budget in session.scalars(statement.order_by(Budget.id)).all()
        for status in _statuses(session, budget, team, at)
        for unit, measure in (("usd", status.usd), ("tokens", status.tokens))
        if measure is not None
    ]
    return sorted(found, key=lambda each: -float(each["percent"]))[:MOST_SHOWN]


def _statuses(session: Session, budget: Budget, team: str, at: datetime) -> Iterator[BudgetStatus]:
    if budget.scope_id != EACH:
        yield budget_status.status(session, budget_id=budget.id, at=at)
        return
    if team:
        yield budget_status.status(session, budget_id=budget.id, at=at, member=team)
        return
    cursor: str | None = None
    while True:
        page = budget_status.members(session, budget_id=budget.id, at=at, limit=1000, cursor=cursor)
        yield from page.items
        cursor = page.next_cursor
        if cursor is None:
            return


def _shown(status: BudgetStatus, unit: str, measure: Measure) -> dict[str, Any]:
    is_usd, budget = unit == "usd", status.budget
    percent = 100 * measure.spent / measure.limit if measure.limit > 0 else 100.0 * bool(measure.spent)
    return {
        "budget_id": budget.id,
        "budget": budget.name,
        "member": status.member_id or None,
        "period": budget.period,
        "unit": unit,
        "spent": format_usd(measure.spent) if is_usd else str(measure.spent),
        "limit": format_usd(measure.limit) if is_usd else str(measure.limit),
        "percent": f"{percent:.1f}",
    }
