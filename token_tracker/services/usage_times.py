"""Hours, days and months of a time zone as SQL, alike on both databases and right on DST days."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from sqlalchemy import ColumnElement, Dialect, String, case, func

HOUR = timedelta(hours=1)
_SQLITE_FORMATS = {"hour": "%Y-%m-%dT%H:00:00Z", "day": "%Y-%m-%d", "month": "%Y-%m"}
_POSTGRESQL_FORMATS = {"hour": 'YYYY-MM-DD"T"HH24":00:00Z"', "day": "YYYY-MM-DD", "month": "YYYY-MM"}
TIME_GROUPS = tuple(_SQLITE_FORMATS)


@dataclass(frozen=True, slots=True)
class Span:
    """Up to `until` (UTC; None: for good) the zone is `offset_s` seconds ahead of UTC."""

    until: datetime | None
    offset_s: int


UTC_SPANS = (Span(None, 0),)


def spans_of(zone: tzinfo, start: datetime, end: datetime) -> tuple[Span, ...]:
    """The offsets of `zone` between two times, each with its end to the second."""
    spans: list[Span] = []
    at = start.astimezone(UTC)
    while at < end:
        following = min(at + timedelta(days=1), end)
        if _offset_s(zone, following) != _offset_s(zone, at):
            change = _change_between(zone, at, following)
            spans.append(Span(change, _offset_s(zone, at)))
        at = following
    return (*spans, Span(None, _offset_s(zone, end)))


def changes_on_whole_hours(spans: Sequence[Span]) -> bool:
    """Whether every UTC hour lies wholly in one day of the zone, so that hourly sums can be added up to its days."""
    return all(
        span.offset_s % 3600 == 0 and (span.until is None or span.until == floor_hour(span.until)) for span in spans
    )


def time_label(dialect: Dialect, column: Any, group: str, spans: Sequence[Span]) -> ColumnElement[str]:
    """The hour ('2026-03-29T01:00:00Z', UTC), day ('2026-03-29') or month ('2026-03') that `column` lies in."""
    if group == "hour":
        spans = UTC_SPANS
    labels = [_shifted(dialect, column, group, span.offset_s) for span in spans]
    earlier = [(column < span.until, label) for span, label in zip(spans, labels, strict=True) if span.until]
    return case(*earlier, else_=labels[-1]) if earlier else labels[-1]


def floor_hour(at: datetime) -> datetime:
    """The whole UTC hour that `at` lies in."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def ceil_hour(at: datetime) -> datetime:
    """The first whole UTC hour not before `at`."""
    floor = floor_hour(at)
    return floor if floor == at else floor + HOUR


def _shifted(dialect: Dialect, column: Any, group: str, offset_s: int) -> ColumnElement[str]:
    if dialect.name == "sqlite":
        # Cut to whole seconds first: SQLite rounds to milliseconds, and 23:59:59.9996 is not the next day.
        seconds = func.substr(column, 1, 19, type_=String)
        return func.strftime(_SQLITE_FORMATS[group], seconds, f"{offset_s:+d} seconds", type_=String)
    local = func.timezone("UTC", column) + func.make_interval(0, 0, 0, 0, 0, 0, offset_s)
    return func.to_char(local, _POSTGRESQL_FORMATS[group], type_=String)


def _offset_s(zone: tzinfo, at: datetime) -> int:
    offset = at.astimezone(zone).utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0


def _change_between(zone: tzinfo, before: datetime, after: datetime) -> datetime:
    """The first second with another offset than `before`'s; zones change at most once a day."""
    old = _offset_s(zone, before)
    low, high = int(before.timestamp()), int(after.timestamp())
    while low < high:
        middle = (low + high) // 2
        if _offset_s(zone, datetime.fromtimestamp(middle, UTC)) == old:
            low = middle + 1
        else:
            high = middle
    return datetime.fromtimestamp(low, UTC)
