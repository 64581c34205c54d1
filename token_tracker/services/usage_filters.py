"""Which rows of the ledger somebody asks for, and which hours of the roll-ups say the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, exists

from token_tracker.database.models import TokenUsage, TokenUsageTag, UsageHourly
from token_tracker.domain.access import EVERYTHING, Scope


@dataclass(frozen=True, slots=True)
class Filters:
    """Rows of `start` <= timestamp < `end` whose fields equal what is given; None asks nothing, '' for no name.

    `key` is a key's id, `status` the HTTP status. `scope` is what the asking account may see at all.
    """

    start: datetime | None = None
    end: datetime | None = None
    model: str | None = None
    provider: str | None = None
    user: str | None = None
    team: str | None = None
    key: str | None = None
    agent: str | None = None
    session: str | None = None
    end_user: str | None = None
    tag: str | None = None
    status: int | None = None
    end_reason: str | None = None
    usage_source: str | None = None
    cost_source: str | None = None
    lane: str | None = None
    scope: Scope = EVERYTHING

    def between(self, start: datetime | None, end: datetime | None) -> Filters:
        """The same question for another time."""
        return replace(self, start=start, end=end)


LEDGER_COLUMNS: dict[str, Any] = {
    "model": TokenUsage.model,
    "provider": TokenUsage.provider,
    "user": TokenUsage.user,
    "team": TokenUsage.team,
    "key": TokenUsage.key_id,
    "agent": TokenUsage.agent,
    "session": TokenUsage.session,
    "end_user": TokenUsage.end_user,
    "status": TokenUsage.status_code,
    "end_reason": TokenUsage.end_reason,
    "usage_source": TokenUsage.usage_source,
    "cost_source": TokenUsage.cost_source,
    "lane": TokenUsage.lane,
}
_HOURLY = UsageHourly.__table__.c
ROLLUP_COLUMNS: dict[str, Any] = {
    "model": _HOURLY.model,
    "provider": _HOURLY.provider,
    "user": _HOURLY.user_id,
    "team": _HOURLY.team_id,
    "key": _HOURLY.key_id,
    "agent": _HOURLY.agent,
    "end_reason": _HOURLY.outcome,
}
_LEDGER_ONLY = tuple(name for name in (*LEDGER_COLUMNS, "tag") if name not in ROLLUP_COLUMNS)


def fits_rollups(filters: Filters) -> bool:
    """Whether the hourly sums know every field that `filters` asks for (times apart)."""
    return all(getattr(filters, name) is None for name in _LEDGER_ONLY)


def ledger_conditions(filters: Filters) -> list[ColumnElement[bool]]:
    """`filters` as conditions on `token_usage`."""
    conditions = conditions_on(filters, LEDGER_COLUMNS, TokenUsage.timestamp)
    if filters.tag is not None:
        tagged = exists().where(TokenUsageTag.usage_id == TokenUsage.id)
        conditions.append(tagged.where(TokenUsageTag.tag == filters.tag) if filters.tag else ~tagged)
    return conditions


def rollup_conditions(filters: Filters) -> list[ColumnElement[bool]]:
    """`filters`, of which `fits_rollups` is true, as conditions on `usage_hourly`."""
    return conditions_on(filters, ROLLUP_COLUMNS, _HOURLY.hour)


def conditions_on(filters: Filters, columns: Mapping[str, Any], time: Any) -> list[ColumnElement[bool]]:
    """`filters` as conditions on `columns`, which must know every field that is asked for, and on `time`."""
    conditions = [columns[name] == getattr(filters, name) for name in columns if getattr(filters, name) is not None]
    if filters.start is not None:
        conditions.append(time >= filters.start)
    if filters.end is not None:
        conditions.append(time < filters.end)
    if filters.scope.user is not None:
        conditions.append(columns["user"] == filters.scope.user)
    if filters.scope.team is not None:
        conditions.append(columns["team"] == filters.scope.team)
    return conditions
