"""What rules about budgets see: when they end at this rate, and what of them is unproven."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from token_tracker.database.models import AlertRule, UsageHourly
from token_tracker.domain.alert_flow import Observation
from token_tracker.domain.alert_signals import Burn, forecast
from token_tracker.domain.windows import HOUR_S, ROLLING_HOURS
from token_tracker.services.alert_facts import Standing, can_be_summed, facts_of, of_scope
from token_tracker.services.budget_standings import all_budgets, fullest, members, standings, subject_of, window_key
from token_tracker.services.rollups import first_hour
from token_tracker.services.usage_export import format_time

_HOURLY = UsageHourly.__table__.c
_SHORT = ("daily", "rolling_24h")
_SHORT_S, _LONG_S = 24 * HOUR_S, 168 * HOUR_S


def forecasts(session: Session, rule: AlertRule, at: datetime) -> Iterator[Observation]:
    """Percent of the limit that will be spent by the window's end at the rate of the last `over_hours`. Hourly
    budgets are over before a rate says anything."""
    for standing in _standings(session, rule, at):
        if standing.budget.period == "hourly":
            continue
        burn = _burn(session, standing, rule.options)
        found = forecast(burn, at)
        if found is None:
            continue
        told = {
            **facts_of(session, standing),
            "forecast_ends_at": format_time(found.ends_at) if found.ends_at else None,
            "forecast_percent": f"{found.percent:.0f}",
            "over_hours": round(burn.over_s / HOUR_S),
        }
        yield Observation(subject_of(standing), found.percent, told, window_key(standing))


def unproven(session: Session, rule: AlertRule, at: datetime) -> Iterator[Observation]:
    """Percent of the limit of hard budgets."""
    for standing in _standings(session, rule, at):
        if standing.budget.enforcement == "hard" and standing.limit > 0:
            percent = Decimal(standing.unproven) * 100 / standing.limit
            told = {**facts_of(session, standing), "unproven_percent": f"{percent:.1f}"} if percent > 0 else {}
            yield Observation(subject_of(standing), percent, told, window_key(standing))


def _standings(session: Session, rule: AlertRule, at: datetime) -> Iterator[Standing]:
    budgets = {key: each for key, each in all_budgets(session).items() if rule.subject in ("", key)}
    for budget_id, names in members(session, budgets).items():
        for found in standings(session, budgets[budget_id], sorted(names), at).values():
            yield fullest(found)


def _burn(session: Session, standing: Standing, options: dict[str, Any]) -> Burn:
    budget, at_s = standing.budget, int(standing.at.timestamp())
    over_s = options["over_hours"] * HOUR_S or (_SHORT_S if budget.period in _SHORT else _LONG_S)
    since_s = at_s - over_s
    recent, first_s = _recent(session, standing, since_s)
    if budget.period == "total":
        left_s = options["ahead_hours"] * HOUR_S
    elif budget.period in ROLLING_HOURS:  # what is spent now leaves as the window moves on
        length_s = ROLLING_HOURS[budget.period] * HOUR_S
        return Burn(standing.spent, standing.limit, recent, at_s - first_s, max(0, length_s - (at_s - first_s)))
    else:
        left_s = standing.window.end_s - at_s
    return Burn(standing.spent, standing.limit, recent, max(HOUR_S, at_s - first_s), left_s)


def _recent(session: Session, standing: Standing, since_s: int) -> tuple[int, int]:
    """What was spent since then, and since when that is; of what the hourly sums cannot tell apart: the window's."""
    if standing.measure != "usd" or not can_be_summed(standing.budget):
        return standing.spent, max(standing.window.start_s, since_s)
    since = datetime.fromtimestamp(since_s // HOUR_S * HOUR_S + HOUR_S, UTC)
    conditions = (_HOURLY.hour >= since, _HOURLY.hour <= standing.at, *of_scope(standing))
    spent = session.scalar(select(func.coalesce(func.sum(_HOURLY.cost_nano_usd), 0)).where(*conditions))
    first = first_hour(session)
    return int(spent or 0), max(int(first.timestamp()) if first is not None else since_s, since_s)
