"""Bounds what reading transactions of an engine may take in all, on SQLite and PostgreSQL."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

_OPTION, _DEADLINE, _TOLD = "read_within_s", "deadline", "told"
_SQLITE_STEPS = 20_000  # of its machine between two looks at the clock: below a millisecond
_TELL_AGAIN_S = 0.1  # PostgreSQL's clock is set anew where so much of the time is gone
_POSTGRESQL_CANCELED = "57014"


class TooSlow(SQLAlchemyError):
    """A reading transaction took longer than it may."""


def within(engine: Engine, seconds: float | None) -> Engine:
    """The same engine, whose reading transactions (`session.reading`) fail `seconds` after their beginning with an
    error of which `was_too_slow` is true; None: without that bound. The engine is one of `session.make_engine`."""
    return engine.execution_options(**{_OPTION: seconds})


def was_too_slow(error: SQLAlchemyError) -> bool:
    """Whether a statement was ended because it took too long."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, TooSlow)
    return str(error.orig) == "interrupted" or getattr(error.orig, "pgcode", None) == _POSTGRESQL_CANCELED


def check(session: Session) -> None:
    """Raises TooSlow where the time is over: for whoever reads many rows and works on each."""
    deadline = session.connection().info.get(_DEADLINE)
    if deadline is not None and time.monotonic() > deadline:
        raise TooSlow("the time that reading may take is over")


def watch(engine: Engine) -> None:
    """Make `within` work for an engine."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "begin", _watch_sqlite)
    else:
        event.listen(engine, "begin", _set_deadline)
        event.listen(engine, "before_cursor_execute", _tell_postgresql)


def _watch_sqlite(connection: Connection) -> None:
    deadline = _set_deadline(connection)
    raw: Any = connection.connection.driver_connection
    raw.set_progress_handler(None if deadline is None else lambda: time.monotonic() > deadline, _SQLITE_STEPS)


def _set_deadline(connection: Connection) -> float | None:
    options = connection.get_execution_options()
    seconds = options.get(_OPTION) if options.get("is_reading") else None
    deadline = None if seconds is None else time.monotonic() + seconds
    connection.info[_DEADLINE], connection.info[_TOLD] = deadline, None
    return deadline


def _tell_postgresql(connection: Connection, *_: object) -> None:
    """Each statement gets what is left of the time."""
    deadline, told = connection.info.get(_DEADLINE), connection.info.get(_TOLD)
    now = time.monotonic()
    if deadline is None or (told is not None and now - told < _TELL_AGAIN_S):
        return
    connection.info[_TOLD] = now
    left_ms = max(1, int((deadline - now) * 1000))
    cursor = connection.connection.cursor()
    cursor.execute(f"SET LOCAL statement_timeout = {left_ms}")
    cursor.close()
