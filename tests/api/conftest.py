"""The API on both databases, with people of every role, and calls of theirs in the books."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from tests import leaks
from token_tracker.api.app import create_app
from token_tracker.api.tokens import AccessTokens
from token_tracker.database.models import Team, User
from token_tracker.database.session import transaction
from token_tracker.services import refresh_tokens
from token_tracker.services.booking import book

SECRET = b"a secret of the tests, and of nothing else"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
# name: (role, team)
PEOPLE = {
    "root": ("admin", None),
    "mia": ("manager", "red"),
    "max": ("manager", None),
    "ann": ("member", "red"),
    "ben": ("member", "red"),
    "bob": ("member", "blue"),
    "eve": ("viewer", None),
}
CLASSES = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "input_audio_tokens",
    "input_image_tokens",
    "output_tokens",
    "reasoning_tokens",
    "output_audio_tokens",
    "output_image_tokens",
)


@dataclass
class Api:
    """`api.get("/api/keys", "ann")`: a request as somebody; without a name nobody is logged in."""

    client: FlaskClient
    engine: Engine

    def token_of(self, who: str) -> str:
        """An access token of a login of `who`."""
        at = datetime.now(UTC)
        with transaction(self.engine) as session:
            refresh = refresh_tokens.issue(session, user_id=who, at=at)
            family = refresh_tokens.family_of(session, token=leaks.secret("refresh token", refresh))
            return leaks.secret("JWT", AccessTokens(SECRET).issue(who, family, at))

    def send(self, method: str, path: str, who: str | None = None, **options: Any) -> TestResponse:
        headers = dict(options.pop("headers", {}))
        if who is not None:
            headers["Authorization"] = f"Bearer {self.token_of(who)}"
        answer = self.client.open(path, method=method, headers=headers, **options)
        if not answer.is_streamed:
            leaks.answered(f"{method} {path}", answer.status_code, options.get("json"), answer.data)
        return answer

    def get(self, path: str, who: str | None = None, **query: Any) -> TestResponse:
        return self.send("GET", path, who, query_string=query)

    def post(self, path: str, who: str | None = None, **body: Any) -> TestResponse:
        return self.send("POST", path, who, json=body)

    def patch(self, path: str, who: str | None = None, **body: Any) -> TestResponse:
        return self.send("PATCH", path, who, json=body)

    def delete(self, path: str, who: str | None = None) -> TestResponse:
        return self.send("DELETE", path, who)


@pytest.fixture
def api(engine: Engine) -> Api:
    """The API with the accounts of `PEOPLE`, whose passwords nobody knows."""
    with transaction(engine) as session:
        session.add_all([Team(id=team, name=team.title(), created_at=NOON) for team in ("red", "blue")])
        session.flush()
        session.add_all(
            [
                User(id=name, password_hash="-", role=role, team_id=team, created_at=NOON)
                for name, (role, team) in PEOPLE.items()
            ]
        )
    return Api(create_app(engine, SECRET).test_client(), engine)


@pytest.fixture
def booked(engine: Engine) -> Callable[[Iterable[dict[str, Any]]], None]:
    """Calls into the books as the recorder puts them there; what is not given is the plainest there is."""

    def write(rows: Iterable[dict[str, Any]]) -> None:
        plain: dict[str, Any] = {
            "attempt": 1,
            "timestamp": NOON,
            "endpoint": "/v1/chat/completions",
            "lane": "direct",
            "stream": False,
            "requested_model": "gpt-4o",
            "model": "gpt-4o",
            "provider": "openai",
            "upstream_id": "",
            "upstream_request_id": "",
            "status_code": 200,
            "end_reason": "complete",
            **dict.fromkeys(CLASSES, 0),
            "usage_source": "provider",
            "cost_nano_usd": 0,
            "cost_source": "priced",
            "price_version": "",
            "request_bytes": 0,
            "response_bytes": 0,
            "latency_ms": 100.0,
            "ttft_ms": None,
            "user_id": "",
            "team_id": "",
            "key_id": "",
            "agent": "",
            "session_id": "",
            "end_user": "",
            "tags": [],
            "request_metadata": "",
        }
        with transaction(engine) as session:
            book(session, [{**plain, "call_id": row["id"], **row} for row in rows], at=NOON)

    return write
