"""Commands as they are typed, in this process, on a database of the test's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine, select

from token_tracker.cli.app import Commands
from token_tracker.config.values import Secret
from token_tracker.database.models import AuditEntry
from token_tracker.database.session import reading, transaction
from token_tracker.services import first_start


class Terminal(NamedTuple):
    """`typed` runs a command and gives what it said; `must` has it succeed and gives its stdout; `log` is what the
    audit log says: action, actor, before, after."""

    typed: Callable[..., Result]
    engine: Engine

    def must(self, *words: str, stdin: str = "") -> str:
        said = self.typed(*words, stdin=stdin)
        assert said.exit_code == 0, (said.output, said.exception)
        return said.stdout

    def json(self, *words: str, stdin: str = "") -> Any:
        return json.loads(self.must(*words, "--json", stdin=stdin))

    def log(self) -> list[tuple[str, str, dict[str, Any] | None, dict[str, Any] | None]]:
        with reading(self.engine) as session:
            rows = session.scalars(select(AuditEntry).where(AuditEntry.actor == "command line").order_by(AuditEntry.id))
            return [(row.action, row.actor, row.before, row.after) for row in rows]


@pytest.fixture
def terminal(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    with transaction(engine) as session:
        first_start.begin(session, admin_password=Secret("the admin's password"), at=datetime.now(UTC))
    monkeypatch.chdir(tmp_path)
    environ = {
        "DATABASE_URL": engine.url.render_as_string(hide_password=False),
        "TOKEN_TRACKER_DATA_DIR": str(tmp_path / "data"),
        "TOKEN_TRACKER_ENCRYPTION_KEY": "NzY1NDMyMTA3NjU0MzIxMDc2NTQzMjEwNzY1NDMyMTA=",
        "SMTP_SERVER": "",
        "TOKEN_TRACKER_CONFIG": "",
    }

    def typed(*words: str, stdin: str = "") -> Result:
        commands: click.Group = Commands({})
        return CliRunner(env=environ).invoke(commands, words, input=stdin, prog_name="token-tracker")

    return Terminal(typed, engine)
