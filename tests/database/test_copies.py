"""A copy of everything: out of either database, through a file, into either database, and what is refused."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, Table, insert, inspect, select

from tests.conftest import BACKENDS, Databases, using
from token_tracker.database import migrations
from token_tracker.database.copies import archive, source, target
from token_tracker.database.copies.shapes import Copy, CopyError, Shape, TableCopy, Totals
from token_tracker.database.models import ApiKey, Base, PriceRow, Team
from token_tracker.database.session import reading, transaction

AT = datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=UTC)
AWKWARD = "naïve \"quotes\", 'more', \\ back, 日本語, 🙂, \ttab"


def value_of(column: Any, kind: str, number: int) -> Any:
    """One that a careless copy would change."""
    return {
        "text": f"{number}{AWKWARD}"[: getattr(column.type, "length", None) or 1000],
        "integer": 2**53 + number if "BIGINT" in str(column.type) else 2**31 - 1 - number,
        "float": 0.1 + number,
        "boolean": number % 2 == 0,
        "time": AT + timedelta(days=number),
        "bytes": bytes(range(number, number + 32)),
        "decimal": Decimal("33.333") + number,
        "json": {"text": AWKWARD, "numbers": [1, 2.5, None, True], "nested": {}},
    }[kind]


ONCE_REQUIRED = {"budget_alerts.threshold_percent"}  # older versions had no row without it


def row_of(table: Table, number: int, *, filled: bool) -> dict[str, Any]:
    """`filled` False: NULL wherever the table takes it."""
    kinds, row = Shape.of(table).columns, {}
    for column in table.columns:
        foreign = next(iter(column.foreign_keys), None)
        if not filled and column.nullable and f"{table.name}.{column.name}" not in ONCE_REQUIRED:
            row[column.name] = None
        elif foreign is not None:  # of itself: the row that comes after this one
            referred = foreign.column
            number_there = 1 if referred.table is not table else number + 1
            row[column.name] = value_of(referred, Shape.of(referred.table).columns[referred.name], number_there)
        else:
            row[column.name] = value_of(column, kinds[column.name], number)
    return row


def populate(engine: Engine) -> None:
    """Two rows in every table; of those that refer to themselves, the first refers to the second."""
    with transaction(engine) as session:
        for table in Base.metadata.sorted_tables:
            session.execute(table.delete())
            for number, filled in ((2, False), (1, True)):
                session.execute(insert(table), row_of(table, number, filled=filled))


def rows_of(engine: Engine) -> dict[str, list[bytes]]:
    """All rows of all tables as the outside would see them."""
    with reading(engine) as session:
        return {
            table.shape.name: sorted(msgspec.json.encode(plain(row)) for row in table.rows())
            for table in source.read(session).tables
        }


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """SQLite keeps no number of places."""
    return {name: value.normalize() if isinstance(value, Decimal) else value for name, value in row.items()}


@pytest.fixture(params=BACKENDS)
def other(request: pytest.FixtureRequest, databases: Callable[[str], Databases]) -> Iterator[Engine]:
    """An empty database to copy to, on each backend in turn."""
    with using(databases(request.param).empty()) as engine:
        yield engine


def write(engine: Engine, path: Path) -> None:
    with reading(engine) as session:
        archive.write(path, source.read(session), version="1", database=engine.dialect.name, at=AT)


def test_every_row_of_every_table_arrives_as_it_was(engine: Engine, other: Engine, tmp_path: Path) -> None:
    populate(engine)
    before = rows_of(engine)
    assert all(len(rows) == 2 for rows in before.values())
    path = tmp_path / "backup.zip"
    write(engine, path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir() if each.suffix != ".db"] == ["backup.zip"]
    told: list[int] = []
    with archive.opened(path) as (manifest, copy), transaction(other) as session:
        target.fill(session, copy, told.append)
    assert sum(told) == copy.rows == 2 * len(before)
    assert manifest.made_at == AT
    assert rows_of(other) == before
    with transaction(other) as session:  # a number that is given out now is free
        session.add(PriceRow(source="file", name="x", version="x", rates=None, valid_from=AT, created_at=AT))
    with reading(other) as session:
        keys = {key.id: key.predecessor_id for key in session.scalars(select(ApiKey))}
    assert sorted(keys.values(), key=str) == sorted([None, next(id for id in keys if id.startswith("2"))], key=str)


def test_what_is_not_empty_is_left_alone(engine: Engine, tmp_path: Path) -> None:
    populate(engine)
    before = rows_of(engine)
    write(engine, tmp_path / "backup.zip")
    with pytest.raises(FileExistsError):
        write(engine, tmp_path / "backup.zip")
    with (
        archive.opened(tmp_path / "backup.zip") as (_, copy),
        pytest.raises(CopyError, match="not empty"),
        transaction(engine) as session,
    ):
        target.fill(session, copy)
    assert rows_of(engine) == before


def as_of(copy: Copy, revision: str, empty: Engine) -> Copy:
    """What a version of that revision would have copied."""
    with empty.begin() as connection:
        migrations.upgrade(connection, revision)
        names = set(inspect(connection).get_table_names())
        known = {name: {column["name"] for column in inspect(connection).get_columns(name)} for name in names}
    return Copy(
        revision, [narrowed(table, known[table.shape.name]) for table in copy.tables if table.shape.name in known]
    )


def narrowed(table: TableCopy, names: set[str]) -> TableCopy:
    kept = {name: kind for name, kind in table.shape.columns.items() if name in names}
    shape, sums = Shape(table.shape.name, kept, table.shape.key), table.totals.sums
    totals = Totals(table.totals.rows, {name: total for name, total in sums.items() if name in names})
    return TableCopy(shape, totals, lambda: ({name: row[name] for name in kept} for row in table.rows()))


def test_a_copy_of_an_older_version_is_brought_up_to_date_and_a_newer_one_is_refused(
    engine: Engine, other: Engine, backend: str, databases: Callable[[str], Databases]
) -> None:
    populate(engine)
    with reading(engine) as session, using(databases(backend).empty()) as empty:
        copy = source.read(session)
        with pytest.raises(CopyError, match="newer"), transaction(other) as filled:
            target.fill(filled, replace(copy, revision="9999"))
        older = as_of(copy, "0005", empty)
        assert 0 < older.rows < copy.rows
        with transaction(other) as filled:
            target.fill(filled, older)
        with other.connect() as connection:
            assert migrations.current_revision(connection) == migrations.HEAD
            for table in older.tables:
                assert Totals.in_database(connection, table.shape) == table.totals
                found = source.rows(connection, table.shape)
                assert {repr(row) for row in map(plain, found)} == {repr(row) for row in map(plain, table.rows())}


def test_a_text_that_only_sqlite_keeps_is_refused_whole(
    databases: Callable[[str], Databases],
) -> None:
    with using(databases("sqlite").laid()) as lax, using(databases("postgresql").empty()) as strict:
        with transaction(lax) as session:
            session.add(Team(id="x" * 65, name="long", created_at=AT))
        with (
            reading(lax) as session,
            pytest.raises(CopyError, match="teams does not fit: value too long"),
            transaction(strict) as filled,
        ):
            target.fill(filled, source.read(session))
        with strict.connect() as connection:
            assert inspect(connection).get_table_names() == []


def test_a_sum_that_differs_leaves_nothing_behind(engine: Engine, other: Engine) -> None:
    populate(engine)
    with reading(engine) as session:
        copy = source.read(session)
        tables = [
            replace(table, totals=Totals(2, table.totals.sums | {"cost_nano_usd": 1}))
            if table.shape.name == "token_usage"
            else table
            for table in copy.tables
        ]
        with pytest.raises(CopyError, match="the sum of cost_nano_usd: 1 became"), transaction(other) as filled:
            target.fill(filled, Copy(copy.revision, tables))
    with other.connect() as connection:
        assert inspect(connection).get_table_names() == []


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_file_that_was_cut_or_changed_is_found_out(engine: Engine, tmp_path: Path) -> None:
    populate(engine)
    whole = tmp_path / "whole.zip"
    write(engine, whole)
    content = whole.read_bytes()
    with archive.opened(whole) as (_, copy):
        archive.check(copy)
    with zipfile.ZipFile(whole) as members:
        entry = members.getinfo("tables/token_usage.jsonl")
    within = entry.header_offset + 30 + len(entry.filename) + entry.compress_size // 2
    listed = content.index(b"PK\1\2")  # what the archive's list says of its first member
    flips = [(within, 0xFF), (listed + 8, 0x01), (listed + 10, 0x10)]  # a row; that it is encrypted, and packed how
    broken = tmp_path / "broken.zip"
    for damaged in (
        content[: len(content) // 2],
        content[:-1],
        *(content[:at] + bytes([content[at] ^ bits]) + content[at + 1 :] for at, bits in flips),
    ):
        broken.write_bytes(damaged)
        with pytest.raises(CopyError, match="not a whole backup"), archive.opened(broken) as (_, copy):
            archive.check(copy)
