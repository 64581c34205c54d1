"""Single sign-on against a real OpenID Connect provider: good, refused, expired, forged and replayed logins."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, update
from werkzeug.test import TestResponse

from tests.api.conftest import SECRET as API_SECRET
from tests.api.identity_provider import CLIENT, SECRET, follow, running_provider
from token_tracker.api.app import create_app
from token_tracker.config.values import Secret, SingleSignOn
from token_tracker.database.models import SingleSignOnAttempt, Team, User
from token_tracker.database.session import reading, transaction
from token_tracker.services import accounts

ROLES = {"admins": "admin", "leads": "manager"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with running_provider() as url:
        yield url


def browser(engine: Engine, issuer: str, **options: Any) -> FlaskClient:
    config = SingleSignOn(issuer, CLIENT, Secret(SECRET), roles=ROLES, **options)
    return create_app(engine, API_SECRET, config).test_client()


def go(client: FlaskClient, who: str, **fields: str) -> str:
    """To the provider and back: the address of the callback that the browser is sent to."""
    begun = client.get("/api/auth/oidc/start")
    assert begun.status_code == 302
    return follow(begun.headers["Location"], who, **fields)


def log_in(client: FlaskClient, who: str, **fields: str) -> TestResponse:
    return client.get(go(client, who, **fields))


def refused(answer: TestResponse) -> str:
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (401, "invalid_credentials"), answer.text
    message: str = answer.get_json()["error"]["message"]
    return message


def test_a_first_login_makes_the_account_and_its_tokens_work(engine: Engine, issuer: str) -> None:
    client = browser(engine, issuer)
    tokens = log_in(client, "ann", groups="leads,others").get_json()
    shown = client.get("/api/users/ann", headers={"Authorization": f"Bearer {tokens['access_token']}"}).get_json()
    assert (shown["id"], shown["role"]) == ("ann", "manager")
    assert client.post("/api/auth/refresh", json={"refresh_token": tokens["refresh_token"]}).status_code == 200
    password = client.post("/api/auth/login", json={"username": "ann", "password": "-"})
    assert password.status_code == 401, "such an account has no password"


def test_role_and_team_follow_the_claims_at_each_login(engine: Engine, issuer: str) -> None:
    with transaction(engine) as session:
        session.add(Team(id="red", name="Red", created_at=datetime.now(UTC)))
    client = browser(engine, issuer, team_claim="squad")
    for groups, squad, expected in (
        ("admins,leads", "red", ("admin", "red")),
        ("", "nowhere", ("member", "red")),
    ):
        assert log_in(client, "ann", groups=groups, squad=squad).status_code == 200
        with reading(engine) as session:
            user = session.get_one(User, "ann")
            assert (user.role, user.team_id) == expected


def test_who_has_no_role_gets_in_nowhere_where_none_is_given_to_all(engine: Engine, issuer: str) -> None:
    assert "no role" in refused(log_in(browser(engine, issuer, default_role=None), "ann"))
    with reading(engine) as session:
        assert session.get(User, "ann") is None


@pytest.mark.parametrize("manner", ["refused", "expired", "other_nonce", "other_audience", "other_key", "unsigned"])
def test_a_login_that_the_provider_did_not_give_for_us_and_now_is_refused(
    engine: Engine, issuer: str, manner: str
) -> None:
    refused(log_in(browser(engine, issuer), "ann", manner=manner))
    with reading(engine) as session:
        assert session.get(User, "ann") is None


def test_a_replayed_login_is_refused(engine: Engine, issuer: str) -> None:
    client = browser(engine, issuer)
    back = go(client, "ann")
    assert client.get(back).status_code == 200
    assert "used already" in refused(client.get(back))


def test_a_login_that_began_in_another_browser_is_refused(engine: Engine, issuer: str) -> None:
    back = go(browser(engine, issuer), "ann")
    assert "this browser" in refused(browser(engine, issuer).get(back))


def test_a_login_that_took_too_long_is_refused(engine: Engine, issuer: str) -> None:
    client = browser(engine, issuer)
    back = go(client, "ann")
    with transaction(engine) as session:
        session.execute(update(SingleSignOnAttempt).values(created_at=datetime.now(UTC) - timedelta(minutes=11)))
    assert "too old" in refused(client.get(back))


def test_the_name_of_a_password_account_is_not_taken_over(engine: Engine, issuer: str) -> None:
    with transaction(engine) as session:
        accounts.create_user(session, name="admin", password="a good password", role="admin", at=datetime.now(UTC))
    answer = log_in(browser(engine, issuer), "admin", groups="admins")
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (409, "conflict")


def test_a_disabled_account_stays_out(engine: Engine, issuer: str) -> None:
    client = browser(engine, issuer)
    assert log_in(client, "ann").status_code == 200
    with transaction(engine) as session:
        session.get_one(User, "ann").disabled_at = datetime.now(UTC)
    assert "disabled" in refused(log_in(client, "ann"))


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_provider_that_is_away_is_named_and_without_one_there_is_no_such_login(engine: Engine) -> None:
    away = browser(engine, "http://127.0.0.1:1").get("/api/auth/oidc/start")
    assert (away.status_code, away.get_json()["error"]["code"]) == (502, "provider_unavailable")
    none = create_app(engine, API_SECRET).test_client().get("/api/auth/oidc/start")
    assert none.status_code == 404 and "OIDC_ISSUER" in none.get_json()["error"]["message"]
