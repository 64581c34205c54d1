"""Budgets, rate limits and freezes over HTTP, and the trace that each change leaves."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select

from tests.api.conftest import Api
from tests.services.budget_rows import a_budget, add, check
from tests.services.ledger_rows import a_row
from token_tracker.database.models import BudgetAlert
from token_tracker.database.session import reading, transaction
from token_tracker.services.booking import book

DAILY = {"name": "Daily cap", "scope": {"type": "global"}, "limit_usd": "10.00", "period": "daily"}


def problems(answer: Any, code: str = "invalid_request") -> set[str]:
    assert answer.status_code == 422, answer.text
    assert answer.get_json()["error"]["code"] == code
    return {detail["field"] for detail in answer.get_json()["error"]["details"]}


def make(api: Any, **fields: Any) -> dict[str, Any]:
    answer = api.post("/api/budgets", "root", **(DAILY | fields))
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.get_json()
    return made


def test_a_budget_is_made_with_the_contracts_defaults(api: Any) -> None:
    made = make(api)
    expected = {
        "name": "Daily cap",
        "scope": {"type": "global", "id": None},
        "model": None,
        "limit_usd": "10.000000000",
        "limit_tokens": None,
        "period": "daily",
        "timezone": "UTC",
        "enforcement": "hard",
        "on_exceeded": {"action": "block", "model": None, "downgrade_at": 100},
        "clamp": "missing",
        "default_output_tokens": 8192,
        "min_output_tokens": 256,
        "allow_unbounded": False,
        "on_store_error": "deny",
        "alerts": [],
        "source": "api",
    }
    assert {name: made[name] for name in expected} == expected
    assert api.get(f"/api/budgets/{made['id']}", "eve").get_json() == made


def test_the_same_scope_model_and_period_is_the_same_budget(api: Any) -> None:
    made = make(api, alerts=[{"threshold": 50, "email": "a@example.com"}])
    again = api.post("/api/budgets", "root", **(DAILY | {"limit_usd": 12.5}))
    assert (again.status_code, again.get_json()["id"]) == (200, made["id"])
    assert again.get_json()["limit_usd"] == "12.500000000"
    assert [alert["threshold"] for alert in again.get_json()["alerts"]] == [50.0], "what is left out stays"
    assert len(api.get("/api/budgets", "root").get_json()["items"]) == 1


def test_a_model_may_be_written_as_the_scope(api: Any) -> None:
    made = make(api, scope={"type": "model", "id": "gpt-4o"})
    assert (made["scope"], made["model"]) == ({"type": "global", "id": None}, "gpt-4o")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"limit_usd": None}, {"limit_usd"}),
        ({"limit_usd": "ten"}, {"limit_usd"}),
        ({"limit_usd": "-1"}, {"limit_usd"}),
        ({"scope": {"type": "team"}}, {"scope.id"}),
        ({"scope": {"type": "team", "id": "nowhere"}}, {"scope.id"}),
        ({"scope": {"type": "planet", "id": "x"}}, {"scope.type"}),
        ({"scope": {"type": "global", "id": "x"}}, {"scope.id"}),
        ({"period": "fortnightly"}, {"period"}),
        ({"timezone": "Mars/Olympus"}, {"timezone"}),
        ({"on_exceeded": {"action": "downgrade"}}, {"on_exceeded.model"}),
        ({"alerts": [{"threshold": 50}]}, {"alerts[0]"}),
        ({"colour": "red"}, {"colour"}),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused_with_the_field(api: Any, fields: Any, named: set[str]) -> None:
    found = problems(api.post("/api/budgets", "root", **(DAILY | fields)))
    assert {name.split("[")[0].split(".")[0] for name in found} == {n.split("[")[0].split(".")[0] for n in named}
    assert api.get("/api/budgets", "root").get_json()["items"] == []


def test_what_a_budget_was_made_with_cannot_be_changed(api: Any) -> None:
    address = f"/api/budgets/{make(api)['id']}"
    changed = {"period": "monthly", "timezone": "Europe/Berlin", "scope": {"type": "team", "id": "red"}}
    assert problems(api.patch(address, "root", **changed), "unchangeable") == {"period", "timezone", "scope"}
    same = api.patch(address, "root", period="daily", limit_usd="11")
    assert (same.status_code, same.get_json()["limit_usd"]) == (200, "11.000000000")


def test_a_budget_of_the_file_is_changed_in_the_file_only(api: Any, engine: Any) -> None:
    add(engine, a_budget("file", source="config"))
    for answer in (
        api.patch("/api/budgets/budget_file", "root", limit_usd="5"),
        api.delete("/api/budgets/budget_file", "root"),
    ):
        assert answer.status_code == 409 and "proxy.yaml" in answer.get_json()["error"]["message"]
    topped = api.post("/api/budgets/budget_file/top-up", "root", amount_usd="5")
    assert topped.status_code == 201, "a top-up leaves the entry as it is"


def test_the_status_of_a_budget_counts_what_is_topped_up(api: Any) -> None:
    budget = make(api)["id"]
    assert api.post(f"/api/budgets/{budget}/top-up", "root", amount_usd="2.50").status_code == 201
    status = api.get(f"/api/budgets/{budget}/status", "eve").get_json()
    assert (status["limit_usd"], status["spent_usd"], status["remaining_usd"]) == (
        "12.500000000",
        "0.000000000",
        "12.500000000",
    )
    assert status["holds"] == [] and status["forecast"]["ends_at"] is None
    assert status["window"]["end"] > status["window"]["start"]
    assert problems(api.post(f"/api/budgets/{budget}/top-up", "root", amount_usd="0")) == {"amount_usd"}
    released = api.post(f"/api/budgets/{budget}/release", "root", call_ids="all", reason="looked at the bill")
    assert released.get_json()["calls"] == []
    each = make(api, scope={"type": "user", "id": "*"}, period="monthly")["id"]
    assert api.get(f"/api/budgets/{each}/status", "eve").get_json() == {"items": [], "next_cursor": None}


@pytest.mark.parametrize(
    ("scope", "is_self_declared"),
    [("global", False), ("key", False), ("user", False), ("team", False), ("provider", False)]
    + [(name, True) for name in ("agent", "tag", "session", "end_user")],
)
def test_a_rule_on_what_clients_say_of_themselves_is_marked(api: Any, scope: str, is_self_declared: bool) -> None:
    named = {"type": scope} if scope == "global" else {"type": scope, "id": "*"}
    assert make(api, scope=named)["self_declared"] is is_self_declared
    limit = api.post("/api/rate-limits", "root", scope=named, limit=1, period="day").get_json()
    assert limit["self_declared"] is is_self_declared


def test_rate_limits_are_made_changed_and_deleted(api: Any) -> None:
    body = {"scope": {"type": "user", "id": "ann"}, "limit": 60, "period": "minute"}
    made = api.post("/api/rate-limits", "root", **body)
    assert made.status_code == 201 and made.get_json()["unit"] == "requests"
    address = f"/api/rate-limits/{made.get_json()['id']}"
    assert api.post("/api/rate-limits", "root", **(body | {"limit": 70})).status_code == 200
    assert api.patch(address, "root", limit=80).get_json()["limit"] == 80
    assert problems(api.patch(address, "root", unit="tokens"), "unchangeable") == {"unit"}
    assert problems(api.post("/api/rate-limits", "root", **(body | {"unit": "concurrent"}))) == {"period"}
    assert api.delete(address, "root").status_code == 204
    assert api.get(address, "root").status_code == 404


def test_a_freeze_is_made_once_and_taken_back(api: Any) -> None:
    body = {"scope": {"type": "team", "id": "red"}, "reason": "a loop"}
    made = api.post("/api/freezes", "root", **body)
    assert made.status_code == 201
    assert api.post("/api/freezes", "root", **(body | {"reason": "still"})).status_code == 200
    assert [each["reason"] for each in api.get("/api/freezes", "eve").get_json()["items"]] == ["still"]
    assert api.delete(f"/api/freezes/{made.get_json()['id']}", "root").status_code == 204
    assert problems(api.post("/api/freezes", "root", scope={"type": "user", "id": "*"}, reason="x")) == {"scope.id"}


def test_people_see_the_rules_that_are_about_them(api: Any) -> None:
    key = api.post("/api/keys", "ben", name="k").get_json()["id"]
    scopes = [
        {"type": "global"},
        {"type": "team", "id": "red"},
        {"type": "team", "id": "blue"},
        {"type": "user", "id": "ann"},
        {"type": "key", "id": key},
    ]
    ids = {(s["type"], s.get("id")): make(api, scope=s)["id"] for s in scopes}
    red, ann, bens = ids["team", "red"], ids["user", "ann"], ids["key", key]
    for who, seen in {"mia": {red, ann, bens}, "ann": {ann}, "ben": {bens}, "eve": set(ids.values())}.items():
        assert {each["id"] for each in api.get("/api/budgets", who).get_json()["items"]} == seen, who
        for budget in ids.values():
            expected = 200 if budget in seen else 404
            assert api.get(f"/api/budgets/{budget}", who).status_code == expected
            assert api.get(f"/api/budgets/{budget}/status", who).status_code == expected
    assert api.patch(f"/api/budgets/{ann}", "mia", limit_usd="1").status_code == 403


def test_of_a_budget_for_each_people_see_where_they_and_theirs_stand(api: Any) -> None:
    budgets = [a_budget(kind, scope_type=kind, scope_id="*") for kind in ("user", "key", "team", "agent")]
    add(api.engine, *budgets)
    key = api.post("/api/keys", "ben", name="k").get_json()["id"]
    users = {"ann": "red", "ben": "red", "zed": "blue"}
    now = datetime.now(UTC)
    rows = [
        a_row(n, now, user_id=user, team_id=team, key_id=key if user == "ben" else "other")
        for n, (user, team) in enumerate(users.items())
    ]
    with transaction(api.engine) as session:
        book(session, rows, at=now)
    for kind in ("user", "key", "team"):
        check(api.engine, kind, now)

    def members(who: str, kind: str) -> list[str]:
        answer = api.get(f"/api/budgets/budget_{kind}/status", who)
        return [each["member_id"] for each in answer.get_json()["items"]]

    seen = {kind: {who: members(who, kind) for who in ("eve", "mia", "ann", "ben")} for kind in ("user", "key")}
    assert seen["user"] == {"eve": ["ann", "ben", "zed"], "mia": ["ann", "ben"], "ann": ["ann"], "ben": ["ben"]}
    assert seen["key"] == {"eve": sorted([key, "other"]), "mia": [key], "ann": [], "ben": [key]}
    assert members("mia", "team") == ["red"] and members("eve", "team") == ["blue", "red"]
    assert [each["id"] for each in api.get("/api/budgets", "ann").get_json()["items"]] == ["budget_user", "budget_key"]
    assert api.get("/api/budgets/budget_user/status", "ann", member="ann").get_json()["spent_usd"] == "0.000000040"
    for who, kind, member in (
        ("ann", "user", "ben"),
        ("mia", "user", "zed"),
        ("ann", "key", key),
        ("mia", "team", "blue"),
    ):
        assert api.get(f"/api/budgets/budget_{kind}/status", who, member=member).status_code == 404
    for kind in ("team", "agent"):
        assert api.get(f"/api/budgets/budget_{kind}", "ann").status_code == 404
    page = api.get("/api/budgets/budget_user/status", "mia", limit=1).get_json()
    assert ([each["member_id"] for each in page["items"]], page["next_cursor"]) == (["ann"], "ann")


def test_every_change_is_in_the_audit_log_with_who_and_what(api: Any) -> None:
    budget = make(api)["id"]
    api.patch(f"/api/budgets/{budget}", "root", limit_usd="20")
    api.patch(f"/api/budgets/{budget}", "root", limit_usd="20")
    api.post("/api/users", "root", username="pat", password="a good password")
    api.patch("/api/users/pat", "root", role="viewer", password="another password")
    key = api.post("/api/keys", "ann", name="k").get_json()
    api.delete(f"/api/keys/{key['id']}", "ann")
    log = api.get("/api/audit-log", "eve").get_json()["items"]
    assert [(entry["actor"], entry["action"]) for entry in reversed(log)] == [
        ("root", "budget.create"),
        ("root", "budget.update"),
        ("root", "user.create"),
        ("root", "user.update"),
        ("root", "user.password"),
        ("ann", "key.create"),
        ("ann", "key.revoke"),
    ]
    change = api.get("/api/audit-log", "eve", action="budget.update").get_json()["items"][0]
    assert (change["before"], change["after"]) == ({"limit_usd": "10.000000000"}, {"limit_usd": "20.000000000"})
    assert change["address"] == "127.0.0.1" and change["request_id"]
    text = api.get("/api/audit-log", "eve").text
    assert "password" not in text.replace("user.password", "") and key["key"] not in text
    assert api.get("/api/audit-log", "mia").status_code == 403


def test_what_a_program_changes_is_logged_with_its_token(api: Any) -> None:
    token = api.post("/api/service-tokens", "root", name="ci", permissions=["rules:manage"]).get_json()
    headers = {"Authorization": f"Bearer {token['token']}"}
    assert api.send("POST", "/api/budgets", headers=headers, json=DAILY).status_code == 201
    entry = api.get("/api/audit-log", "root", object_type="budget").get_json()["items"][0]
    assert (entry["actor"], entry["via"]) == ("root", token["id"])


def test_the_url_of_a_service_is_kept_and_never_shown_again(api: Api) -> None:
    url = "tgram://123456:SecretToken/chat"
    alert = {"threshold": 50, "apprise": url}
    budget = {"name": "Cap", "scope": {"type": "global"}, "period": "daily", "limit_usd": "10"}
    made = api.post("/api/budgets", "root", **budget, alerts=[alert])
    assert made.status_code == 201
    assert made.get_json()["alerts"][0]["apprise"] == "tgram://…"
    with reading(api.engine) as session:
        assert session.scalars(select(BudgetAlert.apprise)).all() == [url]
    again = api.post("/api/budgets", "root", **budget, alerts=[{"threshold": 80, "apprise": "tgram://…"}])
    assert (again.status_code, "whole URL" in again.get_data(as_text=True)) == (422, True)
    for path in ("/api/budgets", "/api/audit-log"):
        assert "SecretToken" not in api.get(path, "root").get_data(as_text=True)


def test_urls_of_webhooks_are_secrets_that_nobody_is_shown(api: Api) -> None:
    hook, slack = "https://ann:pw@hooks.example:8443/in/SecretPath?t=SecretToken", "https://slack.example/SecretSlack"
    alerts = [{"threshold": 50, "webhook": hook}, {"threshold": 80, "slack_webhook": slack}]
    budget = {"name": "Cap", "scope": {"type": "global"}, "period": "daily", "limit_usd": "10"}
    made = api.post("/api/budgets", "root", **budget, alerts=alerts)
    path = f"/api/budgets/{made.get_json()['id']}"
    for user in ("root", "eve", "mia"):
        for answer in (made, api.get("/api/budgets", user), api.get(path, user)):
            assert "Secret" not in answer.text and "pw" not in answer.text
    shown = [each["webhook"] or each["slack_webhook"] for each in api.get(path, "eve").get_json()["alerts"]]
    assert shown == ["https://hooks.example/…", "https://slack.example/…"]


def test_a_shortened_url_that_is_sent_back_stands_for_the_whole_one(api: Api) -> None:
    def kept() -> list[tuple[str | None, str | None]]:
        with reading(api.engine) as session:
            rows = session.scalars(select(BudgetAlert).order_by(BudgetAlert.id))
            return [(row.webhook, row.apprise) for row in rows]

    hooks = [f"https://hooks.example/{name}" for name in "ab"]
    alerts: list[dict[str, Any]] = [{"threshold": 50, "webhook": hook} for hook in hooks]
    alerts.append({"threshold_usd": "2.5", "apprise": "tgram://123:abc/chat"})
    budget = {"name": "Cap", "scope": {"type": "global"}, "period": "daily", "limit_usd": "10"}
    made = api.post("/api/budgets", "root", **budget, alerts=alerts).get_json()
    path, shown = f"/api/budgets/{made['id']}", made["alerts"]
    before = kept()
    entries = len(api.get("/api/audit-log", "root").get_json()["items"])
    for answer in (api.patch(path, "root", alerts=shown), api.post("/api/budgets", "root", **budget, alerts=shown)):
        assert (answer.status_code, answer.get_json()["alerts"], kept()) == (200, shown, before)
    assert len(api.get("/api/audit-log", "root").get_json()["items"]) == entries
    for unclear in (shown[1:], [{"threshold": 60, "webhook": "https://hooks.example/…"}]):
        refused = api.patch(path, "root", alerts=unclear)
        assert (refused.status_code, "write the whole URL" in refused.text) == (422, True)
    assert kept() == before
    changed = api.patch(path, "root", alerts=[{"threshold": 50, "webhook": "https://hooks.example/c"}, shown[2]])
    assert changed.status_code == 200
    assert sorted(kept(), key=str) == sorted([("https://hooks.example/c", None), before[2]], key=str)


def test_a_threshold_may_be_an_amount_unless_the_budget_can_never_come_to_it(api: Api) -> None:
    alert = {"threshold_usd": "7.5", "email": "a@example.com"}
    given = {"name": "x", "scope": {"type": "global"}, "period": "daily", "limit_usd": "10"}
    made = api.post("/api/budgets", "root", **given, alerts=[alert]).get_json()
    assert [(each["threshold"], each["threshold_usd"]) for each in made["alerts"]] == [(None, "7.500000000")]
    path = f"/api/budgets/{made['id']}"
    for change in (
        {"limit_usd": "7"},
        {"limit_usd": None, "limit_tokens": 5},
        {"alerts": [{**alert, "threshold": 50}]},
        {"alerts": [{"threshold_usd": "0", "email": "a@example.com"}]},
    ):
        refused = api.send("PATCH", path, "root", json=change)
        assert (refused.status_code, refused.get_json()["error"]["details"][0]["field"][:6]) == (422, "alerts")
    assert api.send("PATCH", path, "root", json={"limit_usd": "7", "enforcement": "soft"}).status_code == 200
