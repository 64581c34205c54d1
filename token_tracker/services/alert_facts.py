"""What a message about a budget says: where it stands, who spent most, and when it ends at this rate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from token_tracker.database.models import Budget, UsageHourly
from token_tracker.domain.money import format_usd
from token_tracker.domain.rules import EACH
from token_tracker.domain.windows import HOUR_S, NEVER_S, ROLLING_HOURS, Window
from token_tracker.services.usage_export import format_time

_HOURLY = UsageHourly.__table__.c
_SCOPES = {name: f"{name}_id" for name in ("key", "user", "team")} | {"provider": "provider", "agent": "agent"}
_MOST_SHOWN = 3
_NOTHING_SPENT = Decimal(0)
_LEAST_MEASURED_S = 60


@dataclass(frozen=True, slots=True)
class Standing:
    """A budget, or one member of a budget for each, at one moment. Amounts are nano-dollars or tokens."""

    budget: Budget
    member: str
    measure: str
    spent: int
    unproven: int
    limit: int
    window: Window
    at: datetime

    @property
    def percent(self) -> Decimal:
        """Of the limit, exact; anything that is spent of a limit of 0 is all of it."""
        if self.spent <= 0:
            return _NOTHING_SPENT
        return Decimal(self.spent) * 100 / self.limit if self.limit > 0 else Decimal(100)


def facts_of(session: Session, standing: Standing) -> dict[str, Any]:
    """As JSON: amounts as decimal strings in USD or whole tokens, times RFC 3339, None for what there is not."""
    budget, window = standing.budget, standing.window
    is_usd = standing.measure == "usd"
    return {
        "budget_id": budget.id,
        "budget": budget.name,
        "scope": {"type": budget.scope_type, "id": standing.member or budget.scope_id},
        "model": budget.model or None,
        "enforcement": budget.enforcement,
        "period": budget.period,
        "timezone": budget.timezone,
        "unit": standing.measure,
        "spent": format_usd(standing.spent) if is_usd else str(standing.spent),
        "limit": format_usd(standing.limit) if is_usd else str(standing.limit),
        "percent": f"{standing.percent:.1f}",
        "window_start": _time(window.start_s),
        "window_end": None if window.end_s >= NEVER_S or budget.period in ROLLING_HOURS else _time(window.end_s),
        "at": format_time(standing.at),
        "forecast_ends_at": _ends_at(standing),
        "top_models": _top(session, standing, "model"),
        "top_users": _top(session, standing, "user_id"),
    }


def _ends_at(standing: Standing) -> str | None:
    """When nothing remains at the rate of the window so far; None where the window ends first."""
    window, left = standing.window, standing.limit - standing.spent
    if left <= 0 or standing.spent <= 0:
        return None
    since_s = max(_LEAST_MEASURED_S, int(standing.at.timestamp()) - window.start_s)
    ends_s = standing.at.timestamp() + left / standing.spent * since_s
    if ends_s >= min(window.end_s, standing.at.timestamp() + timedelta(days=366).total_seconds()):
        return None
    return _time(int(ends_s))


def _top(session: Session, standing: Standing, column: str) -> list[list[str]]:
    """[name, USD] of who spent most in the window; empty where the hourly sums cannot tell what the budget counts."""
    budget, column_ = standing.budget, _HOURLY[column]
    if not can_be_summed(budget):
        return []
    spent = func.sum(_HOURLY.cost_nano_usd)
    first = datetime.fromtimestamp(standing.window.start_s // HOUR_S * HOUR_S, UTC)
    statement = select(column_, spent).where(_HOURLY.hour >= first, _HOURLY.hour <= standing.at)
    found = session.execute(
        statement.where(*of_scope(standing))
        .group_by(column_)
        .having(spent > 0)
        .order_by(spent.desc(), column_)
        .limit(_MOST_SHOWN)
    )
    return [[name or "(none)", format_usd(int(amount))] for name, amount in found]


def can_be_summed(budget: Budget) -> bool:
    """Whether the hourly sums tell apart what the budget counts."""
    return not budget.model and (budget.scope_type == "global" or budget.scope_type in _SCOPES)


def of_scope(standing: Standing) -> list[ColumnElement[bool]]:
    """Conditions on the hourly sums, of a budget that they can tell of."""
    budget = standing.budget
    if budget.scope_type == "global":
        return []
    value = standing.member if budget.scope_id == EACH else budget.scope_id
    return [_HOURLY[_SCOPES[budget.scope_type]] == value]


def _time(at_s: int) -> str:
    return format_time(datetime.fromtimestamp(at_s, UTC))


def iso(at_s: int) -> str:
    """RFC 3339; 'never' for the end of `total`."""
    return "never" if at_s >= NEVER_S else _time(at_s)
