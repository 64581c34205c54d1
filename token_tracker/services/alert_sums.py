"""Sums of the books that rules look at, by the name that a rule tells apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from token_tracker.database.models import LATENCY_COLUMNS, RefusalsHourly, TokenUsage, UsageHourly
from token_tracker.domain.alert_signals import Traffic

HOUR = timedelta(hours=1)
ALL = "all"
_HOURLY = UsageHourly.__table__.c
_COLUMNS = {"team": "team_id", "user": "user_id", "key": "key_id", "model": "model", "provider": "provider"}


def traffic(session: Session, by: str, *, start: datetime, end: datetime) -> dict[str, Traffic]:
    """Of the UTC hours `start` <= hour < `end`."""
    column = _HOURLY[_COLUMNS[by]]
    names = ("calls", "errors", *LATENCY_COLUMNS)
    sums = [func.sum(_HOURLY[name]) for name in names]
    rows = session.execute(select(column, *sums).where(_HOURLY.hour >= start, _HOURLY.hour < end).group_by(column))
    return {row[0]: Traffic(int(row[1]), int(row[2]), tuple(int(count) for count in row[3:])) for row in rows if row[1]}


def spent_by_hour(session: Session, by: str, hours: Sequence[datetime]) -> dict[str, dict[datetime, int]]:
    """Nano-dollars of each name in each of these UTC hours; none where nothing was spent."""
    groups = [] if by == ALL else [_HOURLY[_COLUMNS[by]]]
    columns = (_HOURLY.hour, func.sum(_HOURLY.cost_nano_usd), *groups)
    found: defaultdict[str, dict[datetime, int]] = defaultdict(dict)
    for row in session.execute(select(*columns).where(_HOURLY.hour.in_(hours)).group_by(_HOURLY.hour, *groups)):
        found[row[2] if groups else ALL][row[0]] = int(row[1])
    return found


def spent(session: Session, by: str, *, start: datetime, end: datetime) -> dict[str, int]:
    """Nano-dollars by name in the UTC hours `start` <= hour < `end`."""
    groups = [] if by == ALL else [_HOURLY[_COLUMNS[by]]]
    columns = (func.coalesce(func.sum(_HOURLY.cost_nano_usd), 0), *groups)
    rows = session.execute(select(*columns).where(_HOURLY.hour >= start, _HOURLY.hour < end).group_by(*groups))
    return {row[1] if groups else ALL: int(row[0]) for row in rows}


def unpriced(session: Session, *, start: datetime) -> dict[str, int]:
    """Calls without a price by model, since the UTC hour `start`."""
    calls = func.sum(_HOURLY.unpriced_calls)
    rows = session.execute(
        select(_HOURLY.model, calls).where(_HOURLY.hour >= start, _HOURLY.unpriced_calls > 0).group_by(_HOURLY.model)
    )
    return {model: int(count) for model, count in rows}


def refused(session: Session, by: str, code: str, *, hours: Sequence[datetime]) -> dict[str, int]:
    """Refusals by name, of the hour that has the most."""
    column = getattr(RefusalsHourly, {"key": "key_id"}.get(by, by))
    rows = session.execute(
        select(column, RefusalsHourly.hour, func.sum(RefusalsHourly.calls))
        .where(RefusalsHourly.hour.in_(hours), RefusalsHourly.code == code)
        .group_by(column, RefusalsHourly.hour)
    )
    found: dict[str, int] = {}
    for who, _, calls in rows:
        found[who] = max(found.get(who, 0), int(calls))
    return found


def streams(session: Session, *, start: datetime) -> dict[str, tuple[int, int]]:
    """By model: complete streams admitted since `start`, and how many of them came without usage."""
    missing = func.sum(case((TokenUsage.usage_source.in_(("estimated", "none")), 1), else_=0))
    is_stream = (TokenUsage.timestamp >= start, TokenUsage.stream, TokenUsage.end_reason == "complete")
    rows = session.execute(select(TokenUsage.model, func.count(), missing).where(*is_stream).group_by(TokenUsage.model))
    return {model: (int(total), int(count)) for model, total, count in rows}


def overruns(session: Session, *, start: datetime) -> Mapping[str, int]:
    """By model: calls admitted since `start` that were billed beyond their bound."""
    is_beyond = (TokenUsage.timestamp >= start, TokenUsage.overrun_nano_usd > 0)
    rows = session.execute(select(TokenUsage.model, func.count()).where(*is_beyond).group_by(TokenUsage.model))
    return {model: int(count) for model, count in rows}
