"""What the ledger holds for a budget's current window, by counter: the truth that counters are compared with.

Whole hours come from the hourly sums where those know all that the budget asks for, all else from rows. A model of a
budget is the name asked for, the group that served or the upstream's, and the hourly sums know only the last: such a
budget reads rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select, text
from sqlalchemy.orm import Session

from token_tracker.database.models import TokenUsage, TokenUsageTag, UnprovenRelease, UsageHourly
from token_tracker.domain.rules import EACH, BudgetRule
from token_tracker.domain.usage import TOKEN_CLASSES
from token_tracker.domain.windows import NEVER_S, ROLLING_HOURS, window_of
from token_tracker.services.counters import Amount, CounterPlace, measures_of
from token_tracker.services.rule_rows import microseconds
from token_tracker.services.usage_horizon import kept_from
from token_tracker.services.usage_times import UTC_SPANS, ceil_hour, floor_hour, time_label

ROWS_AT_ONCE = 200_000  # in one statement, so that none takes longer than the database's bound on it
# With the numbers in it, as a partial index is used only for its own words.
UNPROVEN = text("(unproven_nano_usd > 0 OR unproven_tokens > 0)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOURLY = UsageHourly.__table__.c
_HOURLY_SCOPES: dict[str, Any] = {
    "key": _HOURLY.key_id,
    "user": _HOURLY.user_id,
    "team": _HOURLY.team_id,
    "agent": _HOURLY.agent,
    "provider": _HOURLY.provider,
}
_ROW_SCOPES: dict[str, Any] = {
    "key": TokenUsage.key_id,
    "user": TokenUsage.user,
    "team": TokenUsage.team,
    "agent": TokenUsage.agent,
    "provider": TokenUsage.provider,
    "session": TokenUsage.session,
    "end_user": TokenUsage.end_user,
    "tag": TokenUsageTag.tag,
}
_ROW_TOKENS = sum((getattr(TokenUsage, name) for name in TOKEN_CLASSES[1:]), getattr(TokenUsage, TOKEN_CLASSES[0]))
_HOURLY_TOKENS = sum((_HOURLY[name] for name in TOKEN_CLASSES[1:]), _HOURLY[TOKEN_CLASSES[0]])


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open; `end` None: without one."""

    start: datetime
    end: datetime | None


@dataclass(slots=True)
class LedgerAmounts:
    """`spent` and `unproven` by counter, of the window [`start_s`, `end_s`). Amounts of buckets that begin before
    `spent_from_s` (`unproven_from_s`) are less than the truth: rows of that time are gone."""

    start_s: int
    end_s: int
    spent: dict[CounterPlace, int]
    unproven: dict[CounterPlace, int]
    spent_from_s: int = 0
    unproven_from_s: int = 0

    def amount(self, place: CounterPlace) -> Amount:
        return Amount(self.spent.get(place, 0), self.unproven.get(place, 0))


def amounts_of(session: Session, rule: BudgetRule, at: datetime, *, from_rows: bool = False) -> LedgerAmounts:
    """Of the window that an admission at `at` looks at, minus what was released. To be asked in a session that sees
    one state of the database (`session.reading`). `from_rows`: do not trust the hourly sums where there are rows."""
    window = window_of(rule.period, rule.timezone, microseconds(at), rule.starts_at_us)
    start = _EPOCH + timedelta(microseconds=max(window.start_s * 1_000_000, _first_us(rule)))
    end = None if window.end_s >= NEVER_S else _EPOCH + timedelta(seconds=window.end_s)
    found = LedgerAmounts(window.start_s, window.end_s, {}, {})
    horizon = kept_from(session)
    if horizon is not None and horizon > start:
        found.unproven_from_s = int(horizon.timestamp())
        found.spent_from_s = 0 if fits_hourly(rule) else found.unproven_from_s
    for span, is_hourly in _parts(rule, start, end):
        if is_hourly and not (from_rows and (horizon is None or horizon <= span.start)):
            _collect(session, rule, _hourly_sums(session, rule, span), found, found.spent)
        else:
            for small in _small(session, span):
                _collect(session, rule, _row_sums(session, rule, small), found, found.spent)
    _collect(session, rule, _unproven_sums(session, rule, Span(start, end)), found, found.unproven)
    return found


def fits_hourly(rule: BudgetRule) -> bool:
    """Whether the hourly sums know all that the budget asks for."""
    return not rule.model and (rule.scope_type == "global" or rule.scope_type in _HOURLY_SCOPES)


def of_rule(rule: BudgetRule) -> list[ColumnElement[bool]]:
    """The rows that a budget counts, as conditions on `token_usage` (times apart; for tags joined with theirs)."""
    conditions = _of_scope(rule, _ROW_SCOPES)
    if rule.model:
        names = (TokenUsage.requested_model, TokenUsage.model_group, TokenUsage.model)
        conditions.append(or_(*(name == rule.model for name in names)))
    return conditions


def _first_us(rule: BudgetRule) -> int:
    return rule.starts_at_us if rule.period == "total" else 0


