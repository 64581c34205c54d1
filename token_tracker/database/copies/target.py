"""Puts a copy into an empty database, all of it or nothing, and checks what arrived."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, bindparam, func, inspect, literal_column, select
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session

from token_tracker.database import migrations
from token_tracker.database.copies.shapes import Copy, CopyError, Row, TableCopy, Totals
from token_tracker.database.models import Base

_ROWS_AT_ONCE = 1000
_encode = msgspec.json.Encoder().encode


def fill(session: Session, copy: Copy, progress: Callable[[int], object] = lambda rows: None) -> None:
    """Lay the tables that the copy was made of, fill them, compare counts and sums, and bring them up to date.

    Within the caller's transaction: what fails was never there. `progress` is told of rows as they are written.
    Raises CopyError (not empty; a copy of a newer version; what arrived is not what was sent).
    """
    connection = session.connection()
    migrations.take_turn(connection)
    _check_empty(connection)
    if not migrations.is_known(copy.revision):
        raise CopyError(
            f"The copy was made at revision {copy.revision}, which this version does not know: it is of a newer one. "
            "Install that version. Nothing was changed."
        )
    migrations.upgrade(connection, copy.revision)
    for table in reversed(copy.tables):
        connection.execute(table.shape.table().delete())  # what an empty installation is laid with
    for table in copy.tables:
        _fill_table(connection, table, progress)
    migrations.upgrade(connection)


def _check_empty(connection: Connection) -> None:
    taken = Base.metadata.tables.keys() & set(inspect(connection).get_table_names())
    if taken or migrations.current_revision(connection) is not None:
        raise CopyError(
            "This database is not empty: it has tables of Token Tracker, or of the same names. Nothing was changed. "
            "Name an empty one in DATABASE_URL (a new SQLite file, or CREATE DATABASE)."
        )


def _fill_table(connection: Connection, source: TableCopy, progress: Callable[[int], object]) -> None:
    table, own = source.shape.table(), _references_to_itself(connection, source.shape.name)
    later: list[Row] = []
    rows = source.rows()
    try:
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            later += _put_off(batch, own, source.shape.key)
            _insert(connection, table, batch)
            progress(len(batch))
        if later:
            connection.execute(_set_later(table, own, source.shape.key), later)
    except DataError as error:  # SQLite keeps texts of any length, PostgreSQL does not
        raise CopyError(f"A row of {table.name} does not fit: {' '.join(str(error.orig).split())}") from None
    _set_sequence(connection, source)
    if difference := source.totals.difference(Totals.in_database(connection, source.shape)):
        raise CopyError(f"What arrived in {table.name} is not what was sent: {difference}. Nothing was changed.")


def _insert(connection: Connection, table: Table, batch: list[Row]) -> None:
    """PostgreSQL gets the rows as one JSON text: several times faster than as thousands of values."""
    if connection.dialect.name != "postgresql":
        connection.execute(table.insert(), batch)
        return
    row_of: Any = literal_column(f"NULL::{table.name}")
    given = func.json_populate_recordset(row_of, bindparam("rows")).table_valued(*table.columns.keys(), name="given")
    names = [column.name for column in table.columns]
    statement = table.insert().from_select(names, select(*(given.c[name] for name in names)))
    connection.execute(statement, {"rows": _encode([_hexadecimal(row) for row in batch]).decode()})


def _hexadecimal(row: Row) -> Row:
    """Bytes as PostgreSQL writes them."""
    return {name: f"\\x{value.hex()}" if isinstance(value, bytes) else value for name, value in row.items()}


def _references_to_itself(connection: Connection, name: str) -> list[str]:
    keys = inspect(connection).get_foreign_keys(name)
    return [column for key in keys if key["referred_table"] == name for column in key["constrained_columns"]]


def _put_off(batch: list[Row], own: list[str], key: tuple[str, ...]) -> Iterator[Row]:
    """What refers to a row of the same table is set when all of them stand."""
    for row in batch if own else ():
        if any(row[name] is not None for name in own):
            yield {f"key_{name}": row[name] for name in key} | {f"set_{name}": row[name] for name in own}
            row.update(dict.fromkeys(own))


def _set_later(table: Table, own: list[str], key: tuple[str, ...]) -> Any:
    conditions = (table.c[name] == bindparam(f"key_{name}") for name in key)
    return table.update().where(*conditions).values({name: bindparam(f"set_{name}") for name in own})


def _set_sequence(connection: Connection, source: TableCopy) -> None:
    """PostgreSQL numbers new rows by a sequence that knows nothing of rows that brought their number along."""
    if connection.dialect.name != "postgresql" or len(source.shape.key) != 1:
        return
    table, (column,) = source.shape.table(), source.shape.key
    sequence = connection.scalar(select(func.pg_get_serial_sequence(table.name, column)))
    if sequence is not None and source.totals.rows:
        connection.execute(select(func.setval(sequence, select(func.max(table.c[column])).scalar_subquery())))
