"""Users and teams over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

PASSWORD = "correct horse battery"


def test_an_admin_adds_a_user_who_can_log_in(api: Any) -> None:
    answer = api.post("/api/users", "root", username="pat", password=PASSWORD, team="red")
    made = answer.get_json()
    assert answer.status_code == 201
    assert (made["id"], made["username"], made["role"], made["team"]) == ("pat", "pat", "member", "red")
    assert PASSWORD not in answer.text
    assert api.post("/api/auth/login", username="pat", password=PASSWORD).status_code == 200
    taken = api.post("/api/users", "root", username="pat", password=PASSWORD)
    assert (taken.status_code, taken.get_json()["error"]["code"]) == (409, "conflict")


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_user_that_makes_no_sense_is_refused_with_all_problems(api: Any) -> None:
    answer = api.post("/api/users", "root", username="pat smith", password="short", team="nowhere")
    assert answer.status_code == 422
    assert {d["field"] for d in answer.get_json()["error"]["details"]} == {"username", "password", "team"}
    role = api.post("/api/users", "root", username="pat", password=PASSWORD, role="king")
    assert [d["field"] for d in role.get_json()["error"]["details"]] == ["role"]


@pytest.mark.parametrize(
    ("who", "seen"),
    [
        ("root", {"root", "mia", "max", "ann", "ben", "bob", "eve"}),
        ("eve", {"root", "mia", "max", "ann", "ben", "bob", "eve"}),
        ("mia", {"mia", "ann", "ben"}),
        ("max", {"max"}),
        ("ann", {"ann"}),
    ],
)
def test_users_are_shown_as_far_as_the_role_reaches(api: Any, who: str, seen: set[str]) -> None:
    assert {user["id"] for user in api.get("/api/users", who).get_json()["items"]} == seen
    for user in ("ann", "bob"):
        assert api.get(f"/api/users/{user}", who).status_code == (200 if user in seen else 404)
    assert api.get("/api/users/nobody", who).status_code == 404


@pytest.mark.parametrize(
    ("who", "seen"), [("root", {"red", "blue"}), ("eve", {"red", "blue"}), ("mia", {"red"}), ("max", set())]
)
def test_teams_are_shown_as_far_as_the_role_reaches(api: Any, who: str, seen: set[str]) -> None:
    assert {team["id"] for team in api.get("/api/teams", who).get_json()["items"]} == seen
    for team in ("red", "blue"):
        assert api.get(f"/api/teams/{team}", who).status_code == (200 if team in seen else 404)


def test_a_team_gets_a_short_name_of_its_own_or_one_made_of_its_name(api: Any) -> None:
    assert api.post("/api/teams", "root", name="Search & Ads").get_json()["id"] == "search-ads"
    assert api.post("/api/teams", "root", name="Search & Ads", id="ads").get_json()["id"] == "ads"
    assert api.post("/api/teams", "root", name="Search Ads").status_code == 409
    nameless = api.post("/api/teams", "root", name="検索")
    assert (nameless.status_code, nameless.get_json()["error"]["details"][0]["field"]) == (422, "id")
