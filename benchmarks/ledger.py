"""`python -m benchmarks.ledger URL ROWS`: fills an empty database with so many calls of the last 180 days.

The rows go in without indexes, which are made afterwards; hours are closed as the worker closes them.
"""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, cast

from sqlalchemy import Connection, Engine, Insert, Table, func, select, text

from benchmarks.ledger_rows import COLUMNS, DAYS, calls
from token_tracker.database import migrations
from token_tracker.database.models import ROLLUP_KEYS, ROLLUP_SUMS, TokenUsage, UsageHourly
from token_tracker.database.session import make_engine, reading, transaction
from token_tracker.services import closed_sums, rollups

_ROWS_AT_ONCE = 20_000
_LEDGER, _HOURLY = cast(Table, TokenUsage.__table__), UsageHourly.__table__


def main() -> None:
    if len(sys.argv) != 3 or not sys.argv[2].isdigit():
        raise SystemExit(f"Usage: python -m benchmarks.ledger URL ROWS\n{__doc__}")
    generate(sys.argv[1], int(sys.argv[2]))


def generate(url: str, rows: int) -> None:
    """Make the tables if need be, then rows, indexes and sums. Refuses a ledger with rows."""
    engine = make_engine(url, statement_timeout_ms=0)
    try:
        with transaction(engine) as session:
            migrations.take_turn(session.connection())
            migrations.upgrade(session.connection())
        with reading(engine) as session:
            if session.scalar(select(TokenUsage.id).limit(1)):
                raise SystemExit("The ledger has rows already; name an empty database.")
        end = rollups.hour_of(datetime.now(UTC))
        with step("rows"), engine.begin() as connection:
            for index in _LEDGER.indexes:
                index.drop(connection)
            (_into_sqlite if engine.dialect.name == "sqlite" else _into_postgresql)(connection, calls(rows, end))
        with step("indexes"), engine.begin() as connection:
            for index in _LEDGER.indexes:
                index.create(connection)
        with step("sums"):
            _sum_up(engine, end)
        _settle(engine)
    finally:
        engine.dispose()


class step:
    """Says on stderr how long something took."""

    def __init__(self, name: str) -> None:
        self._name, self._start_s = name, time.monotonic()

    def __enter__(self) -> None:
        print(f"{self._name} …", end=" ", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        print(f"{time.monotonic() - self._start_s:.0f} s", file=sys.stderr, flush=True)


def _into_sqlite(connection: Connection, rows: Iterable[tuple[Any, ...]]) -> None:
    place = COLUMNS.index("timestamp")
    raw = connection.connection.driver_connection
    assert raw is not None
    raw.execute("PRAGMA cache_size=-400000")

    def shown() -> Iterator[tuple[Any, ...]]:
        for row in rows:
            at = row[place].strftime("%Y-%m-%d %H:%M:%S.%f")
            yield (*row[:place], at, at, *row[place + 2 :])

    raw.executemany(f"INSERT INTO token_usage ({','.join(COLUMNS)}) VALUES ({','.join('?' * len(COLUMNS))})", shown())


def _into_postgresql(connection: Connection, rows: Iterable[tuple[Any, ...]]) -> None:
    booleans = COLUMNS.index("stream")
    cursor = connection.connection.cursor()
    remaining = iter(rows)
    while part := list(islice(remaining, _ROWS_AT_ONCE)):
        buffer = io.StringIO()
        writer = csv.writer(buffer)
        writer.writerows((*row[:booleans], bool(row[booleans]), *row[booleans + 1 :]) for row in part)
        buffer.seek(0)
        # '' is an absent name, and only ttft_ms is null
        cursor.copy_expert(
            f"COPY token_usage ({','.join(COLUMNS)}) FROM STDIN (FORMAT csv, FORCE_NOT_NULL "
            f"({','.join(name for name in COLUMNS if name != 'ttft_ms')}))",
            buffer,
        )


def _sum_up(engine: Engine, end: datetime) -> None:
    """A day a transaction, then the hours closed as the worker closes them."""
    day = closed_sums.floor_day(end - timedelta(days=DAYS))
    while day < end:
        with transaction(engine) as session:
            session.execute(_hours_of(engine, day))
        day += closed_sums.DAY
    at, has_more = datetime.now(UTC), True
    while has_more:
        with transaction(engine) as session:
            has_more = all(closed_sums.close_next(session, at=at) for _ in range(24))


def _hours_of(engine: Engine, day: datetime) -> Insert:
    is_sqlite = engine.dialect.name == "sqlite"
    hour = text("substr(timestamp, 1, 13) || ':00:00.000000'" if is_sqlite else "date_trunc('hour', timestamp)")
    in_day = (TokenUsage.timestamp >= day, TokenUsage.timestamp < day + closed_sums.DAY)
    rows = select(hour, *rollups.LEDGER_KEYS, *rollups.sum_columns()).where(*in_day)
    columns = [*ROLLUP_KEYS, *ROLLUP_SUMS]
    return _HOURLY.insert().from_select(columns, rows.group_by(hour, *rollups.LEDGER_KEYS), include_defaults=False)


def _settle(engine: Engine) -> None:
    """What a database does by itself in the course of months."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        postgresql = engine.dialect.name == "postgresql"
        connection.execute(text("VACUUM ANALYZE" if postgresql else "PRAGMA wal_checkpoint(TRUNCATE)"))
        print(f"{connection.scalar(select(func.count()).select_from(_LEDGER)):,} rows", file=sys.stderr)


if __name__ == "__main__":
    main()
