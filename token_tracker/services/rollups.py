"""Compares the sums with the ledger, and makes them right again. Safe to repeat, and to be killed at any point.

Hourly sums from before the retention horizon are never touched: their rows are gone, and the sums are all that is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, case, delete, func, select
from sqlalchemy.orm import Session

from token_tracker.database.models import LATENCY_COLUMNS, ROLLUP_KEYS, ROLLUP_SUMS, TokenUsage, UsageHourly
from token_tracker.domain.latency import UPPER_BOUNDS_MS
from token_tracker.domain.pricing import CostSource
from token_tracker.domain.usage import ERROR_REASONS, TOKEN_CLASSES
from token_tracker.services import bulk, closed_sums, counters
from token_tracker.services.usage_horizon import kept_from

HOUR = timedelta(hours=1)
Key = tuple[Any, ...]  # ROLLUP_KEYS without the hour, or a `closed_sums.Place`
Sums = dict[Key, tuple[int, ...]]  # in the order of ROLLUP_SUMS

_HOURLY = UsageHourly.__table__
_KEYS = ROLLUP_KEYS[1:]
LEDGER_KEYS: Sequence[Any] = (  # ROLLUP_KEYS without the hour, as columns of the ledger
    TokenUsage.key_id,
    TokenUsage.user,
    TokenUsage.team,
    TokenUsage.agent,
    TokenUsage.model,
    TokenUsage.provider,
    TokenUsage.end_reason,
)


def hour_of(time: datetime) -> datetime:
    """The UTC hour that contains `time`."""
    return time.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def first_hour(session: Session) -> datetime | None:
    """The earliest hour that can be checked; None while there is nothing at all."""
    ledger = session.scalar(select(func.min(TokenUsage.timestamp)))
    hourly = session.scalar(select(func.min(_HOURLY.c.hour)))
    found = [hour_of(time) for time in (ledger, hourly) if time is not None]
    horizon = kept_from(session)
    return max(min(found), horizon) if found and horizon else min(found, default=None)


def differing(session: Session, *, hour: datetime) -> set[Key]:
    """Keys of the hour whose sums are not those of the ledger's rows (none for an hour before the horizon), and those
    of sums over one dimension, by the hour or the day that it ends, that are not the hourly sums'.

    To be asked in a session that sees one state of the database (`session.reading`, or as `heal` does).
    """
    wrong, _ = _compared(session, hour)
    return wrong | closed_sums.differing(session, hour=hour)


def heal(session: Session, *, hour: datetime) -> int:
    """Make the sums of the hour those of the ledger, in the caller's transaction, while nobody books; how many keys
    were wrong."""
    counters.lock_exclusive(session)
    wrong, ledger = _compared(session, hour)
    _put_right(session, hour, wrong, ledger)
    alone = closed_sums.differing(session, hour=hour)
    if wrong or alone:
        closed_sums.heal(session, hour=hour)
    return len(wrong | alone)


def _put_right(session: Session, hour: datetime, wrong: set[Key], ledger: Sums) -> None:
    right = [
        {"hour": hour, **dict(zip(_KEYS, key, strict=True)), **dict(zip(ROLLUP_SUMS, ledger[key], strict=True))}
        for key in sorted(wrong & ledger.keys())
    ]
    for key in sorted(wrong - ledger.keys()):
        conditions = [_HOURLY.c[name] == value for name, value in zip(_KEYS, key, strict=True)]
        session.execute(delete(_HOURLY).where(_HOURLY.c.hour == hour, *conditions))
    if right:
        bulk.replace(session, _HOURLY, right, ROLLUP_SUMS)


def is_conflict(error: BaseException) -> bool:
    """Whether PostgreSQL refused a transaction because another one changed the same rows: just try it again."""
    return getattr(getattr(error, "orig", None), "pgcode", None) in ("40001", "40P01")


def _compared(session: Session, hour: datetime) -> tuple[set[Key], Sums]:
    horizon = kept_from(session)
    if horizon is not None and hour < horizon:
        return set(), {}
    ledger, hourly = _ledger_sums(session, hour), _hourly_sums(session, hour)
    return {key for key in ledger.keys() | hourly.keys() if ledger.get(key) != hourly.get(key)}, ledger


def _hourly_sums(session: Session, hour: datetime) -> Sums:
    return _keyed(session.execute(_hourly_statement(), {"start": hour}).all())


def _ledger_sums(session: Session, hour: datetime) -> Sums:
    return _keyed(session.execute(_ledger_statement(), {"start": hour, "end": hour + HOUR}).all())


@cache  # building the statements takes longer than most hours' answers
def _hourly_statement() -> Select[*tuple[Any, ...]]:
    columns = [_HOURLY.c[name] for name in (*_KEYS, *ROLLUP_SUMS)]
    return select(*columns).where(_HOURLY.c.hour == bindparam("start"))


@cache
def _ledger_statement() -> Select[*tuple[Any, ...]]:
    in_hour = and_(TokenUsage.timestamp >= bindparam("start"), TokenUsage.timestamp < bindparam("end"))
    return select(*LEDGER_KEYS, *sum_columns()).where(in_hour).group_by(*LEDGER_KEYS)


def sum_columns() -> list[ColumnElement[int]]:
    """The columns of ROLLUP_SUMS as sums over ledger rows."""
    is_last = TokenUsage.id == TokenUsage.call_id
    latency = TokenUsage.latency_ms
    bounds = [None, *UPPER_BOUNDS_MS, None]
    return [
        func.count(),
        _count(is_last),
        _count(is_last, TokenUsage.end_reason.in_(sorted(ERROR_REASONS))),
        _count(is_last, TokenUsage.cost_source == CostSource.UNPRICED.value),
        *(func.sum(getattr(TokenUsage, name)) for name in TOKEN_CLASSES),
        func.coalesce(func.sum(TokenUsage.cost_nano_usd), 0),
        *(
            _count(
                is_last,
                *([latency > bounds[index]] if index else []),
                *([latency <= bounds[index + 1]] if index + 1 < len(LATENCY_COLUMNS) else []),
            )
            for index in range(len(LATENCY_COLUMNS))
        ),
    ]


def _count(*conditions: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((and_(*conditions), 1), else_=0)), 0)


def _keyed(rows: Sequence[Any]) -> Sums:
    width = len(_KEYS)
    return {tuple(row[:width]): tuple(int(value) for value in row[width:]) for row in rows}
