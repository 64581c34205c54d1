"""Who owns which stored object, as a local file that gateways look into: kept on disk, so that memory stays bounded.

A cache in SQLite's format and no part of the ledger: the gateway writes what it makes itself, the recorder what the
journal and the other nodes know. Deleted by hand, it is filled again from `provider_objects`.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from token_tracker.config import paths
from token_tracker.config.values import Settings
from token_tracker.proxy.books.records import Stored

BUSY_S = 2.0
SYNCED_TO = "synced_to_us"  # a fact: up to when the index knows what the database knows; 0: it does not
_COLUMNS = Stored.__struct_fields__
_FLAGS = ("metered_by", "is_deleted")  # what later records add
_TABLES = f"""
CREATE TABLE IF NOT EXISTS objects ({", ".join(_COLUMNS)}, PRIMARY KEY (kind, id, account)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name PRIMARY KEY, value) WITHOUT ROWID;
"""
_PUT = f"""
INSERT INTO objects ({", ".join(_COLUMNS)}) VALUES ({", ".join("?" for _ in _COLUMNS)})
ON CONFLICT DO UPDATE SET {", ".join(f"{name} = max({name}, excluded.{name})" for name in _FLAGS)}
WHERE {" OR ".join(f"excluded.{name} > {name}" for name in _FLAGS)}
"""  # noqa: S608 (names of our own)
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM objects WHERE kind = ? AND id = ? AND NOT is_deleted"  # noqa: S608


def index_path(settings: Settings) -> Path:
    return paths.snapshot_path(settings).with_name("objects.db")


class ObjectIndex:
    """One process's view of the file. Any thread may call; each call takes some 50 µs, seconds at worst while another
    process writes. All raise sqlite3.Error where the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def put(self, records: Iterable[Stored]) -> None:
        """Add what is new, and what later records say of it. In any order, any number of times."""
        rows = [msgspec.structs.astuple(record) for record in records]
        with self._lock:
            connection = self._open()
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(_PUT, rows)

    def find(self, kind: str, identity: str) -> list[Stored]:
        """All live objects of that id: at most one, unless two providers make equal ids."""
        with self._lock:
            rows = self._open().execute(_SELECT, (kind, identity)).fetchall()
        return [_stored(row) for row in rows]

    def owned(self, kind: str, identities: Sequence[str], owner: str, account: str) -> set[str]:
        """Those of `identities` that are live objects of `owner` in `account`."""
        with self._lock:
            connection = self._open()
            found = (row for each in identities for row in connection.execute(_SELECT, (kind, each)))
            objects = [_stored(row) for row in found]
        return {each.id for each in objects if each.owner == owner and each.account == account}

    def claim(self, stored: Stored, call_id: str) -> bool:
        """Whether `call_id` is the one call that books the usage of a background response."""
        key = (stored.kind, stored.id, stored.account)
        with self._lock:
            connection = self._open()
            claimed = connection.execute(
                "UPDATE objects SET metered_by = ? WHERE kind = ? AND id = ? AND account = ? AND metered_by = ''",
                (call_id, *key),
            )
            return claimed.rowcount == 1

    def fact(self, name: str) -> int:
        """A number that the recorder left; 0 for none."""
        with self._lock:
            row = self._open().execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else 0

    def note(self, name: str, value: int) -> None:
        with self._lock:
            self._open().execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", (name, value))

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.touch(mode=0o600)
            connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                # A commit survives the death of the process; what a power cut takes comes again from the database.
                connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;" + _TABLES)
            except sqlite3.Error:
                connection.close()
                raise
            self._connection = connection
        return self._connection


def _stored(row: Sequence[object]) -> Stored:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["is_background"], values["is_deleted"] = bool(values["is_background"]), bool(values["is_deleted"])
    return Stored(**values)  # type: ignore[arg-type]  # the columns are the fields