def _parts(rule: BudgetRule, start: datetime, end: datetime | None) -> Iterator[tuple[Span, bool]]:
    """Disjoint spans that cover the window, and whether each is read from the hourly sums."""
    if not fits_hourly(rule):
        yield Span(start, end), False
        return
    first, last = ceil_hour(start), floor_hour(end) if end else None
    if last is not None and first >= last:
        yield Span(start, end), False
        return
    if start < first:
        yield Span(start, first), False
    yield Span(first, last), True
    if last is not None and end is not None and last < end:
        yield Span(last, end), False


def _small(session: Session, span: Span) -> Iterator[Span]:
    """The same time in spans of at most ROWS_AT_ONCE rows (more only within one hour)."""
    hours = (
        select(_HOURLY.hour, func.sum(_HOURLY.attempts))
        .where(_HOURLY.hour >= floor_hour(span.start))
        .group_by(_HOURLY.hour)
        .order_by(_HOURLY.hour)
    )
    if span.end is not None:
        hours = hours.where(_HOURLY.hour < span.end)
    start, rows = span.start, 0
    for hour, attempts in session.execute(hours).all():
        if rows and rows + attempts > ROWS_AT_ONCE and hour > start:
            yield Span(start, hour)
            start, rows = hour, 0
        rows += attempts
    yield Span(start, span.end)


def _hourly_sums(session: Session, rule: BudgetRule, span: Span) -> Select[Any]:
    labels = _labels(session, rule, _HOURLY_SCOPES, _HOURLY.hour)
    sums = {"usd": func.sum(_HOURLY.cost_nano_usd), "tokens": func.sum(_HOURLY_TOKENS)}
    statement = select(*labels, *(sums[measure] for measure in measures_of(rule)))
    return _grouped(statement.where(*_of_scope(rule, _HOURLY_SCOPES), *_within(_HOURLY.hour, span)), labels)


def _row_sums(session: Session, rule: BudgetRule, span: Span) -> Select[Any]:
    sums = {"usd": func.coalesce(func.sum(TokenUsage.cost_nano_usd), 0), "tokens": func.sum(_ROW_TOKENS)}
    return _of_rows(session, rule, span, [sums[measure] for measure in measures_of(rule)])


def _unproven_sums(session: Session, rule: BudgetRule, span: Span) -> Select[Any]:
    sums = {"usd": func.sum(TokenUsage.unproven_nano_usd), "tokens": func.sum(TokenUsage.unproven_tokens)}
    statement = _of_rows(session, rule, span, [sums[measure] for measure in measures_of(rule)])
    released = and_(UnprovenRelease.budget_id == rule.id, UnprovenRelease.usage_id == TokenUsage.id)
    return statement.where(UNPROVEN, ~exists().where(released))


def _of_rows(session: Session, rule: BudgetRule, span: Span, sums: Sequence[Any]) -> Select[Any]:
    labels = _labels(session, rule, _ROW_SCOPES, TokenUsage.timestamp)
    statement = select(*labels, *sums).where(*of_rule(rule), *_within(TokenUsage.timestamp, span))
    if rule.scope_type == "tag":
        statement = statement.join(TokenUsageTag, TokenUsageTag.usage_id == TokenUsage.id)
    return _grouped(statement, labels)


def _labels(session: Session, rule: BudgetRule, scopes: dict[str, Any], time: Any) -> list[Any]:
    """Who, where each has a counter, and the hour, where each is a bucket."""
    labels = [scopes[rule.scope_type]] if rule.scope_id == EACH else []
    if rule.period in ROLLING_HOURS:
        labels.append(time_label(session.get_bind().dialect, time, "hour", UTC_SPANS))
    return labels


def _grouped(statement: Select[Any], labels: Sequence[Any]) -> Select[Any]:
    if not labels:
        return statement
    named = [label.label(f"label_{index}") for index, label in enumerate(labels)]
    selected = [*named, *list(statement.selected_columns)[len(labels) :]]
    return statement.with_only_columns(*selected, maintain_column_froms=True).group_by(*named)


def _collect(
    session: Session, rule: BudgetRule, statement: Select[Any], found: LedgerAmounts, into: dict[CounterPlace, int]
) -> None:
    measures = measures_of(rule)
    for row in session.execute(statement):
        labels: Iterable[Any] = row[: -len(measures)]
        remaining = iter(labels)
        member = next(remaining) if rule.scope_id == EACH else ""
        bucket = _hour_s(next(remaining)) if rule.period in ROLLING_HOURS else found.start_s
        for measure, amount in zip(measures, row[-len(measures) :], strict=True):
            if amount:
                place = CounterPlace(rule.id, measure, member, bucket)
                into[place] = into.get(place, 0) + int(amount)


def _of_scope(rule: BudgetRule, columns: dict[str, Any]) -> list[ColumnElement[bool]]:
    if rule.scope_type == "global":
        return []
    column = columns[rule.scope_type]
    return [column != "" if rule.scope_id == EACH else column == rule.scope_id]


def _within(column: Any, span: Span) -> list[ColumnElement[bool]]:
    conditions = [column >= span.start]
    if span.end is not None:
        conditions.append(column < span.end)
    return conditions


def _hour_s(label: str) -> int:
    return int(datetime.fromisoformat(label).timestamp())
