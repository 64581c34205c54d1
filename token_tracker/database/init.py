"""`python -m token_tracker.database.init`: create or migrate the database and lay what an installation begins with.

A command, not a part of the room: it is the one module here that may call services.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from token_tracker.config.load import load
from token_tracker.config.paths import prepare_data_dir
from token_tracker.config.problems import ConfigurationError
from token_tracker.config.values import Configuration
from token_tracker.database import migrations
from token_tracker.database.address import DatabaseUrlError, parse_url
from token_tracker.database.session import make_engine, transaction
from token_tracker.domain.problems import Invalid
from token_tracker.services import configuration as configured
from token_tracker.services import first_start, prices

EXIT_CONFIGURATION, EXIT_DATABASE, EXIT_INTERRUPTED = 2, 3, 130
_LOCK_WAIT_MS = 30_000  # another process may be preparing the same database


@dataclass(frozen=True, slots=True)
class Outcome:
    """`created`: the tables were laid just now. Secrets are those made just now, else None."""

    created: bool
    admin_password: str | None
    first_key: str | None
    warnings: tuple[str, ...]


def prepare(engine: Engine, configuration: Configuration, *, at: datetime, reset_admin: bool = False) -> Outcome:
    """Everything in one transaction: what is killed half-way never happened, and of two at once one waits.

    Raises DatabaseTooNewError, Invalid (the admin's password) and SQLAlchemy's errors.
    """
    password = configuration.settings.admin_password
    with transaction(engine) as session:
        migrations.take_turn(session.connection())
        created = migrations.upgrade(session.connection())
        begun = first_start.begin(session, admin_password=password, at=at)
        new_password = begun.admin_password if begun else None
        if reset_admin and begun is None:
            new_password = first_start.reset_admin(session, admin_password=password, at=at)
        prices.import_file(session, at=at)
        warnings = configured.apply(session, configuration, at)
    return Outcome(created, new_password, begun.first_key if begun else None, (*configuration.warnings, *warnings))


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 2: the configuration cannot be used, 3: the database cannot, 130: Ctrl-C; why is said on stderr."""
    options = _parse(arguments)
    try:
        configuration = load()
        prepare_data_dir(configuration.settings)
        outcome = _prepare(configuration, options.reset_admin_password)
    except ConfigurationError as error:
        return _fail(EXIT_CONFIGURATION, *error.problems)
    except (DatabaseUrlError, Invalid) as error:
        return _fail(EXIT_CONFIGURATION, str(error))
    except migrations.DatabaseTooNewError as error:
        return _fail(EXIT_DATABASE, str(error))
    except DBAPIError as error:
        return _fail(EXIT_DATABASE, _explained(configuration, error))
    except KeyboardInterrupt:
        return _fail(EXIT_INTERRUPTED, "Ended by Ctrl-C; the database was not changed.")
    print(_as_json(outcome) if options.json else _as_text(outcome, options.reset_admin_password))
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m token_tracker.database.init",
        description="Create or migrate the database named by DATABASE_URL. Safe to repeat; secrets are shown once.",
    )
    parser.add_argument("--json", action="store_true", help="answer with one line of JSON")
    parser.add_argument(
        "--reset-admin-password",
        action="store_true",
        help="give 'admin' the password in TOKEN_TRACKER_ADMIN_PASSWORD, or a generated one that is printed",
    )
    return parser.parse_args(arguments)


def _prepare(configuration: Configuration, reset_admin: bool) -> Outcome:
    # No bound on a single statement: a migration of a large ledger takes its time.
    url = configuration.settings.database_url.value
    engine = make_engine(url, lock_wait_ms=_LOCK_WAIT_MS, statement_timeout_ms=0)
    try:
        return prepare(engine, configuration, at=datetime.now(UTC), reset_admin=reset_admin)
    finally:
        engine.dispose()


def _explained(configuration: Configuration, error: DBAPIError) -> str:
    """What the database said, in one line, beside its address without the password."""
    address = parse_url(configuration.settings.database_url.value).render_as_string(hide_password=True)
    said = " ".join(str(error.orig).split()).rstrip(".")
    return (
        f"The database at {address} could not be used: {said}. Nothing was changed. "
        "Make it reachable, or correct DATABASE_URL, and try again."
    )


def _fail(code: int, *problems: str) -> int:
    for problem in problems:
        print(problem, file=sys.stderr)
    return code


def _as_json(outcome: Outcome) -> str:
    return json.dumps(asdict(outcome))


def _as_text(outcome: Outcome, was_reset: bool) -> str:
    lines = ["The database was created." if outcome.created else "The database is up to date."]
    if outcome.admin_password is not None:
        lines.append(f"Login: admin   password: {outcome.admin_password}   (shown this once)")
    elif was_reset or outcome.first_key is not None:
        lines.append("Login: admin   password: the one in TOKEN_TRACKER_ADMIN_PASSWORD")
    if outcome.first_key is not None:
        lines.append(f"Virtual key '{first_start.FIRST_KEY_NAME}': {outcome.first_key}   (shown this once)")
    return "\n".join([*lines, *(f"Warning: {warning}" for warning in outcome.warnings)])


if __name__ == "__main__":
    sys.exit(main())
