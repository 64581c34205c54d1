"""What commands work with: the database with the tables of this version, the time, and who asks."""

from __future__ import annotations

import getpass
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
from sqlalchemy import Engine

from token_tracker.cli.problems import Unusable
from token_tracker.config import paths
from token_tracker.config.encryption import Keyring
from token_tracker.config.load import load_settings
from token_tracker.config.values import Settings
from token_tracker.database import migrations
from token_tracker.database.address import parse_url
from token_tracker.database.session import make_engine
from token_tracker.services.audit import Actor

COMMAND_LINE = "command line"  # no user's id: it has a space


@contextmanager
def books(settings: Settings | None = None, *, statement_timeout_ms: int = 30_000) -> Iterator[Engine]:
    """The database of the settings, by default as they stand now.

    Raises ConfigurationError, DatabaseUrlError, Unusable.
    """
    url = (settings or load_settings()).database_url.value
    parsed = parse_url(url)
    if parsed.drivername == "sqlite" and not Path(parsed.database or "").exists():
        raise Unusable(f"{parsed.database} does not exist yet: type 'token-tracker init', or correct DATABASE_URL.")
    with engine_of(url, statement_timeout_ms=statement_timeout_ms) as engine:
        with engine.connect() as connection:
            revision = migrations.current_revision(connection)
        if revision != migrations.HEAD:
            raise Unusable(
                f"The tables are at revision {revision or 'none'}, this version needs {migrations.HEAD}: type "
                "'token-tracker init' (after a backup with the version that used them last), or correct DATABASE_URL."
            )
        yield engine


@contextmanager
def engine_of(url: str, *, statement_timeout_ms: int = 30_000) -> Iterator[Engine]:
    """0: no bound, for work that may take long."""
    engine = make_engine(url, statement_timeout_ms=statement_timeout_ms)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def interruptible_after() -> Iterator[None]:
    """Ctrl-C takes effect at the end of this block: amid a call of the database's it would come out as its error."""
    pressed = False

    def note(*_: object) -> None:
        nonlocal pressed
        pressed = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def keyring(settings: Settings) -> Keyring:
    """What decrypts providers' keys, as it stands: none is made. Raises ConfigurationError."""
    is_there = settings.encryption_keys or (settings.data_dir / "encryption_key").exists()
    return Keyring(paths.encryption_keys(settings) if is_there else ())


def now() -> datetime:
    return datetime.now(UTC)


def secret(asked: str) -> str:
    """A line of stdin, asked for without an echo where somebody types: what stands among the words of a command can be
    read by all on the machine."""
    if sys.stdin.isatty():
        typed: str = click.prompt(asked, hide_input=True, err=True)
        return typed
    return sys.stdin.readline().rstrip("\r\n")


def say_if_no_mail() -> None:
    """To be called where somebody is to be told by mail."""
    if not load_settings().mail.server:
        say("No mail goes out: SMTP_SERVER is not set. Set it for the worker; 'token-tracker doctor' tries it.")


def actor() -> Actor:
    """As the audit log names it; the address is the account on this machine."""
    try:
        account = getpass.getuser()
    except (OSError, KeyError):  # an id without a name, as in containers
        account = "?"
    return Actor(COMMAND_LINE, address=f"{account}@{socket.gethostname()}")


@contextmanager
def progress_bar(label: str, length: int) -> Iterator[Callable[[int], object]]:
    """To be told how much more is done; a bar on stderr, where somebody looks at it."""
    if not sys.stderr.isatty():
        yield lambda more: None
        return
    with click.progressbar(length=max(1, length), label=label, file=sys.stderr) as bar:
        yield bar.update


def say(text: str) -> None:
    """For people, beside the answer."""
    click.echo(text, err=True)
