"""Sums over one dimension, of the hours and UTC days that are closed: what makes long summaries short.

Everything before one moment, `closed_until`, is closed. An hour is closed by adding up its hourly sums, a day by adding
up its hours', in the transaction that moves the moment; from then on what is booked late adds to them in its own
transaction. So they equal the hourly sums at all times, and booking what is new costs nothing more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    CompoundSelect,
    Executable,
    Insert,
    Select,
    Table,
    bindparam,
    delete,
    func,
    literal,
    select,
    union_all,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from token_tracker.database.models import (
    EVERYBODY,
    ROLLUP_SUMS,
    SUM_DIMENSIONS,
    SystemState,
    UsageHourly,
    UsageSums,
    UtcDateTime,
)
from token_tracker.services import bulk, counters
from token_tracker.services.usage_times import HOUR, floor_hour

DAY = timedelta(days=1)
BY_HOUR, BY_DAY = "hour", "day"
# Most calls of an hour are booked by then; the others cost some more.
LAG = timedelta(minutes=15)
_STATE = "sums_closed_until"
_MOST = 2**63 - 1
_HOURLY: Table = UsageHourly.__table__
_SUMS: Table = UsageSums.__table__
Place = tuple[str, str, datetime, str]  # dimension, span, start, value


def closed_until(session: Session) -> datetime | None:
    """A whole hour: all before it is closed. None: nothing is."""
    value = session.scalar(select(SystemState.value).where(SystemState.name == _STATE))
    return datetime.fromisoformat(value) if value else None


def floor_day(at: datetime) -> datetime:
    """The UTC day that `at` lies in."""
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def ceil_day(at: datetime) -> datetime:
    """The first UTC day not before `at`."""
    floor = floor_day(at)
    return floor if floor == at else floor + DAY


def add(session: Session, hourly: Sequence[Mapping[str, Any]]) -> None:
    """Add what is being added to `usage_hourly` where it is of closed hours, in the transaction that books."""
    closed = closed_until(session)
    late = [row for row in hourly if closed is not None and row["hour"] < closed]
    if closed is None or not late:
        return
    found: dict[Place, dict[str, int]] = {}
    for row in late:
        for place in _places(row, closed):
            total = found.setdefault(place, dict.fromkeys(ROLLUP_SUMS, 0))
            for name in ROLLUP_SUMS:
                total[name] = min(total[name] + row[name], _MOST)
    names = ("dimension", "span", "start", "value")
    rows = [dict(zip(names, place, strict=True)) | found[place] for place in sorted(found)]
    bulk.add_up(session, _SUMS, rows, ROLLUP_SUMS)


def close_next(session: Session, *, at: datetime) -> bool:
    """Close the next hour that has calls and is over since `LAG`, in a transaction of its own; False: none is left."""
    counters.lock_exclusive(session)
    closed, until = closed_until(session), floor_hour(at - LAG)
    waiting = select(func.min(_HOURLY.c.hour)).where(_HOURLY.c.hour < until)
    hour = session.scalar(waiting if closed is None else waiting.where(_HOURLY.c.hour >= closed))
    reached = until if hour is None else hour + HOUR
    if closed is not None and reached <= closed:
        return False
    if hour is not None:
        _add_up_again(session, BY_HOUR, hour)
    for day in {ceil_day(end) - DAY for end in (closed, reached) if end is not None}:
        if (closed is None or day + DAY > closed) and day + DAY <= reached:
            _add_up_again(session, BY_DAY, day)
    session.merge(SystemState(name=_STATE, value=reached.isoformat()))
    return hour is not None


def differing(session: Session, *, hour: datetime) -> set[Place]:
    """Sums of the hour, and of the day that it ends, that are not those of `usage_hourly`."""
    return {place for span, start in _closed_with(session, hour) for place in _wrong_in(session, span, start)}


def heal(session: Session, *, hour: datetime) -> None:
    """Add up the hour and its day again, if they are closed. After `counters.lock_exclusive`."""
    closed = closed_until(session)
    for span, start, length in ((BY_HOUR, hour, HOUR), (BY_DAY, floor_day(hour), DAY)):
        if closed is not None and start + length <= closed:
            _add_up_again(session, span, start)


def _closed_with(session: Session, hour: datetime) -> Iterator[tuple[str, datetime]]:
    closed = closed_until(session)
    if closed is not None and hour + HOUR <= closed:
        yield BY_HOUR, hour
        if hour + HOUR == ceil_day(hour + HOUR):
            yield BY_DAY, floor_day(hour)


def _places(row: Mapping[str, Any], closed: datetime) -> Iterator[Place]:
    hour = row["hour"]
    day = floor_day(hour)
    for dimension in SUM_DIMENSIONS:
        value = row[dimension] if dimension != EVERYBODY else ""
        yield dimension, BY_HOUR, hour, value
        if day + DAY <= closed:
            yield dimension, BY_DAY, day, value


def _add_up_again(session: Session, span: str, start: datetime) -> None:
    key = (_SUMS.c.dimension.in_(SUM_DIMENSIONS), _SUMS.c.span == span, _SUMS.c.start == start)
    session.execute(delete(_SUMS).where(*key))
    session.execute(_adding_up(span), _bounds(span, start))


def _wrong_in(session: Session, span: str, start: datetime) -> set[Place]:
    bounds = _bounds(span, start)
    right, standing = (_keyed(session, each, bounds) for each in (_sums_of(span), _standing(span)))
    return {place for place in right.keys() | standing.keys() if right.get(place) != standing.get(place)}


def _keyed(session: Session, statement: Executable, bounds: dict[str, datetime]) -> dict[Place, tuple[int, ...]]:
    rows = session.execute(statement, bounds).all()
    return {(row[0], row[1], row[2], row[3]): tuple(int(each) for each in row[4:]) for row in rows}


def _bounds(span: str, start: datetime) -> dict[str, datetime]:
    return {"first": start, "last": start if span == BY_HOUR else start + DAY - HOUR}


@cache  # building these takes longer than running them
def _adding_up(span: str) -> Insert:
    columns = [column.name for column in _SUMS.columns]
    return _SUMS.insert().from_select(columns, _sums_of(span), include_defaults=False)


@cache
def _standing(span: str) -> Select[Any]:
    key = (_SUMS.c.dimension.in_(SUM_DIMENSIONS), _SUMS.c.span == span, _SUMS.c.start == bindparam("first"))
    return select(_SUMS).where(*key)


@cache
def _sums_of(span: str) -> Select[Any] | CompoundSelect[Any]:
    """Rows of `usage_sums` from `first` to `last`: an hour's from `usage_hourly`, a day's from its hours."""
    if span == BY_HOUR:
        return union_all(*(_of_hour(dimension) for dimension in SUM_DIMENSIONS))
    of_hours = (_SUMS.c.dimension.in_(SUM_DIMENSIONS), _SUMS.c.span == BY_HOUR)
    statement = _summed(_SUMS.c.dimension, BY_DAY, _SUMS.c.value, _SUMS, _SUMS.c.start).where(*of_hours)
    return statement.group_by(_SUMS.c.dimension, _SUMS.c.value)


def _of_hour(dimension: str) -> Select[Any]:
    if dimension == EVERYBODY:
        everybody = _summed(literal(EVERYBODY), BY_HOUR, literal(""), _HOURLY, _HOURLY.c.hour)
        return everybody.having(func.count() > 0)
    value = _HOURLY.c[dimension]
    return _summed(literal(dimension), BY_HOUR, value, _HOURLY, _HOURLY.c.hour).group_by(value)


def _summed(dimension: Any, span: str, value: Any, source: Table, time: Any) -> Select[Any]:
    first = bindparam("first", type_=UtcDateTime())
    key = (dimension.label("dimension"), literal(span).label("span"), first.label("start"), value.label("value"))
    sums = [_Bounded(source.c[name]).label(name) for name in ROLLUP_SUMS]
    return select(*key, *sums).where(time >= first, time <= bindparam("last", type_=UtcDateTime()))


class _Bounded(FunctionElement[int]):
    """A sum, at most what its column holds: one that no longer fits must not stop the books."""

    type = BigInteger()
    inherit_cache = True


@compiles(_Bounded, "postgresql")
def _on_postgresql(element: _Bounded, compiler: SQLCompiler, **options: Any) -> str:
    (column,) = element.clauses
    return f"CAST(least(sum({compiler.process(column, **options)}), {_MOST}) AS BIGINT)"


@compiles(_Bounded, "sqlite")
def _on_sqlite(element: _Bounded, compiler: SQLCompiler, **options: Any) -> str:
    """By halves, as SQLite's own `sum` fails where it does not fit, and its `+` does not."""
    (column,) = element.clauses
    name = compiler.process(column, **options)
    return f"min(sum({name} >> 32) * 4294967296 + sum({name} & 4294967295), {_MOST})"
