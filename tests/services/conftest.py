"""A fixed time and a few accounts, for tests of use cases."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from token_tracker.database.models import Team, User
from token_tracker.database.session import transaction

AT = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)


@pytest.fixture
def at() -> datetime:
    return AT


@pytest.fixture
def people(engine: Engine) -> Engine:
    """`engine` with the team 'red' (ann, bob), the loner cid, and eve, whose account is disabled."""
    with transaction(engine) as session:
        session.add(Team(id="red", name="Red", created_at=AT))
        session.flush()
        for name, team, disabled_at in (
            ("ann", "red", None),
            ("bob", "red", None),
            ("cid", None, None),
            ("eve", None, AT),
        ):
            row = User(id=name, password_hash="", role="member", team_id=team, created_at=AT, disabled_at=disabled_at)
            session.add(row)
    return engine
