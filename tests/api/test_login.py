"""Logging in, staying in and getting out."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from sqlalchemy import Engine

from token_tracker.api.tokens import AccessTokens
from token_tracker.database.models import User
from token_tracker.database.session import transaction
from token_tracker.services import throttle
from token_tracker.services.accounts import create_user

PASSWORD = "correct horse battery"


@pytest.fixture
def pat(api: Any, engine: Engine) -> Any:
    """An account with a password, and its first tokens."""
    with transaction(engine) as session:
        create_user(session, name="pat", password=PASSWORD, role="member", at=datetime.now(UTC))
    answer = api.post("/api/auth/login", username="pat", password=PASSWORD)
    assert answer.status_code == 200
    return answer.get_json()


def keys_with(api: Any, access_token: str) -> int:
    return int(api.send("GET", "/api/keys", headers={"Authorization": f"Bearer {access_token}"}).status_code)


def test_a_login_gives_tokens_that_work_and_refresh_once(api: Any, pat: dict[str, Any]) -> None:
    assert pat["token_type"] == "Bearer"
    assert pat["expires_in"] == 900
    assert keys_with(api, pat["access_token"]) == 200
    next_pair = api.post("/api/auth/refresh", refresh_token=pat["refresh_token"])
    assert next_pair.status_code == 200
    assert keys_with(api, next_pair.get_json()["access_token"]) == 200


def test_a_refresh_token_used_twice_ends_the_login(api: Any, pat: dict[str, Any]) -> None:
    second = api.post("/api/auth/refresh", refresh_token=pat["refresh_token"]).get_json()["refresh_token"]
    assert api.post("/api/auth/refresh", refresh_token=pat["refresh_token"]).status_code == 401
    stolen = api.post("/api/auth/refresh", refresh_token=second)
    assert (stolen.status_code, stolen.get_json()["error"]["code"]) == (401, "invalid_credentials")


def test_after_a_logout_the_refresh_token_is_worth_nothing(api: Any, pat: dict[str, Any]) -> None:
    assert api.post("/api/auth/logout", refresh_token=pat["refresh_token"]).status_code == 204
    assert api.post("/api/auth/refresh", refresh_token=pat["refresh_token"]).status_code == 401
    assert keys_with(api, pat["access_token"]) == 401, "the access token ends with its login"
    assert api.post("/api/auth/logout", refresh_token="unknown").status_code == 204


def test_a_wrong_password_an_unknown_and_a_disabled_user_get_the_same_answer(
    api: Any, pat: dict[str, Any], engine: Engine
) -> None:
    answers = [
        api.post("/api/auth/login", username="pat", password="wrong"),
        api.post("/api/auth/login", username="nobody", password=PASSWORD),
        api.post("/api/auth/login", username="", password=""),
    ]
    with transaction(engine) as session:
        session.get_one(User, "pat").disabled_at = datetime.now(UTC)
    answers.append(api.post("/api/auth/login", username="pat", password=PASSWORD))
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1


def test_a_disabled_account_is_out_at_once(api: Any, pat: dict[str, Any], engine: Engine) -> None:
    with transaction(engine) as session:
        session.get_one(User, "pat").disabled_at = datetime.now(UTC)
    assert keys_with(api, pat["access_token"]) == 401
    assert api.post("/api/auth/refresh", refresh_token=pat["refresh_token"]).status_code == 401


SECRET = b"another secret of the tests, long enough"


def test_a_token_ends_after_a_quarter_of_an_hour() -> None:
    tokens = AccessTokens(SECRET)
    now = datetime.now(UTC)
    assert tokens.read(tokens.issue("pat", "login", now - timedelta(minutes=14))) == ("pat", "login")
    assert tokens.read(tokens.issue("pat", "login", now - timedelta(minutes=16))) is None


def test_a_token_signed_by_anybody_else_or_not_at_all_is_nobodys() -> None:
    tokens = AccessTokens(SECRET)
    now = datetime.now(UTC)
    claims = {"sub": "root", "sid": "login", "aud": "token-tracker-api", "iat": now, "exp": now + timedelta(minutes=5)}
    head, body, signature = tokens.issue("pat", "login", now).split(".")
    changed = json.loads(base64.urlsafe_b64decode(body + "=="))
    changed["sub"] = "root"
    other_body = base64.urlsafe_b64encode(json.dumps(changed).encode()).decode().rstrip("=")
    forged = [
        AccessTokens(b"a different secret, also long enough").issue("root", "login", now),
        jwt.encode(claims, SECRET, algorithm="HS256"),
        jwt.encode(claims, None, algorithm="none"),
        f"{head}.{other_body}.{signature}",
        f"{head}.{body}.",
        "",
    ]
    assert [tokens.read(token) for token in forged] == [None] * len(forged)


def wrong(api: Any, username: str = "pat", address: str = "10.0.0.1") -> Any:
    body = {"username": username, "password": "wrong"}
    return api.send("POST", "/api/auth/login", json=body, environ_base={"REMOTE_ADDR": address})


def test_guessing_a_password_is_slowed_down_for_known_and_unknown_names_alike(
    api: Any, pat: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "FIRST_WAIT", timedelta(minutes=5))  # longer than a slow machine takes
    for name in ("pat", "nobody"):
        assert [wrong(api, name).status_code for _ in range(5)] == [401] * 5
        refused = wrong(api, name)
        assert (refused.status_code, refused.get_json()["error"]["code"]) == (429, "too_many_attempts")
        assert int(refused.headers["Retry-After"]) in (299, 300)
    right = api.post("/api/auth/login", username="pat", password=PASSWORD)
    assert right.status_code == 429, "nor may the right one be found out meanwhile"


def test_an_address_that_tries_many_names_is_slowed_down_and_others_are_not(api: Any, pat: dict[str, Any]) -> None:
    tried = [wrong(api, f"user{number}").status_code for number in range(21)]
    assert tried == [401] * 20 + [429]
    body = {"username": "pat", "password": PASSWORD}
    elsewhere = api.send("POST", "/api/auth/login", json=body, environ_base={"REMOTE_ADDR": "10.0.0.2"})
    assert elsewhere.status_code == 200


def test_a_changed_password_ends_all_other_logins(api: Any, pat: dict[str, Any]) -> None:
    other = api.post("/api/auth/login", username="pat", password=PASSWORD).get_json()
    headers = {"Authorization": f"Bearer {pat['access_token']}"}

    def change(current: str, new: str) -> Any:
        body = {"current_password": current, "new_password": new}
        return api.send("POST", "/api/auth/password", json=body, headers=headers)

    assert change("wrong", "another good one").get_json()["error"]["code"] == "invalid_credentials"
    assert [d["field"] for d in change(PASSWORD, "short").get_json()["error"]["details"]] == ["new_password"]
    assert change(PASSWORD, "another good one").status_code == 204
    assert keys_with(api, pat["access_token"]) == 200
    assert keys_with(api, other["access_token"]) == 401
    assert api.post("/api/auth/login", username="pat", password=PASSWORD).status_code == 401
    assert api.post("/api/auth/login", username="pat", password="another good one").status_code == 200
