"""Virtual keys over HTTP: shown once, hidden from others, changed only as far as a role reaches."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, select

from token_tracker.database.models import ApiKey, ConfigVersion
from token_tracker.database.session import reading
from token_tracker.services.keys import hash_of


def make(api: Any, who: str, **fields: Any) -> Any:
    answer = api.post("/api/keys", who, **{"name": "a key", **fields})
    assert answer.status_code == 201, answer.text
    return answer.get_json()


def config_version(engine: Engine) -> int:
    with reading(engine) as session:
        return int(session.scalars(select(ConfigVersion.version)).one())


def test_only_a_name_is_needed_and_the_text_is_shown_this_once(api: Any, engine: Engine) -> None:
    made = make(api, "ann", name="my laptop")
    assert made["key"].startswith("sk-tt-")
    assert made["key"].startswith(made["prefix"])
    assert (made["user"], made["team"], made["agent"], made["models"]) == ("ann", "red", None, ["*"])
    shown = api.get(f"/api/keys/{made['id']}", "ann").get_json()
    assert shown == {name: value for name, value in made.items() if name != "key"}
    assert made["key"] not in api.get("/api/keys", "root").text
    with reading(engine) as session:
        assert session.get_one(ApiKey, made["id"]).hash == hash_of(made["key"])


def test_each_change_of_a_key_reaches_the_gateways(api: Any, engine: Engine) -> None:
    versions = [config_version(engine)]
    key = make(api, "ann")["id"]
    versions.append(config_version(engine))
    api.patch(f"/api/keys/{key}", "ann", models=["gpt-4o"])
    versions.append(config_version(engine))
    api.post(f"/api/keys/{key}/rotate", "ann", overlap_s=60)
    versions.append(config_version(engine))
    api.delete(f"/api/keys/{key}", "ann")
    versions.append(config_version(engine))
    assert versions == sorted(set(versions))


def test_a_patch_changes_what_it_names_and_nothing_else(api: Any) -> None:
    made = make(api, "ann", agent="coder", expires_at="2099-01-01T00:00:00+01:00")
    changed = api.patch(f"/api/keys/{made['id']}", "ann", name="other").get_json()
    assert (changed["name"], changed["agent"], changed["expires_at"]) == ("other", "coder", "2098-12-31T23:00:00Z")
    cleared = api.patch(f"/api/keys/{made['id']}", "ann", agent=None, expires_at=None).get_json()
    assert (cleared["name"], cleared["agent"], cleared["expires_at"]) == ("other", None, None)


def test_a_rotation_gives_a_successor_and_leaves_the_old_key_its_overlap(api: Any) -> None:
    old = make(api, "ann")
    answer = api.post(f"/api/keys/{old['id']}/rotate", "ann", overlap_s=3600)
    new = answer.get_json()
    assert (answer.status_code, new["predecessor"]) == (201, old["id"])
    assert new["key"] not in (old["key"], "")
    assert api.get(f"/api/keys/{old['id']}", "ann").get_json()["expires_at"] is not None


def test_nobody_rotates_a_key_out_of_its_budget(api: Any) -> None:
    old = make(api, "root", user="ann", budget={"limit_usd": "5", "period": "monthly"})["id"]
    new = api.post(f"/api/keys/{old}/rotate", "ann", overlap_s=0).get_json()["id"]
    budgets = api.get("/api/budgets", "ann").get_json()["items"]
    assert {each["scope"]["id"]: each["limit_usd"] for each in budgets} == {old: "5.000000000", new: "5.000000000"}


def test_a_deleted_key_is_revoked_for_good_and_stays_in_the_list(api: Any) -> None:
    key = make(api, "ann")["id"]
    assert api.delete(f"/api/keys/{key}", "ann").status_code == 204
    first = api.get(f"/api/keys/{key}", "ann").get_json()["revoked_at"]
    assert api.delete(f"/api/keys/{key}", "ann").status_code == 204
    assert api.get(f"/api/keys/{key}", "ann").get_json()["revoked_at"] == first
    again = api.patch(f"/api/keys/{key}", "ann", name="other")
    assert (again.status_code, again.get_json()["error"]["code"]) == (409, "conflict")


def test_a_foreign_key_is_not_there(api: Any) -> None:
    foreign = make(api, "root", user="bob")["id"]
    for who in ("ann", "mia"):
        for key in (foreign, "key_unknown"):
            for answer in (
                api.get(f"/api/keys/{key}", who),
                api.patch(f"/api/keys/{key}", who, name="mine"),
                api.post(f"/api/keys/{key}/rotate", who, overlap_s=0),
                api.delete(f"/api/keys/{key}", who),
            ):
                assert (answer.status_code, answer.get_json()["error"]["code"]) == (404, "not_found")
    assert api.get(f"/api/keys/{foreign}", "root").get_json()["revoked_at"] is None


@pytest.mark.parametrize(
    ("who", "owners"),
    [
        ("root", {"ann", "ben", "bob", "max"}),
        ("eve", {"ann", "ben", "bob", "max"}),
        ("mia", {"ann", "ben"}),
        ("ann", {"ann"}),
        ("max", {"max"}),
    ],
)
def test_a_list_shows_as_far_as_the_role_reaches(api: Any, who: str, owners: set[str]) -> None:
    for user in ("ann", "ben", "bob", "max"):
        make(api, "root", user=user)
    assert {key["user"] for key in api.get("/api/keys", who).get_json()["items"]} == owners
    assert api.get("/api/keys", who, user="bob", team="red").get_json()["items"] == []


def test_keys_come_newest_first_page_by_page(api: Any) -> None:
    made = [make(api, "ann", name=f"key {n}")["id"] for n in range(3)]
    first = api.get("/api/keys", "ann", limit=2).get_json()
    second = api.get("/api/keys", "ann", limit=2, cursor=first["next_cursor"]).get_json()
    assert [key["id"] for key in first["items"] + second["items"]] == made[::-1]
    assert second["next_cursor"] is None


OWNERS: list[tuple[str, dict[str, str], int]] = [
    ("ann", {"user": "ben"}, 403),
    ("ann", {"user": "nobody"}, 403),
    ("ann", {"team": "blue"}, 403),
    ("ann", {"team": "red"}, 201),
    ("mia", {"user": "ann"}, 201),
    ("mia", {"user": "bob"}, 403),
    ("mia", {"team": "blue"}, 403),
    ("max", {"user": "ann"}, 403),
    ("max", {}, 201),
    ("eve", {}, 403),
    ("root", {"user": "bob", "team": "red"}, 201),
    ("root", {"user": "nobody"}, 422),
    ("root", {"team": "nowhere"}, 422),
]


def test_keys_are_made_for_oneself_or_by_who_manages(api: Any) -> None:
    for who, fields, status in OWNERS:
        assert api.post("/api/keys", who, name="x", **fields).status_code == status, (who, fields)


SENSELESS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["name"]),
    ({"name": ""}, ["name"]),
    ({"name": " "}, ["name"]),
    ({"name": None}, ["name"]),
    ({"name": "x" * 201}, ["name"]),
    ({"name": "a\x00b"}, ["name"]),
    ({"name": "x", "models": []}, ["models"]),
    ({"name": "x", "models": ["ok", 5]}, ["models[1]"]),
    ({"name": "x", "models": "*"}, ["models"]),
    ({"name": "x", "expires_at": "2001-01-01T00:00:00Z"}, ["expires_at"]),
    ({"name": "x", "expires_at": "2099-01-01T00:00:00"}, ["expires_at"]),
    ({"name": "x", "expires_at": "9999-12-31T23:59:59-14:00"}, ["expires_at"]),
    ({"name": "x", "permissions": ["root"]}, ["permissions"]),
    ({"name": "x", "owner": "ann"}, ["owner"]),
    ({"name": 5, "models": 5, "agent": 5}, ["name", "agent", "models"]),
]


def test_a_key_that_makes_no_sense_is_refused_with_all_its_problems(api: Any) -> None:
    for body, fields in SENSELESS:
        answer = api.send("POST", "/api/keys", "ann", json=body)
        assert answer.status_code == 422, body
        assert [detail["field"] for detail in answer.get_json()["error"]["details"]] == fields
    assert api.get("/api/keys", "ann").get_json()["items"] == []


def test_a_rotation_needs_a_sensible_overlap(api: Any) -> None:
    key = make(api, "ann")["id"]
    for overlap in ({}, *({"overlap_s": value} for value in (-1, "60", 1.5, 10**30))):
        answer = api.send("POST", f"/api/keys/{key}/rotate", "ann", json=overlap)
        assert (answer.status_code, answer.get_json()["error"]["details"][0]["field"]) == (422, "overlap_s")


def test_only_those_who_answer_for_others_put_a_permission_on_a_key(api: Any) -> None:
    """What a key reports with 'ingest' is booked on its word."""
    assert make(api, "root", user="ann", permissions=["ingest"])["permissions"] == ["ingest"]
    refused = api.post("/api/keys", "ann", name="a key", permissions=["ingest"])
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (403, "forbidden")
    own = make(api, "ann")["id"]
    assert api.patch(f"/api/keys/{own}", "ann", permissions=["ingest"]).status_code == 403
    assert api.get(f"/api/keys/{own}", "ann").get_json()["permissions"] == []


def test_only_who_manages_all_keys_gives_permissions(api: Any) -> None:
    wanted = {"permissions": ["passthrough"]}
    for who in ("ann", "mia"):
        assert api.post("/api/keys", who, name="mine", **wanted).status_code == 403
    made = api.post("/api/keys", "ann", name="mine").get_json()
    address = f"/api/keys/{made['id']}"
    assert api.patch(address, "ann", **wanted).status_code == 403
    assert api.patch(address, "root", **wanted).get_json()["permissions"] == ["passthrough"]
    assert api.patch(address, "ann", name="still mine", **wanted).status_code == 200, "it gains nothing"
    assert api.patch(address, "ann", permissions=[]).get_json()["permissions"] == []
    assert api.patch(address, "ann", **wanted).status_code == 403


def test_a_key_is_made_with_its_budget_and_limits_or_not_at_all(api: Any) -> None:
    budget = {"limit_usd": "5", "period": "monthly", "timezone": "Europe/Berlin"}
    limits = [{"limit": 60, "period": "minute"}, {"limit": 4, "unit": "concurrent"}]
    made = make(api, "ann", budget=budget, rate_limits=limits)
    (found,) = api.get("/api/budgets", "ann").get_json()["items"]
    assert (found["scope"], found["limit_usd"], found["timezone"]) == (
        {"type": "key", "id": made["id"]},
        "5.000000000",
        "Europe/Berlin",
    )
    assert {each["unit"] for each in api.get("/api/rate-limits", "ann").get_json()["items"]} == {
        "requests",
        "concurrent",
    }
    for wrong, field in (
        ({"budget": {"period": "monthly"}}, "budget.limit_usd"),
        ({"budget": {"period": "never", "limit_usd": "1"}}, "budget.period"),
        ({"rate_limits": [{"limit": 1}]}, "rate_limits[0].period"),
    ):
        answer = api.post("/api/keys", "ann", name="another", **wrong)
        assert [each["field"] for each in answer.get_json()["error"]["details"]] == [field]
    assert [each["id"] for each in api.get("/api/keys", "ann").get_json()["items"]] == [made["id"]]
