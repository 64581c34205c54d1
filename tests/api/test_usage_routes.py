"""Usage over HTTP: rows, export and sums in the contract's shape, each account within its reach."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from tests.api.conftest import SECRET
from token_tracker.api import errors
from token_tracker.api.app import create_app
from token_tracker.database.deadlines import TooSlow
from token_tracker.services import usage, usage_rows

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
Book = Callable[[Iterable[dict[str, Any]]], None]
ROW_OF_THE_CONTRACT = """
    id call_id attempt attempts timestamp endpoint lane stream requested_model model provider upstream_id
    upstream_request_id status_code end_reason input_tokens cache_read_tokens cache_write_5m_tokens
    cache_write_1h_tokens output_tokens reasoning_tokens prompt_tokens completion_tokens total_tokens
    usage_source cost_usd booked_cost_usd cost_source price_version latency_ms ttft_ms user team key_id agent
    session end_user tags request_metadata
"""
THEIRS = [
    {"id": "ann1", "user_id": "ann", "team_id": "red"},
    {"id": "ben1", "user_id": "ben", "team_id": "red"},
    {"id": "bob1", "user_id": "bob", "team_id": "blue"},
    {"id": "max1", "user_id": "max", "team_id": ""},
]


def test_a_row_has_the_shape_of_the_contract(api: Any, booked: Book) -> None:
    booked(
        [
            {
                "id": "c1",
                "input_tokens": 200,
                "cache_read_tokens": 800,
                "output_tokens": 10,
                "cost_nano_usd": 1_600_000,
                "tags": ["a"],
            },
            {"id": "c2", "cost_nano_usd": None, "cost_source": "unpriced", "timestamp": NOON - timedelta(seconds=1)},
        ]
    )
    answer = api.get("/api/token-usage", "root")
    assert answer.mimetype == "application/json"
    first, second = answer.get_json()["items"]
    assert set(first) >= set(ROW_OF_THE_CONTRACT.split())
    assert (first["prompt_tokens"], first["completion_tokens"], first["total_tokens"]) == (1000, 10, 1010)
    assert (first["cost_usd"], first["booked_cost_usd"]) == ("0.001600000", "0.001600000")
    assert (first["timestamp"], first["attempts"], first["stream"]) == ("2026-03-01T12:00:00Z", 1, False)
    assert [name for name, value in second.items() if value is None] == ["cost_usd", "booked_cost_usd"]


def test_pages_hold_100_rows_and_the_cursor_leads_on(api: Any, booked: Book) -> None:
    booked([{"id": f"{n:03d}", "timestamp": NOON + timedelta(seconds=n)} for n in range(101)])
    first = api.get("/api/token-usage", "root").get_json()
    second = api.get("/api/token-usage", "root", cursor=first["next_cursor"]).get_json()
    assert [row["id"] for row in first["items"] + second["items"]] == [f"{n:03d}" for n in reversed(range(101))]
    assert (len(first["items"]), second["next_cursor"]) == (100, None)
    assert len(api.get("/api/token-usage", "root", limit=1000).get_json()["items"]) == 101


@pytest.mark.parametrize(
    ("who", "seen"),
    [
        ("root", {"ann1", "ben1", "bob1", "max1"}),
        ("eve", {"ann1", "ben1", "bob1", "max1"}),
        ("mia", {"ann1", "ben1"}),
        ("max", {"max1"}),
        ("ann", {"ann1"}),
    ],
)
def test_an_account_sees_as_far_as_its_role_reaches_in_rows_export_and_sums(
    api: Any, booked: Book, who: str, seen: set[str]
) -> None:
    booked(THEIRS)
    assert {row["id"] for row in api.get("/api/token-usage", who).get_json()["items"]} == seen
    exported = api.get("/api/token-usage", who, format="jsonl").text.splitlines()
    assert {json.loads(line)["id"] for line in exported} == seen
    for group_by in ("user", "session"):
        summary = api.get("/api/token-usage/summary", who, group_by=group_by).get_json()
        assert summary["totals"]["calls"] == len(seen)
    assert api.get("/api/token-usage", who, user="bob").get_json()["items"] == [] or "bob1" in seen


def test_filters_are_read_from_the_query(api: Any, booked: Book) -> None:
    booked(
        [
            {"id": "a", "model": "gpt-4o", "tags": ["x"], "status_code": 429, "end_reason": "upstream_error"},
            {"id": "b", "model": "null", "session_id": "s", "timestamp": NOON + timedelta(hours=1)},
        ]
    )

    def found(**query: Any) -> list[str]:
        return [row["id"] for row in api.get("/api/token-usage", "root", **query).get_json()["items"]]

    assert found(model="null") == ["b"]
    assert found(status=429, end_reason="upstream_error", tag="x", lane="direct") == ["a"]
    assert found(session="") == ["a"]
    assert found(start="2026-03-01T13:00:00Z") == ["b"]
    assert found(end="2026-03-01T14:00:00+01:00") == ["a"]
    unescaped = api.send("GET", "/api/token-usage?end=2026-03-01T14:00:00+01:00", "root").get_json()
    assert [row["id"] for row in unescaped["items"]] == ["a"]


SENSELESS = [
    ("", "limit=0", "limit"),
    ("", "limit=1001", "limit"),
    ("", "limit=ten", "limit"),
    ("", "cursor=abc", "cursor"),
    ("", "cursor=abc&format=csv", "cursor"),
    ("", "start=yesterday", "start"),
    ("", "start=2026-01-01", "start"),
    ("", "start=2026-01-01T00:00:00", "start"),
    ("", "start=0001-01-01T00:00:00%2B14:00", "start"),
    ("", "start=2026-01-02T00:00:00Z&end=2026-01-01T00:00:00Z", "end"),
    ("", "status=null", "status"),
    ("", "status=99999999999999999999", "status"),
    ("", "end_reason=bored", "end_reason"),
    ("", "lane=fast", "lane"),
    ("", "format=xml", "format"),
    ("", "modell=gpt-4o", "modell"),
    ("", "model=a&model=b", "model"),
    ("", "model=a%00b", "model"),
    ("/summary", "group_by=cost", "group_by"),
    ("/summary", "group_by=day,,model", "group_by"),
    ("/summary", "group_by=day,day", "group_by"),
    ("/summary", "group_by=day,model,user,team", "group_by"),
    ("/summary", "timezone=Mars/Base", "timezone"),
    ("/summary", "timezone=../../etc/passwd", "timezone"),
    ("/summary", "timezone=Europe", "timezone"),
    ("/summary", "timezone=", "timezone"),
    ("/summary", "limit=5", "limit"),
]


def test_a_question_that_makes_no_sense_is_refused_by_the_name_of_its_field(api: Any) -> None:
    for path, query, field in SENSELESS:
        answer = api.send("GET", f"/api/token-usage{path}?{query}", "root")
        assert answer.status_code == 422, query
        assert [detail["field"] for detail in answer.get_json()["error"]["details"]] == [field]


def test_a_summary_has_the_shape_of_the_contract_and_skips_what_has_no_price(api: Any, booked: Book) -> None:
    plain = {"user_id": "ann", "output_tokens": 5, "reasoning_tokens": 2, "latency_ms": 3.0}
    booked(
        [
            {"id": "a", "cost_nano_usd": 250_000_001, **plain},
            {"id": "b", "cost_nano_usd": None, "cost_source": "unpriced", **plain},
            {"id": "c1", "call_id": "c2", "end_reason": "upstream_error", "status_code": 503},
            {"id": "c2", "attempt": 2, "cost_nano_usd": 1, "timestamp": NOON + timedelta(hours=13)},
        ]
    )
    summary = api.get("/api/token-usage/summary", "root", group_by="day,model", timezone="Asia/Tokyo").get_json()
    day, next_day = summary["items"]
    assert (day["day"], day["model"], next_day["day"]) == ("2026-03-01", "gpt-4o", "2026-03-02")
    assert (day["calls"], day["attempts"], day["errors"], day["unpriced_calls"]) == (2, 3, 0, 1)
    assert (day["output_tokens"], day["completion_tokens"], day["total_tokens"]) == (10, 14, 14)
    assert day["cost_usd"] == "0.250000001"
    assert summary["totals"]["cost_usd"] == "0.250000002"
    assert set(day["latency_ms"]) == {"p50", "p95", "p99"}
    assert 2.0 < day["latency_ms"]["p50"] <= 3.5
    assert "user" not in day
    assert "hour" not in day
    assert summary["missing_before"] is None
    totals_only = api.get("/api/token-usage/summary", "root").get_json()
    assert totals_only == {"items": [], "totals": summary["totals"], "missing_before": None}


def test_the_exports_are_files_and_hold_what_the_rows_hold(api: Any, booked: Book) -> None:
    booked([{"id": f"{n:04d}", "timestamp": NOON + timedelta(seconds=n), "agent": "=1+1"} for n in range(1203)])
    table = api.get("/api/token-usage", "root", format="csv")
    lines = api.get("/api/token-usage", "root", format="jsonl")
    assert (table.mimetype, lines.mimetype) == ("text/csv", "application/x-ndjson")
    assert table.headers["Content-Disposition"] == 'attachment; filename="token-usage.csv"'
    rows = list(csv.DictReader(io.StringIO(table.text, newline="")))
    assert len(rows) == len(lines.text.splitlines()) == 1203
    assert rows[0]["agent"] == "'=1+1"
    assert json.loads(lines.text.splitlines()[0]) == api.get("/api/token-usage", "root", limit=1).get_json()["items"][0]
    assert len(api.get("/api/token-usage", "root", format="jsonl", limit=7).text.splitlines()) == 7
    empty = api.get("/api/token-usage", "root", format="csv", model="none").text.splitlines()
    assert len(empty) == 1
    assert empty[0].startswith("id,call_id,")


def test_what_takes_too_long_is_ended_and_told_what_to_ask_instead(
    api: Any, booked: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export of the same rows has no bound."""
    booked(THEIRS)
    monkeypatch.setattr(errors, "ANSWER_WITHIN_S", 0.05)
    hurried = create_app(api.engine, SECRET).test_client()
    headers = {"Authorization": f"Bearer {api.token_of('root')}"}
    slow = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT max(i) FROM n")
    patient = usage_rows._select

    def slowly(session: Any, *args: Any) -> Any:
        assert session.scalar(slow) == 300_000
        return patient(session, *args)

    monkeypatch.setattr(usage_rows, "_select", slowly)
    answer = hurried.get("/api/token-usage?end_user=%3Cb%3E", headers=headers)
    assert (answer.status_code, answer.json["error"]["code"]) == (503, "too_slow")
    assert "GET /api/token-usage with end_user=<b> was ended after 0.05 s" in answer.json["error"]["message"]
    assert "Ask for a shorter time" in answer.json["error"]["message"]
    exported = hurried.get("/api/token-usage?format=jsonl", headers=headers)
    assert len(exported.data.splitlines()) == len(THEIRS)


def test_work_on_sums_that_takes_too_long_has_the_same_answer(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The statements were quick, and what they gave was too much."""

    def over(*_: object, **__: object) -> None:
        raise TooSlow("the time that reading may take is over")

    monkeypatch.setattr(usage, "summarize", over)
    answer = api.get("/api/token-usage/summary", "root", group_by="session")
    assert (answer.status_code, answer.json["error"]["code"]) == (503, "too_slow")
