"""The panel of alerts: what fires, and which rules reach nobody, for those who may read it."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from tests.services.ledger_rows import NOON
from tests.services.test_budget_alerts import a_budget, look, spend
from token_tracker.dashboard.alerts import Alerts, load, panel
from token_tracker.dashboard.data import Viewer
from token_tracker.database.session import reading, transaction
from token_tracker.domain.access import EVERYTHING, Role


def shown(engine: Engine, role: Role) -> Alerts:
    with reading(engine) as session:
        return load(session, Viewer("x", role, EVERYTHING), zone=ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize(("role", "is_shown"), [(Role.ADMIN, True), (Role.VIEWER, True), (Role.MEMBER, False)])
def test_it_says_what_fires_and_why_nobody_hears(engine: Engine, role: Role, is_shown: bool) -> None:
    with transaction(engine) as session:
        a_budget(session, ())
        spend(session, "11", at=NOON)
    look(engine, NOON, notify="")
    alerts = shown(engine, role)
    assert [name for name, _, _ in alerts.firing] == (["Budget exceeded"] if is_shown else [])
    assert [problem for _, problem in alerts.warnings] == (
        ["The channel 'email' reaches nobody: set NOTIFICATION_EMAIL."] if is_shown else []
    )
    text = str(panel(alerts))
    assert ("Daily cap, beyond 100 %" in text and "since 14 Mar 13:00" in text) is is_shown
    assert panel(Alerts()) == []
