"""What limits a key limits its successor: a rotation neither frees a key of its budgets nor of a freeze."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from token_tracker.database.models import Budget, Freeze, RateLimit
from token_tracker.database.models.rules import ALERT_COLUMNS
from token_tracker.domain.money import format_usd
from token_tracker.services import budget_fields, budgets, freezes, rate_limits
from token_tracker.services.audit import Actor


def hand_on(session: Session, *, key_id: str, successor_id: str, actor: Actor, at: datetime) -> None:
    """The key's own budgets, rate limits and freezes once more, for its successor, which counts from nothing."""
    to: Any = {"scope_type": "key", "scope_id": successor_id, "actor": actor, "at": at}
    for budget in _of(session, Budget, key_id):
        budgets.save(
            session,
            **to | _budget(budget),
            model=budget.model,
            period=budget.period,
            timezone=budget.timezone,
            starts_at=budget.starts_at if budget.period == "total" else None,
        )
    for limit in _of(session, RateLimit, key_id):
        rate_limits.save(
            session,
            **to,
            model=limit.model,
            unit=limit.unit,
            period=limit.period or None,
            limit=limit.limit,
            on_store_error=limit.on_store_error,
        )
    for frozen in _of(session, Freeze, key_id):
        freezes.freeze(session, **to, model=frozen.model, reason=frozen.reason)


def _of(session: Session, kind: type[Any], key_id: str) -> list[Any]:
    return list(session.scalars(select(kind).where(kind.scope_type == "key", kind.scope_id == key_id)))


def _budget(budget: Budget) -> dict[str, Any]:
    """Its `BudgetFields`."""
    fields = {name: getattr(budget, name) for name in budget_fields.COLUMNS}
    fields["limit_usd"] = _usd(fields.pop("limit_nano_usd"))
    fields["alerts"] = [_alert(dict(zip(ALERT_COLUMNS, alert.said, strict=True))) for alert in budget.alerts]
    return fields


def _alert(columns: dict[str, Any]) -> dict[str, Any]:
    """As `AlertFields`."""
    threshold = {
        "threshold": columns.pop("threshold_percent"),
        "threshold_usd": _usd(columns.pop("threshold_nano_usd")),
    }
    return threshold | columns


def _usd(nano_usd: int | None) -> str | None:
    return None if nano_usd is None else format_usd(nano_usd)
