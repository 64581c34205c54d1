"""Which database a DATABASE_URL names: SQLite or PostgreSQL, and a sentence with the remedy for anything else."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

_SQLITE = ("sqlite", "sqlite+pysqlite")
_POSTGRESQL = ("postgres", "postgresql", "postgresql+psycopg2")
_FORMS = "sqlite:///path/to/file.db or postgresql://user:password@host:5432/name"


class DatabaseUrlError(ValueError):
    """A DATABASE_URL that cannot be used; the text names it, says why and what to write, and holds no password."""


def parse_url(text: str) -> URL:
    """The URL that SQLAlchemy is given: 'sqlite:///<absolute path>' or 'postgresql+psycopg2://…'.

    `postgres://` and `postgresql://` mean the same; a relative SQLite path is taken from the working directory.
    Raises DatabaseUrlError.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # Without the cause: its text may quote a part of the URL that was meant as a password.
        raise DatabaseUrlError(f"DATABASE_URL is not a URL of the form {_FORMS}.") from None
    if url.drivername in _SQLITE:
        return url.set(drivername="sqlite", database=str(_sqlite_path(url)))
    if url.drivername in _POSTGRESQL:
        if "@" in (url.host or ""):  # what stands before it is a part of the password, and hosts are printed
            raise DatabaseUrlError("DATABASE_URL has an '@' in its user name or password: write %40 for it.")
        return url.set(drivername="postgresql+psycopg2")
    raise DatabaseUrlError(f"DATABASE_URL begins with '{url.drivername}://', which is not supported. Write {_FORMS}.")


def _sqlite_path(url: URL) -> Path:
    if url.host:
        raise DatabaseUrlError("DATABASE_URL lacks a slash: write sqlite:///file.db, or sqlite:////absolute/file.db.")
    if not url.database or url.database.startswith((":memory:", "file:")):
        raise DatabaseUrlError("DATABASE_URL names no file, but several processes share it: write sqlite:///file.db.")
    path = Path(url.database).expanduser().absolute()
    if path.is_dir():
        raise DatabaseUrlError(f"DATABASE_URL names the directory {path}: name a file in it.")
    if not path.parent.is_dir():
        raise DatabaseUrlError(
            f"The directory of the database {path} does not exist: start in Token Tracker's directory, or make the one "
            "that DATABASE_URL names."
        )
    return path


def create_private(path: Path) -> None:
    """Make an empty file with mode 0600 unless there is one, which is left untouched.

    An existing database must not even be opened here: closing any descriptor of it would drop the locks that SQLite
    holds on it in this process.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
