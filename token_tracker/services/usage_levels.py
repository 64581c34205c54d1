"""Which sums answer a question with the fewest rows: of days, of hours, or of hours over all dimensions at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Table

from token_tracker.database.models import EVERYBODY, UsageHourly, UsageSums
from token_tracker.services.closed_sums import BY_DAY, BY_HOUR, ceil_day, floor_day
from token_tracker.services.usage_filters import ROLLUP_COLUMNS, Filters
from token_tracker.services.usage_times import TIME_GROUPS, Span

_HOURLY: Table = UsageHourly.__table__
_SUMS: Table = UsageSums.__table__


@dataclass(frozen=True, slots=True)
class Level:
    """The rows `only` of a table: `columns` by the fields of `Filters` that they know, `time` when they begin."""

    table: Table
    columns: Mapping[str, Any]
    time: Any
    only: tuple[ColumnElement[bool], ...] = ()


ALL_DIMENSIONS = Level(_HOURLY, ROLLUP_COLUMNS, _HOURLY.c.hour)
Piece = tuple[Level, datetime | None, datetime | None]


def levels_of(
    filters: Filters, groups: Sequence[str], spans: Sequence[Span], closed: datetime | None
) -> Iterator[Piece]:
    """Disjoint pieces that cover the whole hours of `filters`, each with the coarsest sums that know its answer.

    `closed`: up to when there are sums over one dimension. Days of a zone beside UTC are made of hours.
    """
    start, end = filters.start, filters.end
    fields = _fields(filters, groups)
    if closed is None or len(fields) > 1 or (start is not None and start >= closed):
        yield ALL_DIMENSIONS, start, end
        return
    until = closed if end is None else min(closed, end)
    field = next(iter(fields), None)
    yield from _closed(field, start, until, has_days=_days_fit(groups, spans))
    if end is None or until < end:
        yield ALL_DIMENSIONS, until, end


def _closed(field: str | None, start: datetime | None, end: datetime, *, has_days: bool) -> Iterator[Piece]:
    by_hour = _of_one(field, BY_HOUR)
    first, last = (None if start is None else ceil_day(start)), floor_day(end)
    if not has_days or (first is not None and first >= last):
        yield by_hour, start, end
        return
    if start != first:
        yield by_hour, start, first
    yield _of_one(field, BY_DAY), first, last
    if last < end:
        yield by_hour, last, end


def _fields(filters: Filters, groups: Sequence[str]) -> set[str]:
    """The dimensions that must be told apart."""
    asked = {name for name in ROLLUP_COLUMNS if getattr(filters, name) is not None}
    scoped = {name for name in ("user", "team") if getattr(filters.scope, name) is not None}
    return asked | scoped | {group for group in groups if group not in TIME_GROUPS}


def _days_fit(groups: Sequence[str], spans: Sequence[Span]) -> bool:
    return "hour" not in groups and all(span.offset_s == 0 for span in spans)


def _of_one(field: str | None, span: str) -> Level:
    dimension = EVERYBODY if field is None else ROLLUP_COLUMNS[field].name
    columns = {} if field is None else {field: _SUMS.c.value}
    return Level(_SUMS, columns, _SUMS.c.start, (_SUMS.c.dimension == dimension, _SUMS.c.span == span))
