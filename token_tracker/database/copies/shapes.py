"""What a table looks like in a copy: alike on both databases, and readable by a version whose models are others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    func,
    select,
)
from sqlalchemy.types import TypeEngine

from token_tracker.database.models import UtcDateTime

Row = dict[str, Any]


class Kind(NamedTuple):
    """`of`: what the models say of such a column; `value`: in Python; `column`: what reads and writes it. Lengths and
    indices are the matter of the tables."""

    of: type[TypeEngine[Any]]
    value: Any
    column: TypeEngine[Any]


KINDS = {
    "time": Kind(UtcDateTime, datetime, UtcDateTime()),
    "boolean": Kind(Boolean, bool, Boolean()),
    "float": Kind(Float, float, Double()),
    "decimal": Kind(Numeric, Decimal, Numeric()),
    "integer": Kind(Integer, int, BigInteger()),
    "bytes": Kind(LargeBinary, bytes, LargeBinary()),
    "json": Kind(JSON, Any, JSON(none_as_null=True)),
    "text": Kind(String, str, Text()),
}


def _kind(column: Column[Any]) -> str:
    return next(name for name, kind in KINDS.items() if isinstance(column.type, kind.of))


class Shape(msgspec.Struct, frozen=True):
    """`columns`: the kind of each, by name. `key`: the columns of the primary key."""

    name: str
    columns: dict[str, str]
    key: tuple[str, ...]

    @classmethod
    def of(cls, table: Table) -> Shape:
        columns = {str(column.name): _kind(column) for column in table.columns}
        return cls(str(table.name), columns, tuple(str(column.name) for column in table.primary_key.columns))

    def table(self) -> Table:
        """To read and write rows of exactly these columns."""
        columns = (
            Column(name, KINDS[kind].column, primary_key=name in self.key, autoincrement=False)
            for name, kind in self.columns.items()
        )
        return Table(self.name, MetaData(), *columns)

    def row_type(self) -> type[msgspec.Struct]:
        """A row as JSON has it: times as RFC 3339, bytes as base64, decimals as text."""
        return msgspec.defstruct(
            "Row", [(name, KINDS[kind].value | None) for name, kind in self.columns.items()], forbid_unknown_fields=True
        )


class Totals(msgspec.Struct, frozen=True):
    """What two copies of a table must agree in. `sums`: of each column of whole numbers; 0 where there are none."""

    rows: int
    sums: dict[str, int]

    @classmethod
    def in_database(cls, connection: Connection, shape: Shape) -> Totals:
        table = shape.table()
        names = _summed(shape)
        asked = select(func.count(), *(func.sum(table.c[name]) for name in names)).select_from(table)
        counted, *sums = connection.execute(asked).one()
        return cls(counted, {name: int(value or 0) for name, value in zip(names, sums, strict=True)})

    @classmethod
    def of_rows(cls, shape: Shape, rows: Iterator[Row]) -> Totals:
        sums, counted = dict.fromkeys(_summed(shape), 0), 0
        for row in rows:
            counted += 1
            for name in sums:
                sums[name] += row[name] or 0
        return cls(counted, sums)

    def difference(self, other: Totals) -> str:
        """Where they differ, in words; '' if they agree."""
        if self.rows != other.rows:
            return f"{self.rows:,} rows became {other.rows:,}"
        wrong = [name for name in self.sums if self.sums[name] != other.sums.get(name)]
        return ", ".join(f"the sum of {name}: {self.sums[name]} became {other.sums.get(name)}" for name in wrong)


def _summed(shape: Shape) -> list[str]:
    return [name for name, kind in shape.columns.items() if kind == "integer"]


@dataclass(frozen=True, slots=True)
class TableCopy:
    """`rows()`: all of them, once."""

    shape: Shape
    totals: Totals
    rows: Callable[[], Iterator[Row]]


@dataclass(frozen=True, slots=True)
class Copy:
    """`revision`: what the tables were at. `tables`: those that others refer to come first."""

    revision: str
    tables: Sequence[TableCopy]

    @property
    def rows(self) -> int:
        return sum(table.totals.rows for table in self.tables)


class CopyError(Exception):
    """A copy that cannot be made or taken; the text says why and what to do."""
