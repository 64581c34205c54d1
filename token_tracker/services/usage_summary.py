"""Sums of the ledger by up to three groups, the same whether they come from roll-ups or from rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from token_tracker.database.models import UsageHourly
from token_tracker.services.usage_filters import Filters
from token_tracker.services.usage_horizon import kept_from
from token_tracker.services.usage_parts import Part, missing_before, parts_of
from token_tracker.services.usage_sums import Sums, ledger_sums, read_ledger, read_rollup, rollup_sums
from token_tracker.services.usage_times import HOUR, TIME_GROUPS, UTC_SPANS, Span, changes_on_whole_hours, spans_of

GROUPS = (*TIME_GROUPS, "model", "provider", "user", "team", "key", "agent", "session", "end_user", "tag")
MAX_GROUPS_AT_ONCE = 3
MAX_ITEMS = 50_000
_ROWS_AT_ONCE = 1000
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
        _collect(session, part, filters, groups, spans, found)
    items = [SummaryItem(key, found[key]) for key in sorted(found)]
    totals = summarize(session, filters).totals if "tag" in groups else _sum(items)
    return Summary(items if groups else [], totals, missing_before(parts, horizon))


def _spans(session: Session, filters: Filters, groups: Sequence[str], zone: tzinfo) -> tuple[Span, ...]:
    """The zone's offsets over the hours that have rows; a range of thousands of years costs nothing."""
    if not {"day", "month"}.intersection(groups):
        return UTC_SPANS
    first, last = session.execute(select(func.min(_HOUR_COLUMN), func.max(_HOUR_COLUMN))).one()
    if first is None:
        return UTC_SPANS
    start = max(first, filters.start) if filters.start else first
    end = min(last + HOUR, filters.end) if filters.end else last + HOUR
    return spans_of(zone, start, end)


def _collect(
    session: Session,
    part: Part,
    filters: Filters,
    groups: Sequence[str],
    spans: Sequence[Span],
    found: dict[tuple[str, ...], Sums],
) -> None:
    statement_of, read = (rollup_sums, read_rollup) if part.from_rollups else (ledger_sums, read_ledger)
    narrowed = filters.between(part.start, part.end)
    statement = statement_of(session.get_bind().dialect, narrowed, groups, spans)
    for row in session.execute(statement.execution_options(yield_per=_ROWS_AT_ONCE)):
        key, sums = read(row, len(groups))
        found.setdefault(key, Sums()).add(sums)
        if len(found) > MAX_ITEMS:
            raise TooManyItems(f"more than {MAX_ITEMS:,} items: ask for a shorter time or fewer groups")


def _sum(items: Sequence[SummaryItem]) -> Sums:
    totals = Sums()
    for item in items:
        totals.add(item.sums)
    return totals
