"""Sums of the ledger by up to three groups, the same whether they come from roll-ups or from rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from token_tracker.database import deadlines
from token_tracker.database.models import UsageHourly
from token_tracker.services.closed_sums import closed_until
from token_tracker.services.usage_filters import Filters
from token_tracker.services.usage_horizon import kept_from
from token_tracker.services.usage_levels import levels_of
from token_tracker.services.usage_parts import Part, missing_before, parts_of
from token_tracker.services.usage_sums import Sums, ledger_sums, read_ledger, read_rollup, rollup_sums
from token_tracker.services.usage_times import HOUR, TIME_GROUPS, UTC_SPANS, Span, changes_on_whole_hours, spans_of

GROUPS = (*TIME_GROUPS, "model", "provider", "user", "team", "key", "agent", "session", "end_user", "tag")
MAX_GROUPS_AT_ONCE = 3
MAX_ITEMS = 50_000
_ROWS_AT_ONCE = 1000
Reader = Callable[[Sequence[Any], int], tuple[tuple[str, ...], Sums]]
_HOUR_COLUMN = UsageHourly.__table__.c.hour


class TooManyItems(ValueError):
    """More combinations of the groups than one answer may hold."""


@dataclass(frozen=True, slots=True)
class SummaryItem:
    """`groups`: one value for each group asked for, in that order; '' for rows that have none."""

    groups: tuple[str, ...]
    sums: Sums


@dataclass(frozen=True, slots=True)
class Summary:
    """`items` in the order of their groups. `missing_before`: rows before it were needed and are no longer kept."""

    items: list[SummaryItem]
    totals: Sums
    missing_before: datetime | None


def summarize(session: Session, filters: Filters, *, groups: Sequence[str] = (), zone: tzinfo = UTC) -> Summary:
    """The sums of all that `filters` let through, by at most three of `GROUPS`; days and months are those of `zone`.

    Hours are named in UTC. A row with several tags counts for each of them, and once in `totals`. Raises TooManyItems
    above 50,000 items.
    """
    if len(groups) > MAX_GROUPS_AT_ONCE or len(set(groups)) < len(groups) or not set(groups) <= set(GROUPS):
        raise ValueError(f"cannot group by {','.join(groups)}")
    spans = _spans(session, filters, groups, zone)
    horizon = kept_from(session)
    parts = parts_of(filters, groups, hours_split_days=not changes_on_whole_hours(spans), kept_from=horizon)
    found: dict[tuple[str, ...], Sums] = {}
    for part in parts:
        for statement, read in _statements(session, part, filters, groups, spans):
            _collect(session, statement, read, len(groups), found)
    items = [SummaryItem(key, found[key]) for key in sorted(found)]
    totals = summarize(session, filters).totals if "tag" in groups else Sums.of(list(found.values()))
    return Summary(items if groups else [], totals, missing_before(parts, horizon))


def _spans(session: Session, filters: Filters, groups: Sequence[str], zone: tzinfo) -> tuple[Span, ...]:
    """The zone's offsets over the hours that have rows; a range of thousands of years costs nothing."""
    if not {"day", "month"}.intersection(groups):
        return UTC_SPANS
    # One at a time, as SQLite finds only a single one without reading all.
    first, last = (session.scalar(select(each(_HOUR_COLUMN))) for each in (func.min, func.max))
    if first is None or last is None:
        return UTC_SPANS
    start = max(first, filters.start) if filters.start else first
    end = min(last + HOUR, filters.end) if filters.end else last + HOUR
    return spans_of(zone, start, end)


def _statements(
    session: Session, part: Part, filters: Filters, groups: Sequence[str], spans: Sequence[Span]
) -> Iterator[tuple[Select[Any], Reader]]:
    dialect = session.get_bind().dialect
    if not part.from_rollups:
        yield ledger_sums(dialect, filters.between(part.start, part.end), groups, spans), read_ledger
        return
    closed = closed_until(session)
    for level, start, end in levels_of(filters.between(part.start, part.end), groups, spans, closed):
        yield rollup_sums(dialect, filters.between(start, end), groups, spans, level), read_rollup


def _collect(
    session: Session, statement: Select[Any], read: Reader, width: int, found: dict[tuple[str, ...], Sums]
) -> None:
    for rows in session.execute(statement.execution_options(yield_per=_ROWS_AT_ONCE)).partitions():
        deadlines.check(session)
        for row in rows:
            key, sums = read(row, width)
            if key in found:
                found[key].add(sums)
            else:
                found[key] = sums
        if len(found) > MAX_ITEMS:
            raise TooManyItems(f"more than {MAX_ITEMS:,} items: ask for a shorter time or fewer groups")
