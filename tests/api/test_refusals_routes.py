"""Refused calls, as accounts see them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.api.conftest import NOON, Api
from token_tracker.database.session import transaction
from token_tracker.services.refusals import book_refusals


def row(**more: Any) -> dict[str, Any]:
    base = {
        "hour": NOON, "code": "rate_limit_exceeded", "status": 429, "key_id": "k-ann", "user_id": "ann",
        "team_id": "red", "model": "gpt-4o", "endpoint": "/v1/chat/completions", "calls": 2,
    }  # fmt: skip
    return base | more


@pytest.fixture
def refused(engine: Engine) -> None:
    nobody = {"key_id": "", "user_id": "", "team_id": "", "model": "", "code": "invalid_api_key", "status": 401}
    with transaction(engine) as session:
        book_refusals(session, [row(), row(hour=NOON + timedelta(hours=1), calls=5), row(**nobody, calls=9)])
        book_refusals(session, [row(), row(user_id="ben", key_id="k-ben"), row(user_id="bob", team_id="blue")])


@pytest.mark.usefixtures("refused")
def test_they_are_summed_and_the_most_frequent_comes_first(api: Api) -> None:
    first, second, *_ = api.get("/api/refusals", "root").get_json()["items"]
    assert (first["code"], first["calls"]) in (("invalid_api_key", 9), ("rate_limit_exceeded", 9))
    ann = next(each for each in (first, second) if each["user"] == "ann")
    assert ann == {
        "code": "rate_limit_exceeded", "status": 429, "key_id": "k-ann", "user": "ann", "team": "red",
        "model": "gpt-4o", "endpoint": "/v1/chat/completions", "calls": 9,
        "first_hour": "2026-03-01T12:00:00Z", "last_hour": "2026-03-01T13:00:00Z",
    }  # fmt: skip


@pytest.mark.usefixtures("refused")
def test_each_filter_narrows_them(api: Api) -> None:
    def calls(**query: str) -> int:
        return sum(each["calls"] for each in api.get("/api/refusals", "root", **query).get_json()["items"])

    assert calls() == 22
    assert calls(code="invalid_api_key") == 9
    assert calls(key="k-ben") == 2 and calls(user="bob") == 2
    assert calls(team="red") == 11 and calls(model="gpt-4o") == 13
    assert calls(start="2026-03-01T13:00:00Z") == 5 and calls(end="2026-03-01T13:00:00Z") == 17


@pytest.mark.usefixtures("refused")
def test_an_account_sees_no_more_than_its_role_lets_it(api: Api) -> None:
    seen = {
        who: {each["user"] for each in api.get("/api/refusals", who).get_json()["items"]}
        for who in ("root", "eve", "mia", "ann")
    }
    everybody = {"", "ann", "ben", "bob"}
    assert seen == {"root": everybody, "eve": everybody, "mia": {"ann", "ben"}, "ann": {"ann"}}
    assert api.get("/api/refusals").status_code == 401


def test_a_question_that_makes_no_sense_is_refused(api: Api) -> None:
    for query in ("limit=0", "start=yesterday", "start=2026-01-02T00:00:00Z&end=2026-01-01T00:00:00Z"):
        assert api.send("GET", f"/api/refusals?{query}", "root").status_code == 422, query
