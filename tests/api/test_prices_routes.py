"""Prices over HTTP: looked at, overridden, imported after a preview; no row is ever edited."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

RATES = {"input_cost_per_token": "0.0000025", "output_cost_per_token": "0.00001"}


def fields_of(answer: Any) -> set[str]:
    assert answer.status_code == 422, answer.text
    return {detail["field"] for detail in answer.get_json()["error"]["details"]}


def upload(api: Any, content: object, **query: str) -> Any:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    headers = {"Content-Type": "application/json"}
    return api.send("POST", "/api/prices/import", "root", data=body, headers=headers, query_string=query)


def test_an_override_is_a_row_and_ending_it_is_another(api: Any) -> None:
    made = api.post("/api/prices", "root", name="gpt-4o", rates=RATES)
    assert made.status_code == 201
    price = made.get_json()
    assert (price["source"], price["name"], price["rates"]) == ("override", "gpt-4o", RATES)
    assert api.delete(f"/api/prices/{price['id']}", "root").status_code == 204
    history = api.get("/api/prices", "eve", name="gpt-4o").get_json()["items"]
    assert [row["rates"] for row in history] == [None, RATES]
    assert api.delete(f"/api/prices/{history[0]['id']}", "root").status_code == 404
    for nothing in ("0", "x", "9" * 30):
        assert api.delete(f"/api/prices/{nothing}", "root").status_code == 404


def test_an_override_that_is_over_cannot_be_ended_in_place_of_its_successor(api: Any) -> None:
    dearer = {**RATES, "output_cost_per_token": "0.00002"}
    first, second = (api.post("/api/prices", "root", name="gpt-4o", rates=each).get_json() for each in (RATES, dearer))
    assert api.delete(f"/api/prices/{first['id']}", "root").status_code == 409
    assert api.get("/api/prices", "eve", name="gpt-4o").get_json()["items"][0] == second
    assert api.delete(f"/api/prices/{second['id']}", "root").status_code == 204
    assert api.delete(f"/api/prices/{second['id']}", "root").status_code == 409


def test_an_override_may_begin_later_but_not_in_the_past(api: Any) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    later = api.post("/api/prices", "root", name="gpt-4o", rates=RATES, valid_from=tomorrow.isoformat())
    assert datetime.fromisoformat(later.get_json()["valid_from"]) == tomorrow
    again = api.post("/api/prices", "root", name="gpt-4o", rates=RATES, valid_from=tomorrow.isoformat())
    assert again.status_code == 409
    past = api.post("/api/prices", "root", name="gpt-4o", rates=RATES, valid_from="2020-01-01T00:00:00Z")
    assert fields_of(past) == {"valid_from"}


@pytest.mark.parametrize(
    ("field", "rate"),
    [
        ("input_cost_per_tokn", "1"),
        ("input_cost_per_token", "-1"),
        ("input_cost_per_token", "NaN"),
        ("input_cost_per_token", "Infinity"),
        ("input_cost_per_token", "1e999999"),
        ("input_cost_per_token", "free"),
        ("input_cost_per_token", ""),
        ("input_cost_per_token", "1" * 50),
    ],
)
def test_a_rate_that_makes_no_sense_is_named(api: Any, field: str, rate: str) -> None:
    assert fields_of(api.post("/api/prices", "root", name="m", rates={field: rate})) == {f"rates.{field}"}


def test_numbers_are_no_rates_as_they_may_have_lost_digits_on_the_way(api: Any) -> None:
    answer = api.post("/api/prices", "root", name="m", rates={"input_cost_per_token": 0.0000025})
    assert {field.partition("[")[0] for field in fields_of(answer)} == {"rates"}


def test_a_file_is_compared_first_and_taken_over_only_when_told_so(api: Any) -> None:
    file = {"a": {"input_cost_per_token": 1e-6}, "b": {"input_cost_per_token": 2e-6}}
    shown = upload(api, file).get_json()
    assert (shown["dry_run"], shown["added"], shown["changed"]) == (True, 2, 0)
    assert api.get("/api/prices", "root").get_json()["items"] == []
    assert upload(api, file, dry_run="false").get_json()["added"] == 2
    file["b"]["input_cost_per_token"] = 3e-6
    del file["a"]
    shown = upload(api, file).get_json()
    assert {name: shown[name] for name in ("added", "changed", "unchanged", "missing")} == {
        "added": 0,
        "changed": 1,
        "unchanged": 0,
        "missing": 1,
    }
    assert shown["changes"] == [
        {
            "name": "b",
            "before": {"input_cost_per_token": "0.000002"},
            "after": {"input_cost_per_token": "0.000003"},
        }
    ]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": 1}', b"{}", b"\xff", b"[" * 100_000, b'{"a": {"mode": "x"}}'])
def test_what_is_no_price_file_is_refused_with_the_reason(api: Any, content: bytes) -> None:
    assert fields_of(upload(api, content)) == {"file"}


def test_a_number_of_a_million_digits_is_no_price(api: Any) -> None:
    content = b'{"a": {"input_cost_per_token": 1e999999999}, "b": {"input_cost_per_token": 1e-6}}'
    assert upload(api, content).get_json()["added"] == 1


def test_the_list_is_read_page_by_page(api: Any) -> None:
    for number in range(5):
        api.post("/api/prices", "root", name=f"m{number}", rates=RATES)
    seen, cursor = [], None
    while True:
        page = api.get("/api/prices", "root", limit=2, **({"cursor": cursor} if cursor else {})).get_json()
        seen += [row["name"] for row in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ["m4", "m3", "m2", "m1", "m0"]
    assert fields_of(api.get("/api/prices", "root", cursor="x")) == {"cursor"}


def test_models_without_a_price_are_listed_as_far_as_the_role_reaches(api: Any, booked: Any) -> None:
    unpriced = {"model": "new", "provider": "openai", "cost_source": "unpriced", "cost_nano_usd": None}
    booked(
        [
            {"id": f"{number:032x}", "user_id": user, "team_id": team, **unpriced}
            for number, (user, team) in enumerate([("ann", "red"), ("ann", "red"), ("bob", "blue")])
        ]
        + [{"id": "f" * 32, "user_id": "ann", "team_id": "red", "model": "known"}]
    )
    assert [(each["model"], each["calls"]) for each in api.get("/api/unpriced", "eve").get_json()["items"]] == [
        ("new", 3)
    ]
    assert [each["calls"] for each in api.get("/api/unpriced", "ann").get_json()["items"]] == [2]
    assert api.get("/api/unpriced", "ben").get_json()["items"] == []
