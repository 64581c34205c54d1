"""Calls that were refused before anything was sent: added up by the hour, and asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import BigInteger, ColumnElement, Table, func, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import Session

from token_tracker.database.models import RefusalsBooked, RefusalsHourly
from token_tracker.domain.access import EVERYTHING, Scope
from token_tracker.services import bulk
from token_tracker.services.usage import format_time

_TABLE, _BOOKED = (cast(Table, model.__table__) for model in (RefusalsHourly, RefusalsBooked))
_KEY = tuple(column.name for column in _TABLE.primary_key.columns)
# One count by the column names of `refusals_hourly`; and its `writer`, if it is known, and `serial` there.
RefusalRow = dict[str, Any]


def book_refusals(session: Session, rows: Sequence[RefusalRow]) -> None:
    """Add counts to their hours, in the caller's transaction, each once: a writer's come by growing serials, however
    often, and what is not above its last one is booked. Ordered, so that two recorders never deadlock."""
    if not rows:
        return
    sums: dict[tuple[Any, ...], int] = {}
    for row in _new(session, rows):
        key = tuple(row[name] for name in _KEY)
        sums[key] = sums.get(key, 0) + row["calls"]
    if sums:
        added = [dict(zip(_KEY, key, strict=True)) | {"calls": sums[key]} for key in sorted(sums)]
        bulk.add_up(session, _TABLE, added, ("calls",))


def _new(session: Session, rows: Sequence[RefusalRow]) -> list[RefusalRow]:
    """Those that are not booked yet, which they are from now on."""
    writers = sorted({row.get("writer", "") for row in rows} - {""})
    if not writers:
        return list(rows)
    bulk.insert_missing(session, _BOOKED, [{"writer": writer, "serial": 0} for writer in writers])
    locked = select(_BOOKED).where(_BOOKED.c.writer.in_(writers)).order_by(_BOOKED.c.writer).with_for_update()
    booked: dict[str, int] = {row.writer: row.serial for row in session.execute(locked)}
    new = []
    for row in rows:
        writer = row.get("writer", "")
        if writer and row["serial"] <= booked[writer]:
            continue
        if writer:
            booked[writer] = row["serial"]
        new.append(row)
    marks = [{"writer": writer, "serial": booked[writer]} for writer in writers]
    bulk.replace(session, _BOOKED, marks, ("serial",))
    return new


@dataclass(frozen=True, slots=True)
class RefusalFilters:
    """Hours of `start` <= hour < `end`, and fields that equal what is given; None asks nothing."""

    start: datetime | None = None
    end: datetime | None = None
    code: str | None = None
    key: str | None = None
    user: str | None = None
    team: str | None = None
    model: str | None = None
    scope: Scope = EVERYTHING


@dataclass(frozen=True, slots=True)
class Refused:
    """So many calls of one kind."""

    code: str
    status: int
    key_id: str
    user: str
    team: str
    model: str
    endpoint: str
    calls: int
    first_hour: datetime
    last_hour: datetime


def public(refused: Refused) -> dict[str, Any]:
    """As API and command line show it."""
    hours = {"first_hour": format_time(refused.first_hour), "last_hour": format_time(refused.last_hour)}
    return asdict(refused) | hours


def refusals(session: Session, filters: RefusalFilters, *, limit: int) -> Sequence[Refused]:
    """The most frequent first, at most `limit`."""
    table, hour = RefusalsHourly, RefusalsHourly.hour
    # Sums of BIGINT are DECIMAL on PostgreSQL.
    calls = sql_cast(func.sum(RefusalsHourly.calls), BigInteger)
    groups = (table.code, table.status, table.key_id, table.user, table.team, table.model, table.endpoint)
    statement = (
        select(*groups, calls, func.min(hour), func.max(hour))
        .where(*_conditions(filters))
        .group_by(*groups)
        .order_by(calls.desc(), *groups)
        .limit(limit)
    )
    found: list[Any] = list(session.execute(statement))
    return [Refused(*row) for row in found]


def _conditions(filters: RefusalFilters) -> list[ColumnElement[bool]]:
    table = RefusalsHourly
    asked = (
        (table.code, filters.code),
        (table.key_id, filters.key),
        (table.user, filters.user),
        (table.team, filters.team),
        (table.model, filters.model),
        (table.user, filters.scope.user),
        (table.team, filters.scope.team),
    )
    conditions: list[ColumnElement[bool]] = [column == value for column, value in asked if value is not None]
    if filters.start is not None:
        conditions.append(table.hour >= filters.start)
    if filters.end is not None:
        conditions.append(table.hour < filters.end)
    return conditions
