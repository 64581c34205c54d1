"""Alert rules and mutes over the API: refused where they could never fire, kept with a remedy where nobody hears."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.api.conftest import Api
from tests.services.test_budget_alerts import a_budget
from token_tracker.config.alerts import default_rules
from token_tracker.config.values import AlertSettings, ChannelEntry, Mail
from token_tracker.database.session import transaction
from token_tracker.domain.alert_kinds import KINDS
from token_tracker.services.configured_alerts import follow_alerts

RULES = "/api/alerts/rules"
AT = datetime(2026, 3, 10, tzinfo=UTC)


def configure(api: Api, mail: Mail = Mail(), *channels: ChannelEntry) -> None:  # noqa: B008 (frozen)
    with transaction(api.engine) as session:
        follow_alerts(session, AlertSettings(tuple(default_rules().values()), channels), mail, AT)


def test_a_rule_is_made_shown_changed_by_its_state_and_deleted_and_the_audit_log_knows(api: Api) -> None:
    made = api.post(RULES, "root", name="Claude is ill", kind="upstream.errors", subject="claude", thresholds=["12.5"])
    rule = made.get_json()
    assert (made.status_code, rule["source"], rule["thresholds"], rule["unit"]) == (201, "api", [12.5], "%")
    assert (rule["severity"], rule["cooldown_s"], rule["channels"]) == ("critical", 3600, ["email"])
    assert rule["options"] == {"by": "model", "least_calls": 20}
    path = f"{RULES}/{rule['id']}"
    etag = api.get(path, "eve").headers["ETag"]
    quiet = {"from": "22:00", "to": "07:00", "timezone": "Europe/Berlin"}
    changes: dict[str, Any] = {"severity": "info", "quiet_hours": quiet}
    changed = api.send("PATCH", path, "root", json=changes, headers={"If-Match": etag})
    assert (changed.get_json()["quiet_hours"], changed.get_json()["thresholds"]) == (quiet, [12.5])
    late = api.send("PATCH", path, "root", json={"cooldown_s": 0}, headers={"If-Match": etag})
    assert late.status_code == 412
    assert api.send("DELETE", path, "eve").status_code == 403
    assert api.send("DELETE", path, "root").status_code == 204
    log = api.get("/api/audit-log", "root", object_type="alert_rule").get_json()["items"]
    assert [entry["action"].partition(".")[2] for entry in log] == ["delete", "update", "create"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"kind": "upstream.error"}, "kind"),
        ({"kind": "upstream.errors", "thresholds": [101]}, "thresholds[0]"),
        ({"kind": "upstream.errors", "thresholds": []}, "thresholds"),
        ({"kind": "upstream.errors", "options": {"by": "team"}}, "options.by"),
        ({"kind": "upstream.errors", "options": {"weeks": 4}}, "options.weeks"),
        ({"kind": "budget.unproven", "subject": "nothing"}, "subject"),
        ({"kind": "budget.unproven", "subject": "b1"}, "subject"),
        ({"kind": "budget.forecast", "subject": "b1"}, "subject"),
        ({"kind": "key.expiring", "subject": "nokey"}, "subject"),
        ({"kind": "usage.unpriced", "channels": ["a b"]}, "channels[0]"),
        ({"kind": "usage.unpriced", "quiet_hours": {"from": "22:00", "to": "22:00"}}, "quiet_hours"),
        ({"kind": "usage.unpriced", "quiet_hours": {"from": "24:00", "to": "07:00"}}, "quiet_hours.from"),
        ({"kind": "store.away", "quiet_hours": {"from": "22:00", "to": "07:00"}}, "quiet_hours"),
    ],
)
def test_a_rule_that_can_never_fire_or_speak_is_refused(api: Api, fields: dict[str, Any], field: str) -> None:
    with transaction(api.engine) as session:
        a_budget(session, enforcement="soft", period="hourly")
    answer = api.post(RULES, "root", name="x", **fields)
    assert (answer.status_code, answer.get_json()["error"]["details"][0]["field"]) == (422, field)


def test_without_configuration_there_are_rules_that_say_what_is_missing_for_them_to_be_heard(api: Api) -> None:
    configure(api)
    rules = api.get(RULES, "eve").get_json()["items"]
    assert {rule["kind"] for rule in rules} == {kind.name for kind in KINDS.values() if kind.default}
    assert {rule["source"] for rule in rules} == {"config"}
    assert {tuple(rule["warnings"]) for rule in rules} == {
        ("The channel 'email' reaches nobody: set NOTIFICATION_EMAIL.",)
    }
    configure(api, Mail(recipient="ops@example.com"))
    assert "set SMTP_SERVER" in api.get(RULES, "eve").get_json()["items"][0]["warnings"][0]
    configure(api, Mail(server="mail.example.com", recipient="ops@example.com"))
    assert api.get(RULES, "eve").get_json()["items"][0]["warnings"] == []
    path = f"{RULES}/{rules[0]['id']}"
    assert api.send("PATCH", path, "root", json={"cooldown_s": 1}).status_code == 409
    assert api.send("DELETE", path, "root").status_code == 409


def test_a_rule_for_a_channel_that_is_not_there_is_kept_and_names_the_remedy(api: Api) -> None:
    configure(api)
    made = api.post(RULES, "root", name="x", kind="usage.unpriced", channels=["chat"]).get_json()
    assert made["warnings"] == ["There is no channel 'chat': add it under alerts.channels in proxy.yaml."]
    configure(api, Mail(), ChannelEntry("chat", "slack", "https://hooks.example.com/T0/secret"))
    shown = api.get(f"{RULES}/{made['id']}", "eve")
    assert shown.get_json()["warnings"] == []
    assert "secret" not in shown.get_data(as_text=True)
    assert api.post(RULES, "root", name="x", kind="usage.unpriced").status_code == 409


def test_a_mute_names_a_rule_and_a_time_and_can_be_ended(api: Api) -> None:
    configure(api)
    until = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    made = api.post("/api/alerts/mutes", "root", rule="Unpriced traffic", until=until, reason="known")
    assert (made.status_code, made.get_json()["rule_id"][:5]) == (201, "rule_")
    assert api.post("/api/alerts/mutes", "eve", until=until).status_code == 403
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    assert api.post("/api/alerts/mutes", "root", rule="no such", until=past).status_code == 422
    listed = api.get("/api/alerts/mutes", "eve").get_json()["items"]
    assert [mute["reason"] for mute in listed] == ["known"]
    assert api.send("DELETE", f"/api/alerts/mutes/{listed[0]['id']}", "root").status_code == 204
    assert api.get("/api/alerts/mutes", "eve").get_json()["items"] == []
