"""What was served and could not be metered, as accounts see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine

from tests.api.conftest import NOON, Api
from token_tracker.database.session import transaction
from token_tracker.services.objects import book_objects

UNMETERED = {"usage_source": "none", "cost_source": "unpriced", "cost_nano_usd": None, "endpoint": "POST /v1/batches"}
OBJECT: dict[str, Any] = {
    "kind": "response", "account": "a", "deployment": "gpt", "provider": "openai", "model": "gpt-4o", "team_id": "red",
    "user_id": "ann", "key_id": "k", "is_background": True, "created_at": NOON, "deleted_at": None, "node": "n",
}  # fmt: skip


def test_what_nobody_counted_is_told_by_kind_with_its_first_and_last_time(
    api: Api, booked: Callable[[Iterable[dict[str, Any]]], None]
) -> None:
    booked(
        [
            {"id": "a", **UNMETERED, "team_id": "red", "user_id": "ann", "request_bytes": 7, "response_bytes": 2**40},
            {
                "id": "b",
                **UNMETERED,
                "team_id": "red",
                "user_id": "ann",
                "timestamp": NOON + timedelta(hours=1),
                "request_bytes": 5,
            },
            {"id": "c", **UNMETERED, "team_id": "blue", "user_id": "bob"},
            {"id": "free", "usage_source": "none", "endpoint": "GET /v1/files"},
            {"id": "unpriced", "cost_source": "unpriced", "cost_nano_usd": None, "output_tokens": 5},
        ]
    )
    first, second = api.get("/api/unmetered", "root").get_json()["items"]
    assert first == {
        "endpoint": "POST /v1/batches", "provider": "openai", "model": "gpt-4o", "end_reason": "complete",
        "team": "red", "user": "ann", "key_id": "", "attempts": 2,
        "request_bytes": 12, "response_bytes": 2**40,
        "first_at": "2026-03-01T12:00:00Z", "last_at": "2026-03-01T13:00:00Z",
    }  # fmt: skip
    assert (second["team"], second["attempts"]) == ("blue", 1)
    later = api.get("/api/unmetered", "root", start="2026-03-01T12:30:00Z").get_json()["items"]
    assert [item["attempts"] for item in later] == [1]


def test_it_is_narrowed_to_what_an_account_may_see(
    api: Api, booked: Callable[[Iterable[dict[str, Any]]], None]
) -> None:
    booked([{"id": name, **UNMETERED, "user_id": name, "team_id": team}
            for name, team in (("ann", "red"), ("ben", "red"), ("bob", "blue"))])  # fmt: skip
    seen = {
        who: {item["user"] for item in api.get("/api/unmetered", who).get_json()["items"]}
        for who in ("root", "eve", "mia", "ann")
    }
    everybody = {"ann", "ben", "bob"}
    assert seen == {"root": everybody, "eve": everybody, "mia": {"ann", "ben"}, "ann": {"ann"}}
    assert api.get("/api/unmetered").status_code == 401


def test_a_background_response_is_no_longer_told_once_a_retrieval_metered_it(
    api: Api, engine: Engine, booked: Callable[[Iterable[dict[str, Any]]], None]
) -> None:
    booked([{"id": "one", **UNMETERED}, {"id": "two", **UNMETERED}])
    made = [{**OBJECT, "id": f"resp_{call}", "call_id": call, "metered_by": ""} for call in ("one", "two")]
    with transaction(engine) as session:
        book_objects(session, made, at=NOON)
        book_objects(session, [made[0] | {"metered_by": "three"}], at=NOON)
    [left] = api.get("/api/unmetered", "root").get_json()["items"]
    assert left["attempts"] == 1


def test_a_question_that_makes_no_sense_is_refused(api: Api) -> None:
    for query in ("limit=0", "limit=1001", "start=yesterday", "start=2026-01-02T00:00:00Z&end=2026-01-01T00:00:00Z"):
        assert api.send("GET", f"/api/unmetered?{query}", "root").status_code == 422, query
