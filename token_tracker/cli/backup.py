"""`backup`, `restore`, `migrate`: one copy of all tables, into a file, out of it, or straight into another database."""

from __future__ import annotations

import fcntl
import os
from dataclasses import replace
from pathlib import Path

import click
from sqlalchemy import select
from sqlalchemy.orm import Session

from token_tracker import __version__
from token_tracker.cli.checks.processes import WORKER
from token_tracker.cli.context import actor, books, engine_of, keyring, now, progress_bar, say
from token_tracker.config import paths
from token_tracker.config.load import load_settings
from token_tracker.config.values import Secret, Settings
from token_tracker.database.address import parse_url
from token_tracker.database.copies import archive, source, target
from token_tracker.database.copies.shapes import CopyError
from token_tracker.database.models import Lease
from token_tracker.database.session import reading, transaction
from token_tracker.services import audit, provider_credentials


@click.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
def backup(file: Path | None) -> None:
    """Write the whole database into one FILE, while everything runs.

    SQLite and PostgreSQL alike; either can be restored into either. The file is read in one transaction, so it is the
    books at one moment. It holds password hashes and hashes of keys: keep it where the database would be kept.
    """
    at = now()
    path = file or Path(f"token-tracker-{at:%Y%m%dT%H%M%SZ}.zip")
    with books(statement_timeout_ms=0) as engine, reading(engine) as session:
        copy = source.read(session)
        with progress_bar("Backing up", copy.rows) as progress:
            archive.write(path, copy, version=__version__, database=engine.dialect.name, at=at, progress=progress)
    click.echo(f"{path}: {copy.rows:,} rows of {len(copy.tables)} tables, {path.stat().st_size:,} bytes.")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--check", is_flag=True, help="Only read the file and compare it with what it says of itself.")
def restore(file: Path, check: bool) -> None:
    """Put a backup FILE into the empty database of DATABASE_URL.

    All of it or nothing: counts and sums of what arrived are compared with the file's. A database with tables of Token
    Tracker is refused. A backup of an older version is brought up to date.
    """
    with archive.opened(file) as (manifest, copy):
        if check:
            with progress_bar("Checking", copy.rows) as progress:
                archive.check(copy, progress)
            click.echo(
                f"{file} is whole: {copy.rows:,} rows of {len(copy.tables)} tables, made {manifest.made_at:%F %T} UTC."
            )
            return
        settings = load_settings()
        _check_idle(settings)
        paths.prepare_data_dir(settings)
        with engine_of(settings.database_url.value, statement_timeout_ms=0) as engine, transaction(engine) as session:
            with progress_bar("Restoring", copy.rows) as progress:
                target.fill(session, copy, progress)
            _note(session, "installation.restore", {"file": file.name, "made_at": manifest.made_at.isoformat()})
            sealed = _sealed(session, settings)
    click.echo(f"{copy.rows:,} rows of {len(copy.tables)} tables, counts and sums as in the file.")
    _tell_sealed(sealed)
    waiting = sum(1 for _ in paths.journal_dir(settings).glob("*/*-*"))
    if waiting:
        say(f"The journal has {waiting} segments: at the next start, their calls that the backup lacks are booked.")


@click.command()
@click.argument("to", envvar="TARGET_DATABASE_URL", metavar="URL")
def migrate(to: str) -> None:
    """Copy the database of DATABASE_URL into the empty one at URL.

    From SQLite to PostgreSQL, or the other way. Stop everything first; the old database stays as it is. Counts and sums
    of every table are compared before anything is committed. URL may come from TARGET_DATABASE_URL instead.
    """
    settings = load_settings()
    shown = parse_url(to)
    if shown == parse_url(settings.database_url.value):
        raise click.UsageError("URL is the database that DATABASE_URL names already.")
    _check_idle(settings)
    with (
        books(settings, statement_timeout_ms=0) as old,
        reading(old) as session,
        engine_of(to, statement_timeout_ms=0) as new,
        transaction(new) as filled,
    ):
        _check_unused(session)
        copy = source.read(session)
        with progress_bar("Migrating", copy.rows) as progress:
            target.fill(filled, copy, progress)
        _note(filled, "installation.migrate", {"from": old.dialect.name, "to": new.dialect.name})
        sealed = _sealed(filled, replace(settings, database_url=Secret(to)))
    click.echo(f"{copy.rows:,} rows of {len(copy.tables)} tables, counts and sums equal in both databases.")
    say(f"Now set DATABASE_URL to {shown.render_as_string(hide_password=True)}, and start.")
    say("Keep the data directory: calls that are in its journal and not in the ledger are booked then.")
    _tell_sealed(sealed)


def _sealed(session: Session, settings: Settings) -> list[str]:
    """Names of providers' keys that cannot be decrypted with these settings."""
    return sorted(name for name, key in provider_credentials.opened(session, keyring(settings)).items() if key is None)


def _tell_sealed(names: list[str]) -> None:
    if names:
        say(f"Nothing at hand decrypts these providers' keys: {', '.join(names)}. They were encrypted under another")
        say("TOKEN_TRACKER_ENCRYPTION_KEY, or the text in data/encryption_key: set it.")


def _check_unused(session: Session) -> None:
    """Wherever the worker runs, it says in the database that it does. Raises CopyError."""
    holder = session.scalar(select(Lease.holder).where(Lease.name == WORKER, Lease.expires_at > now()))
    if holder is not None:
        raise CopyError(
            f"Token Tracker is running: a worker ({holder}) is at work on this database. Nothing was changed. Stop "
            "everything (Ctrl-C), wait for 15 s where something was killed, then try again."
        )


def _note(session: Session, action: str, said: dict[str, str]) -> None:
    audit.record(session, actor(), action, "", at=now(), after=said)


def _check_idle(settings: Settings) -> None:
    """A recorder that books into the old database meanwhile would book what the new one lacks. Raises CopyError."""
    lock = settings.data_dir / "recorder.lock"
    if not lock.exists():
        return
    descriptor = os.open(lock, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CopyError(
            f"Token Tracker is running on {settings.data_dir}. Nothing was changed. Stop everything (Ctrl-C), then try "
            "again."
        ) from None
    finally:
        os.close(descriptor)
