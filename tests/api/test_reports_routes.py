"""Reports over the API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.api.conftest import Api
from token_tracker.config.values import ReportEntry
from token_tracker.database.session import transaction
from token_tracker.services.configured_reports import follow_reports

WEEKLY: dict[str, Any] = {"name": "The week", "period": "weekly", "recipients": ["a@example.com", "a@example.com"]}


def test_a_report_is_made_changed_and_deleted_and_the_audit_log_says_so(api: Api) -> None:
    made = api.post("/api/reports", "root", **WEEKLY)
    assert made.status_code == 201
    report = made.get_json()
    assert (report["timezone"], report["hour"], report["team"], report["source"]) == ("UTC", 7, None, "api")
    assert report["recipients"] == ["a@example.com"]
    path = f"/api/reports/{report['id']}"
    changed = api.send("PATCH", path, "root", json={"team": "red", "hour": 0, "timezone": "Europe/Berlin"}).get_json()
    assert (changed["team"], changed["hour"], changed["timezone"]) == ("red", 0, "Europe/Berlin")
    assert api.get(path, "eve").get_json() == changed
    assert [each["id"] for each in api.get("/api/reports", "eve").get_json()["items"]] == [report["id"]]
    assert api.post("/api/reports", "root", **WEEKLY).status_code == 409
    assert api.send("DELETE", path, "root").status_code == 204
    assert api.get(path, "root").status_code == 404
    actions = [entry["action"] for entry in api.get("/api/audit-log", "root").get_json()["items"]]
    assert actions[:3] == ["report.delete", "report.update", "report.create"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("recipients", ["a@b\r\nBcc: c@d"]),
        ("recipients", ["a@b, c@d"]),
        ("recipients", []),
        ("name", "x\r\nBcc: c@d"),
        ("name", " "),
        ("period", "hourly"),
        ("timezone", "Mars"),
        ("hour", 24),
        ("team", "nobody"),
    ],
)
def test_what_cannot_be_is_refused_by_name(api: Api, field: str, value: object) -> None:
    refused = api.post("/api/reports", "root", **{**WEEKLY, field: value})
    assert refused.status_code in (400, 422)
    assert field in refused.get_data(as_text=True)
    assert api.get("/api/reports", "root").get_json()["items"] == []


def test_a_report_of_the_file_is_changed_there_only(api: Api) -> None:
    with transaction(api.engine) as session:
        follow_reports(
            session, [ReportEntry("Daily report", "daily", "UTC", 7, "", ("a@example.com",))], datetime.now(UTC)
        )
    (report,) = api.get("/api/reports", "root").get_json()["items"]
    assert report["source"] == "config"
    for method in ("PATCH", "DELETE"):
        assert api.send(method, f"/api/reports/{report['id']}", "root", json={}).status_code == 409
