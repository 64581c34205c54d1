"""A copy as one file: a ZIP archive of a manifest and, for each table, JSON lines."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO

import msgspec

from token_tracker.database.copies.shapes import Copy, CopyError, Row, Shape, TableCopy, Totals

FORMAT = 1
_MANIFEST = "manifest.json"
_LEVEL = 6
_ROWS_AT_ONCE = 1000
_encode = msgspec.json.Encoder().encode


class _Table(msgspec.Struct, frozen=True):
    shape: Shape
    totals: Totals


class Manifest(msgspec.Struct, frozen=True):
    """`version` of the product that wrote it, `revision` of the tables; `database`: 'sqlite' or 'postgresql'."""

    format: int
    version: str
    made_at: datetime
    revision: str
    database: str
    tables: list[_Table]


def write(
    path: Path,
    copy: Copy,
    *,
    version: str,
    database: str,
    at: datetime,
    progress: Callable[[int], object] = lambda rows: None,
) -> None:
    """A file that only its owner may read, there whole or not at all. Raises OSError, FileExistsError, CopyError."""
    if path.exists():
        raise FileExistsError(17, "there is such a file already", str(path))
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    tables = [_Table(table.shape, table.totals) for table in copy.tables]
    manifest = Manifest(FORMAT, version, at, copy.revision, database, tables)
    try:
        with os.fdopen(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
                archive.writestr(_MANIFEST, msgspec.json.format(_encode(manifest), indent=2))
                for table in copy.tables:
                    with archive.open(_member(table.shape), "w", force_zip64=True) as member:
                        _write_rows(member, table, progress)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write_rows(member: IO[bytes], table: TableCopy, progress: Callable[[int], object]) -> None:
    rows, written = table.rows(), 0
    while batch := list(islice(rows, _ROWS_AT_ONCE)):
        member.write(b"".join(_encode(row) + b"\n" for row in batch))
        written += len(batch)
        progress(len(batch))
    if written != table.totals.rows:
        raise CopyError(f"{table.shape.name} has {table.totals.rows} rows, but {written} could be read.")


@contextmanager
def opened(path: Path) -> Iterator[tuple[Manifest, Copy]]:
    """What the file holds, to be read while it is open. Raises CopyError, also from `rows()`; OSError."""
    with _readable(path):
        archive = zipfile.ZipFile(path)
    with archive:
        with _readable(path):
            manifest = msgspec.json.decode(archive.read(_MANIFEST), type=Manifest)
        if manifest.format != FORMAT:
            raise CopyError(f"{path} has the format {manifest.format}; this version reads {FORMAT}.")
        tables = [
            TableCopy(table.shape, table.totals, partial(_rows, path, archive, table.shape))
            for table in manifest.tables
        ]
        yield manifest, Copy(manifest.revision, tables)


def _rows(path: Path, archive: zipfile.ZipFile, shape: Shape) -> Iterator[Row]:
    decode = msgspec.json.Decoder(shape.row_type()).decode
    with _readable(path), archive.open(_member(shape)) as lines:
        for line in lines:
            yield msgspec.structs.asdict(decode(line))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """The archive's checksums, its end and its types tell of a file that was cut or changed."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError, msgspec.MsgspecError) as error:
        raise CopyError(f"{path} is not a whole backup of Token Tracker: {error}.") from None


def check(copy: Copy, progress: Callable[[int], object] = lambda rows: None) -> None:
    """Read everything and compare it with what the manifest says. Raises CopyError."""
    for table in copy.tables:
        if difference := table.totals.difference(Totals.of_rows(table.shape, _told(table.rows(), progress))):
            raise CopyError(f"The file's {table.shape.name} is not what it says of itself: {difference}.")


def _told(rows: Iterator[Row], progress: Callable[[int], object]) -> Iterator[Row]:
    for row in rows:
        progress(1)
        yield row


def _member(shape: Shape) -> str:
    return f"tables/{shape.name}.jsonl"
