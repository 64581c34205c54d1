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


def test_an_admin_changes_role_and_team_and_what_is_left_out_stays(api: Any) -> None:
    changed = api.patch("/api/users/ann", "root", role="manager").get_json()
    assert (changed["role"], changed["team"]) == ("manager", "red")
    assert api.patch("/api/users/ann", "root", team=None).get_json()["team"] is None
    wrong = api.patch("/api/users/ann", "root", role="king", team="nowhere", password="x", disabled="yes")
    assert {d["field"] for d in wrong.get_json()["error"]["details"]} == {"role", "disabled"}
    assert api.patch("/api/users/nobody", "root", role="member").status_code == 404


def test_a_disabled_account_is_out_and_its_keys_are_too_and_it_can_come_back(api: Any) -> None:
    token = api.token_of("ann")
    headers = {"Authorization": f"Bearer {token}"}
    assert api.send("GET", "/api/keys", headers=headers).status_code == 200
    assert api.patch("/api/users/ann", "root", disabled=True).get_json()["disabled_at"] is not None
    assert api.send("GET", "/api/keys", headers=headers).status_code == 401
    assert api.patch("/api/users/ann", "root", disabled=False).get_json()["disabled_at"] is None
    assert api.send("GET", "/api/keys", headers=headers).status_code == 401, "its logins stay ended"
    assert api.get("/api/keys", "ann").status_code == 200


def test_the_last_admin_stays_one(api: Any) -> None:
    for change in ({"role": "viewer"}, {"disabled": True}):
        answer = api.patch("/api/users/root", "root", **change)
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (409, "conflict")
    assert api.get("/api/users/root", "root").get_json()["role"] == "admin"


def test_a_team_shows_its_people_and_only_an_empty_one_can_be_deleted(api: Any) -> None:
    red = api.get("/api/teams/red", "mia").get_json()
    assert (red["managers"], red["members"]) == (["mia"], ["ann", "ben"])
    assert api.patch("/api/teams/red", "root", name="Crimson").get_json()["name"] == "Crimson"
    assert api.delete("/api/teams/red", "root").status_code == 409
    api.post("/api/teams", "root", name="Empty")
    assert api.delete("/api/teams/empty", "root").status_code == 204
    assert api.get("/api/teams/empty", "root").status_code == 404


def test_a_change_of_another_state_than_the_one_that_was_read_is_refused(api: Any) -> None:
    seen = api.get("/api/users/ann", "root").headers["ETag"]

    def change(etag: str, **fields: Any) -> Any:
        return api.send("PATCH", "/api/users/ann", "root", json=fields, headers={"If-Match": etag})

    first = change(seen, role="manager")
    assert first.status_code == 200
    second = change(seen, team=None)
    assert (second.status_code, second.get_json()["error"]["code"]) == (412, "precondition_failed")
    assert api.get("/api/users/ann", "root").get_json()["team"] == "red"
    assert change(first.headers["ETag"], team=None).status_code == 200
    assert change("*", team="red").status_code == 200
