"""`python -m token_tracker.healthcheck gateway|api|dashboard|worker`: does it do its work? For containers and monitors.

Exit codes: 0 it does, 1 it does not (why, on stderr), 2 the settings cannot be used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy.exc import DBAPIError

from token_tracker.config.load import ConfigurationError, load_settings
from token_tracker.config.values import Settings
from token_tracker.database.session import make_engine, reading
from token_tracker.services import leases
from token_tracker.supervisor.ports import answers

_PATHS = {"gateway": "/health/ready", "api": "/api/health", "dashboard": "/login"}
_LOCK_WAIT_MS = 2_000


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m token_tracker.healthcheck", description=__doc__)
    parser.add_argument("what", choices=[*_PATHS, "worker"])
    what = parser.parse_args(arguments).what
    try:
        settings = load_settings()
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2
    problem = _worker(settings) if what == "worker" else _server(settings, what)
    if problem:
        print(problem, file=sys.stderr)
    return 1 if problem else 0


def _server(settings: Settings, what: str) -> str:
    address = {"gateway": settings.proxy, "api": settings.api, "dashboard": settings.dashboard}[what]
    return "" if answers(address, _PATHS[what]) else f"{address.url}{_PATHS[what]} does not answer with 200."


def _worker(settings: Settings) -> str:
    """Of several workers one holds the lease and works; the others are well as long as it does."""
    engine = make_engine(settings.database_url.value, lock_wait_ms=_LOCK_WAIT_MS)
    try:
        with reading(engine) as session:
            held = leases.is_held(session, name=leases.WORKER, at=datetime.now(UTC))
    except DBAPIError:
        return "The database does not answer, so no worker can work."
    finally:
        engine.dispose()
    return "" if held else "No worker is at work."


if __name__ == "__main__":
    sys.exit(main())
