"""Service tokens: a program acts as the person who made its token, and may no more than it says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest


def make(api: Any, who: str, **body: Any) -> dict[str, Any]:
    answer = api.post("/api/service-tokens", who, **({"name": "nightly", "permissions": ["usage:read"]} | body))
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.get_json()
    return made


def use(api: Any, token: str, path: str, method: str = "GET", **options: Any) -> int:
    return int(api.send(method, path, headers={"Authorization": f"Bearer {token}"}, **options).status_code)


def test_a_token_may_what_it_says_as_far_as_its_maker_reaches(api: Any) -> None:
    made = make(api, "mia", permissions=["users:read"])
    users = api.send("GET", "/api/users", headers={"Authorization": f"Bearer {made['token']}"}).get_json()
    assert {user["id"] for user in users["items"]} == {"mia", "ann", "ben"}
    assert use(api, made["token"], "/api/token-usage") == 403
    api.patch("/api/users/mia", "root", role="member")
    users = api.send("GET", "/api/users", headers={"Authorization": f"Bearer {made['token']}"}).get_json()
    assert {user["id"] for user in users["items"]} == {"mia"}, "it never reaches further than its maker"


def test_its_text_is_shown_once(api: Any) -> None:
    made = make(api, "ann")
    shown = api.get("/api/service-tokens", "ann")
    assert made["token"] not in shown.text
    assert [each["id"] for each in shown.get_json()["items"]] == [made["id"]]
    assert api.get("/api/service-tokens", "ben").get_json()["items"] == []
    assert [each["id"] for each in api.get("/api/service-tokens", "root").get_json()["items"]] == [made["id"]]


def test_revoked_expired_and_disabled_makers_tokens_are_out(api: Any) -> None:
    first, second = make(api, "ann"), make(api, "ann")
    assert api.delete(f"/api/service-tokens/{first['id']}", "ben").status_code == 404
    assert api.delete(f"/api/service-tokens/{first['id']}", "ann").status_code == 204
    assert [use(api, each["token"], "/api/token-usage") for each in (first, second)] == [401, 200]
    api.patch("/api/users/ann", "root", disabled=True)
    assert use(api, second["token"], "/api/token-usage") == 401
    past = api.post(
        "/api/service-tokens", "ben", name="x", permissions=["usage:read"], expires_at="2020-01-01T00:00:00Z"
    )
    assert [d["field"] for d in past.get_json()["error"]["details"]] == ["expires_at"]
    soon = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert use(api, make(api, "ben", expires_at=soon)["token"], "/api/token-usage") == 200


@pytest.mark.parametrize("permissions", [["users:manage"], ["tokens:manage"], ["nonsense"], []])
def test_nobody_gives_a_token_more_than_the_own_permissions(api: Any, permissions: list[str]) -> None:
    answer = api.post("/api/service-tokens", "ann", name="x", permissions=permissions)
    assert answer.status_code == 422
    assert [d["field"] for d in answer.get_json()["error"]["details"]] == ["permissions"]


def test_a_token_makes_no_tokens_and_changes_no_password(api: Any) -> None:
    token = make(api, "root", permissions=["usage:read", "users:manage"])["token"]
    body = {"name": "x", "permissions": ["usage:read"]}
    assert use(api, token, "/api/service-tokens", "POST", json=body) == 403
    passwords = {"current_password": "x", "new_password": "a good new one"}
    assert use(api, token, "/api/auth/password", "POST", json=passwords) == 403
