"""What the dashboard tells of calls that were refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Engine

from token_tracker.dashboard import refused
from token_tracker.dashboard.data import Selection, Viewer
from token_tracker.database.session import reading, transaction
from token_tracker.domain.access import EVERYTHING, Role, Scope
from token_tracker.services.accounts import create_user
from token_tracker.services.keys import create
from token_tracker.services.refusals import book_refusals

NOW = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
ROOT = Viewer("root", Role.ADMIN, EVERYTHING)


def a_refusal(**fields: Any) -> dict[str, Any]:
    given = {
        "hour": NOW.replace(minute=0),
        "code": "budget_exceeded",
        "status": 402,
        "key_id": "",
        "user": "",
        "team": "",
        "model": "",
        "endpoint": "/v1/chat/completions",
        "calls": 1,
    }
    row = given | fields
    return {{"user": "user_id", "team": "team_id"}.get(name, name): value for name, value in row.items()}


def load(engine: Engine, viewer: Viewer = ROOT, **chosen: str) -> list[refused.Kind]:
    with reading(engine) as session:
        return refused.load(session, viewer, Selection("24h", "Europe/Berlin", **chosen), zone=BERLIN, at=NOW)


def test_refusals_of_the_range_are_added_up_by_code_model_and_key(engine: Engine) -> None:
    hour = timedelta(hours=1)
    with transaction(engine) as session:
        create_user(session, name="ana", password="a long password", role=Role.MEMBER, at=NOW)
        key, _ = create(session, user="ana", created_by="ana", name="laptop", at=NOW)
        of_ana = {"key_id": key.id, "user": "ana", "model": "gpt-4o"}
        rows = [
            a_refusal(**of_ana, calls=3),
            a_refusal(**of_ana, calls=4, hour=NOW.replace(minute=0) - 5 * hour, endpoint="/v1/messages"),
            a_refusal(**of_ana, calls=100, hour=NOW.replace(minute=0) - 24 * hour),
            a_refusal(code="invalid_api_key", status=401, calls=9),
        ]
        book_refusals(session, rows)
    first, second = load(engine)
    assert first == refused.Kind("invalid_api_key", 401, "–", "–", "–", 9, "10 Mar 13:00")
    assert second == refused.Kind("budget_exceeded", 402, "gpt-4o", "ana", "laptop", 7, "10 Mar 13:00")
    assert load(engine, Viewer("ana", Role.MEMBER, Scope(user="ana"))) == load(engine, key=key.id) == [second]
    assert load(engine, model="other") == []


def test_the_table_is_short_and_says_how_many_it_leaves_out() -> None:
    assert refused.panel([]) == []
    kinds = [refused.Kind("frozen", 403, f"m{n}", "ana", "<b>", 1_000 + n, "10 Mar 13:00") for n in range(12)]
    (section,) = refused.panel(kinds)
    drawn = str(section.to_plotly_json())
    assert "m9" in drawn and "m10" not in drawn
    assert "and 2,021 more: GET /api/refusals" in drawn and "1,009" in drawn
