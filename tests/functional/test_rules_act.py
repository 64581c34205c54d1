"""Budgets, rate limits and freezes made by the API are what the gateway goes by within two seconds."""

from __future__ import annotations

from typing import Any

import pytest

from tests.functional.house import House, marker
from tests.functional.installation import wait_until
from tests.functional.test_keys_act import ACTS_WITHIN_S, make_key, wait_until_it_acts

Answer = tuple[int, str, dict[str, str]]


@pytest.fixture
def key(house: House) -> dict[str, Any]:
    """A new key, so that no rule of a test meets another's calls."""
    made = make_key(house)
    wait_until_it_acts(house, made["key"], 200)
    return made


def chat(house: House, key: dict[str, Any], **more: Any) -> Answer:
    """Status, code and headers of a call."""
    body = {"model": "fake-plain", "messages": [{"role": "user", "content": "one two three"}], "max_tokens": 20}
    headers = {"authorization": f"Bearer {key['key']}"}
    url = f"{house.proxy_url}/v1/chat/completions"
    status, answered, _ = house.installation.call("POST", url, body | more, headers)
    return status, str(answered.get("x-tt-code", "")), {name.lower(): value for name, value in answered.items()}


def wait_until_answered(house: House, key: dict[str, Any], status: int, code: str = "", **more: Any) -> Answer:
    def as_expected() -> Answer | None:
        answer = chat(house, key, **more)
        return answer if answer[:2] == (status, code) else None

    answer: Answer = wait_until(as_expected, ACTS_WITHIN_S, f"{status} {code}")
    return answer


def scope(key: dict[str, Any]) -> dict[str, str]:
    return {"type": "key", "id": key["id"]}


def test_a_freeze_stops_a_key_and_is_taken_back(house: House, key: dict[str, Any]) -> None:
    other = make_key(house)
    made = house.api("POST", "/api/freezes", {"scope": scope(key), "reason": "incident 7"}, status=201)
    wait_until_answered(house, key, 403, "frozen")
    wait_until_it_acts(house, other["key"], 200)
    assert chat(house, other)[0] == 200
    house.api("DELETE", f"/api/freezes/{made['id']}", status=204)
    wait_until_answered(house, key, 200)


def test_a_rate_limit_acts_is_changed_and_deleted(house: House, key: dict[str, Any]) -> None:
    given = {"scope": scope(key), "limit": 0, "period": "day"}
    made = house.api("POST", "/api/rate-limits", given, status=201)
    _, _, headers = wait_until_answered(house, key, 429, "rate_limit_exceeded")
    assert int(headers["retry-after"]) >= 1
    house.api("PATCH", f"/api/rate-limits/{made['id']}", {"limit": 1000})
    _, _, headers = wait_until_answered(house, key, 200)
    assert headers["x-ratelimit-limit-requests"] == "1000"
    house.api("DELETE", f"/api/rate-limits/{made['id']}", status=204)
    name = "x-ratelimit-limit-requests"  # the upstream's own again
    wait_until(lambda: chat(house, key)[2].get(name) != "1000", ACTS_WITHIN_S, "no limit of ours")


def test_a_budget_refuses_is_topped_up_and_says_where_it_stands(house: House, key: dict[str, Any]) -> None:
    name = marker("budget")
    given = {"name": name, "scope": scope(key), "period": "daily", "limit_usd": "0.000000001"}
    made = house.api("POST", "/api/budgets", given, status=201)
    wait_until_answered(house, key, 402, "budget_exceeded")
    house.api("POST", f"/api/budgets/{made['id']}/top-up", {"amount_usd": "1"}, status=201)
    wait_until_answered(house, key, 200)

    def spent() -> dict[str, Any] | None:
        status: dict[str, Any] = house.api("GET", f"/api/budgets/{made['id']}/status")
        return status if float(status["spent_usd"]) > 0 and float(status["held_usd"]) == 0 else None

    status = wait_until(spent, 10, "the call in the status")
    assert (status["limit_usd"], status["unproven_usd"]) == ("1.000000001", "0.000000000")
    house.api("PATCH", f"/api/budgets/{made['id']}", {"enforcement": "alert"})
    house.api("DELETE", f"/api/budgets/{made['id']}", status=204)


def test_a_spent_budget_sends_calls_to_its_other_model(house: House, key: dict[str, Any]) -> None:
    exceeded = {"action": "downgrade", "model": "alias-of-plain", "downgrade_at": 1}
    given = {"name": "cheaper", "scope": scope(key), "period": "daily", "limit_usd": "0.005", "on_exceeded": exceeded}
    made = house.api("POST", "/api/budgets", given, status=201)
    wait_until(lambda: chat(house, key)[2].get("x-tt-model") == "alias-of-plain", ACTS_WITHIN_S, "the other model")
    house.api("DELETE", f"/api/budgets/{made['id']}", status=204)
