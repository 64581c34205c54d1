"""Engines and sessions for SQLite and PostgreSQL, and the only commit of the product."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, update
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.orm import ORMExecuteState, Session, UOWTransaction
from sqlalchemy.pool import ConnectionPoolEntry

from token_tracker.database import deadlines
from token_tracker.database.address import DatabaseUrlError, create_private, parse_url
from token_tracker.database.models import (
    ApiKey,
    Budget,
    BudgetTopUp,
    ConfigVersion,
    Freeze,
    PriceRow,
    ProviderCredential,
    RateLimit,
    Team,
    UnprovenRelease,
    User,
)

__all__ = ["DatabaseUrlError", "make_engine", "reading", "transaction"]

# Tables that gateways live from.
PUBLISHED = (
    ApiKey,
    User,
    Team,
    ProviderCredential,
    PriceRow,
    RateLimit,
    Budget,
    BudgetTopUp,
    Freeze,
    UnprovenRelease,
)
_CHANGED = "published table changed"
_FILE = "SQLite file"
_WRITE = {"sqlite_begin": "IMMEDIATE"}
# A reader sees one state of the database from its first statement to its last, as on SQLite in WAL mode.
_READ: dict[str, dict[str, Any]] = {
    "postgresql": {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True, "is_reading": True},
    "sqlite": {"is_reading": True},
}
_CONNECT_TIMEOUT_S = 3
# Values of a statement may be hashes or names: an error's text goes to logs without them.
_COMMON: dict[str, Any] = {"pool_timeout": 10, "hide_parameters": True}


def make_engine(url: str, *, lock_wait_ms: int = 5_000, statement_timeout_ms: int = 30_000) -> Engine:
    """An engine for a DATABASE_URL (forms: `address.parse_url`); nothing is opened before it is used.

    `lock_wait_ms`: how long a statement waits for another's lock before it fails with OperationalError.
    `statement_timeout_ms`: the longest that PostgreSQL works on one statement, 0 without bound (SQLite has no such
    clock). A PostgreSQL URL that brings `options` of its own keeps them instead of ours.
    Raises DatabaseUrlError.
    """
    parsed = parse_url(url)
    if parsed.drivername == "sqlite":
        engine = create_engine(parsed, connect_args={"timeout": lock_wait_ms / 1000}, **_COMMON)
        _prepare_sqlite(engine, Path(parsed.database or ""), lock_wait_ms)
        deadlines.watch(engine)
        return engine
    options = {
        "lock_timeout": lock_wait_ms,
        "statement_timeout": statement_timeout_ms,
        "idle_in_transaction_session_timeout": 60_000,
        "timezone": "UTC",
    }
    arguments: dict[str, Any] = {
        "connect_timeout": _CONNECT_TIMEOUT_S,
        "application_name": "token-tracker",
        "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
        # A server that vanished without a word is noticed within about 10 s instead of hours.
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    }
    arguments = {name: value for name, value in arguments.items() if name not in parsed.query}
    engine = create_engine(parsed, connect_args=arguments, pool_pre_ping=True, **_COMMON)
    deadlines.watch(engine)
    return engine


def _prepare_sqlite(engine: Engine, path: Path, lock_wait_ms: int) -> None:
    """Private file, WAL, foreign keys, and transactions that we begin ourselves.

    A file that was replaced or deleted (a restored backup, say) is noticed before each use: what the recorder wrote
    into the old one would be gone without a word, and the journal with it.
    `synchronous` is FULL: the recorder deletes a journal segment once its rows are committed, so a commit must
    outlive a power cut. One flush a batch is cheap.
    """

    @event.listens_for(engine, "do_connect")
    def make_file(*_: object) -> None:
        create_private(path)

    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # the driver's own idea of when a transaction begins is switched off
        _switch_to_wal(connection, lock_wait_ms)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        record.info[_FILE] = _identity(path)

    @event.listens_for(engine, "checkout")
    def check_file(_connection: object, record: ConnectionPoolEntry, _proxy: object) -> None:
        if record.info[_FILE] != _identity(path):
            raise DisconnectionError(f"{path} was replaced")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('sqlite_begin', 'DEFERRED')}")


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file the path names now; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _switch_to_wal(connection: sqlite3.Connection, lock_wait_ms: int) -> None:
    """WAL mode stays with the file; while two processes switch a new file at once, SQLite does not wait by itself."""
    give_up = time.monotonic() + lock_wait_ms / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up:
                raise
            time.sleep(0.01)


class _TrackedSession(Session):
    """Notices a change of a published table, by flush or by a statement."""


@event.listens_for(_TrackedSession, "after_flush")
def _notice_flush(session: Session, _: UOWTransaction) -> None:
    changed = [*session.new, *session.deleted, *(row for row in session.dirty if session.is_modified(row))]
    if any(isinstance(row, PUBLISHED) for row in changed):
        session.info[_CHANGED] = True


@event.listens_for(_TrackedSession, "do_orm_execute")
def _notice_statement(state: ORMExecuteState) -> None:
    writes = state.is_insert or state.is_update or state.is_delete
    if writes and state.bind_mapper is not None and issubclass(state.bind_mapper.class_, PUBLISHED):
        state.session.info[_CHANGED] = True


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """A writing transaction: committed at the end, rolled back on any exception.

    On SQLite it holds the write lock from its beginning, so nothing read in it can be stale. `config_version` grows
    in the same transaction when a published table changed. Rows stay readable after the commit.
    """
    with _TrackedSession(engine.execution_options(**_WRITE), expire_on_commit=False) as session:
        yield session
        session.flush()
        if session.info.get(_CHANGED):
            session.execute(update(ConfigVersion).values(version=ConfigVersion.version + 1))
        session.commit()


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """A session that sees one state of the database throughout, and never writes; what it leaves is rolled back."""
    options = _READ[engine.dialect.name]
    with Session(engine.execution_options(**options), autoflush=False, expire_on_commit=False) as session:
        yield session
