"""What a report says: spend of a period beside the one before, by team, model and agent, and what is uncertain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from token_tracker.database.models import TokenUsage
from token_tracker.domain.money import format_usd
from token_tracker.domain.report_times import Period
from token_tracker.domain.usage import UsageSource
from token_tracker.services.report_budgets import standings
from token_tracker.services.usage import Filters, Sums, format_time, summarize
from token_tracker.services.usage_filters import ledger_conditions
from token_tracker.services.usage_horizon import kept_from

GROUPS = ("team", "model", "agent")
MOST_SHOWN, MOST_MOVERS = 6, 5
_HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class Wanted:
    """`cadence`: 'daily', 'weekly', 'monthly'; `team` '' for everybody."""

    name: str
    cadence: str
    timezone: str
    team: str


def figures(session: Session, wanted: Wanted, period: Period, *, at: datetime) -> dict[str, Any]:
    """As JSON: amounts as decimal strings in USD, times RFC 3339. `spend`: of each group [name, now, before], the
    largest first, '' for none; `movers`: [group, name, now, before]; `chart`: [label, now, before], hours or days;
    `uncertain` None where the rows that would tell are no longer kept."""
    now = Filters(start=period.start, end=period.end, team=wanted.team or None)
    before = now.between(period.before, period.start)
    shown = [group for group in GROUPS if not (group == "team" and wanted.team)]
    spend = {group: _compared(session, now, before, group) for group in shown}
    return {
        "report": wanted.name,
        "cadence": wanted.cadence,
        "timezone": wanted.timezone,
        "team": wanted.team or None,
        "start": format_time(period.start),
        "end": format_time(period.end),
        "totals": _totals(summarize(session, now).totals),
        "before": _totals(summarize(session, before).totals),
        "spend": {group: _largest(rows) for group, rows in spend.items()},
        "movers": _movers(spend),
        "budgets": standings(session, team=wanted.team, at=at),
        "unpriced_models": _unpriced(session, now),
        "uncertain": _uncertain(session, now),
        "chart": _chart(session, wanted, period, now, before),
    }


def _totals(sums: Sums) -> dict[str, Any]:
    return {
        "cost_usd": format_usd(sums.cost_nano_usd),
        "calls": sums.calls,
        "errors": sums.errors,
        "total_tokens": sums.usage.total_tokens,
        "unpriced_calls": sums.unpriced_calls,
    }


_Row = tuple[str, int, int]  # name, nano-dollars now and before


def _compared(session: Session, now: Filters, before: Filters, group: str) -> list[_Row]:
    """Largest first."""
    spent, earlier = (_by_label(session, filters, group) for filters in (now, before))
    rows = [(name, spent.get(name, 0), earlier.get(name, 0)) for name in spent.keys() | earlier.keys()]
    return sorted((row for row in rows if row[1] or row[2]), key=lambda row: (-row[1], -row[2], row[0]))


def _by_label(session: Session, filters: Filters, group: str, zone_name: str = "UTC") -> dict[str, int]:
    found = summarize(session, filters, groups=(group,), zone=ZoneInfo(zone_name)).items
    return {item.groups[0]: item.sums.cost_nano_usd for item in found}


def _largest(rows: Sequence[_Row]) -> list[list[str]]:
    """The rest is one row of its own, named by its number."""
    head, rest = list(rows[:MOST_SHOWN]), rows[MOST_SHOWN:]
    if rest:
        head.append((f"{len(rest)} others", sum(row[1] for row in rest), sum(row[2] for row in rest)))
    return [[name, format_usd(now), format_usd(before)] for name, now, before in head]


def _movers(spend: dict[str, list[_Row]]) -> list[list[str]]:
    moved = [(group, *row) for group, rows in spend.items() for row in rows if row[0] and row[1] != row[2]]
    moved.sort(key=lambda row: (-abs(row[2] - row[3]), row[0], row[1]))
    return [[group, name, format_usd(now), format_usd(before)] for group, name, now, before in moved[:MOST_MOVERS]]


def _unpriced(session: Session, filters: Filters) -> list[list[Any]]:
    """[model, calls], the most first."""
    found = [
        (item.groups[0], item.sums.unpriced_calls) for item in summarize(session, filters, groups=("model",)).items
    ]
    ordered = sorted((row for row in found if row[1]), key=lambda row: (-row[1], row[0]))
    return [list(row) for row in ordered[:MOST_SHOWN]]


def _uncertain(session: Session, filters: Filters) -> dict[str, Any] | None:
    """Calls whose usage was estimated, and what they cost; calls of which no usage is known."""
    horizon = kept_from(session)
    if horizon is not None and filters.start is not None and filters.start < horizon:
        return None
    is_last = func.sum(case((TokenUsage.id == TokenUsage.call_id, 1), else_=0))
    statement = select(TokenUsage.usage_source, is_last, func.sum(TokenUsage.cost_nano_usd))
    found = session.execute(statement.where(*ledger_conditions(filters)).group_by(TokenUsage.usage_source))
    sums = {source: (int(calls), int(cost or 0)) for source, calls, cost in found}
    calls, cost = sums.get(UsageSource.ESTIMATED.value, (0, 0))
    unknown, _ = sums.get(UsageSource.NONE.value, (0, 0))
    return {"estimated_calls": calls, "estimated_usd": format_usd(cost), "calls_without_usage": unknown}


def _chart(session: Session, wanted: Wanted, period: Period, now: Filters, before: Filters) -> list[list[str]]:
    """As many places as the longer of the two periods has; those that this period does not have are named ''."""
    group, places_of = ("hour", _hours) if wanted.cadence == "daily" else ("day", _days)
    places, earlier = (
        places_of(start, end, wanted.timezone)
        for start, end in ((period.start, period.end), (period.before, period.start))
    )
    spent = _in_places(places, _by_label(session, now, group, wanted.timezone))
    spent_before = _in_places(earlier, _by_label(session, before, group, wanted.timezone))
    names = [shown for _, shown in places]
    return [
        [name or "", format_usd(amount or 0), format_usd(amount_before or 0)]
        for name, amount, amount_before in zip_longest(names, spent, spent_before)
    ]


def _in_places(places: Sequence[tuple[str, str]], spent: dict[str, int]) -> list[int]:
    """Where the zone is half an hour off, the last half hour counts for the last place."""
    numbers = {label: number for number, (label, _) in enumerate(places)}
    amounts = [0] * len(places)
    for label, nano_usd in spent.items():
        amounts[numbers.get(label, -1)] += nano_usd
    return amounts


def _hours(start: datetime, end: datetime, zone_name: str) -> list[tuple[str, str]]:
    """(as `summarize` names it, as the zone's clocks read)."""
    zone, count = ZoneInfo(zone_name), max(1, round((end - start).total_seconds() / _HOUR_S))
    hours = [start.astimezone(UTC) + timedelta(hours=number) for number in range(count)]
    return [(f"{hour:%Y-%m-%dT%H}:00:00Z", f"{hour.astimezone(zone):%H}") for hour in hours]


def _days(start: datetime, end: datetime, zone_name: str) -> list[tuple[str, str]]:
    zone = ZoneInfo(zone_name)
    day, last, found = start.astimezone(zone).date(), end.astimezone(zone).date(), []
    while day < last:
        found.append((day.isoformat(), day.isoformat()))
        day += timedelta(days=1)
    return found
