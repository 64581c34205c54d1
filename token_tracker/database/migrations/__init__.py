"""Brings a database to the tables of this version, inside the caller's transaction.

A new revision: change the models, write `versions/rNNNN_….py` after the pattern of the last one, and set `HEAD`; the
tests compare the result with the models on both databases.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, text

HEAD = "0012"  # the newest revision; known without loading Alembic, which takes longer than the rest of a start
_VERSION_TABLE = "alembic_version"
_LOCK = 0x74745F696E6974  # 'tt_init': PostgreSQL's advisory lock of all who prepare this database


class DatabaseTooNewError(RuntimeError):
    """The database was prepared by a newer version; nothing was changed in it."""

    def __init__(self, revision: str) -> None:
        super().__init__(
            f"The database is at revision {revision}, which this version of Token Tracker does not know: a newer "
            "version has used it. Nothing was changed. Upgrade Token Tracker, or restore a backup of the database."
        )


def take_turn(connection: Connection) -> None:
    """Wait until nobody else prepares this database; held until the transaction ends.

    On SQLite the writing transaction itself is the lock.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})


def current_revision(connection: Connection) -> str | None:
    """The revision the database is at; None for one without our tables."""
    if not inspect(connection).has_table(_VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalar()  # noqa: S608 (a constant)


def upgrade(connection: Connection, to: str = HEAD) -> bool:
    """Make or migrate all tables; whether there were none before. Raises DatabaseTooNewError.

    Call `take_turn` first. It all happens in the caller's transaction: done by half is not possible.
    """
    revision = current_revision(connection)
    if revision != to:
        _run_alembic(connection, revision, to)
    return revision is None


def is_known(revision: str) -> bool:
    """Whether this version has been at the revision, or is."""
    from alembic.script import ScriptDirectory

    return revision in {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _run_alembic(connection: Connection, revision: str | None, to: str) -> None:
    from alembic import command

    if revision is not None and not is_known(revision):
        raise DatabaseTooNewError(revision)
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def _config() -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config
