"""A copy of a database, as one reading transaction sees it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from token_tracker.database import migrations
from token_tracker.database.copies.shapes import Copy, CopyError, Row, Shape, TableCopy, Totals
from token_tracker.database.models import Base, Lease

_ROWS_AT_ONCE = 1000
_NOT_COPIED = frozenset({Lease.__tablename__})  # who is at work at this moment, on this database


def read(session: Session) -> Copy:
    """To be taken while `session` (of `reading`) is open. Raises CopyError for tables of another version."""
    connection = session.connection()
    revision = migrations.current_revision(connection)
    if revision != migrations.HEAD:
        raise CopyError(
            f"The tables are at revision {revision or 'none'}, this version knows {migrations.HEAD}. Use the version "
            "that used them last, or bring them up to date with 'token-tracker init'."
        )
    shapes = [Shape.of(table) for table in Base.metadata.sorted_tables if table.name not in _NOT_COPIED]
    return Copy(revision, [_table(connection, shape) for shape in shapes])


def _table(connection: Connection, shape: Shape) -> TableCopy:
    return TableCopy(shape, Totals.in_database(connection, shape), partial(rows, connection, shape))


def rows(connection: Connection, shape: Shape) -> Iterator[Row]:
    """In the order of the primary key, in flat memory."""
    table = shape.table()
    statement = select(table).order_by(*(table.c[name] for name in shape.key))
    for row in connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(statement):
        yield row._asdict()
