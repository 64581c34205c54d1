"""What the gateway offers, over the API: where each name leads, at what price, whether it works, and no secret."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from token_tracker.config.load import load
from token_tracker.database.models import PriceRow
from token_tracker.database.session import transaction
from token_tracker.domain.pricing import version_of
from token_tracker.services import configuration as configured

Booked = Callable[[Iterable[dict[str, Any]]], None]
SECRET = "sk-the-key-of-the-provider"
FILE = """
model_list:
  - model_name: mine
    litellm_params: {model: openai/gpt-4o, api_key: "${KEY}", input_cost_per_token: 0.000001, order: 1}
  - model_name: mine
    litellm_params: {model: anthropic/claude-x, litellm_credential_name: prod, weight: 2}
  - {model_name: "groq/*", litellm_params: {model: "groq/*", api_key: "${KEY}"}}
  - {model_name: local, litellm_params: {model: openai/llama, api_base: "http://127.0.0.1:9/v1"}}
  - {model_name: forced, lane: litellm, litellm_params: {model: openai/gpt-4o, api_key: "${KEY}"}}
  - {model_name: nobody, litellm_params: {model: openai/no-such, api_key: "${KEY}"}}
  - {model_name: later, litellm_params: {model: openai/x, api_key: "${UNSET_KEY}"}}
router_settings: {model_group_alias: {nick: mine}}
pricing: {anthropic: {"regex:claude-.*": {input: 3, per: 1000000}}}
"""


@pytest.fixture
def offered(api: Any, tmp_path: Path) -> Any:
    """The API of an installation with `FILE`."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "proxy.yaml").write_text(FILE)
    configuration = load({"KEY": SECRET, "MISTRAL_API_KEY": SECRET}, tmp_path)
    at = datetime.now(UTC)
    rates = {"input_cost_per_token": "0.0000025", "output_cost_per_token": "0.00001"}
    listed = PriceRow(
        source="file", name="gpt-4o", version=version_of("file", "gpt-4o", rates), rates=rates,
        valid_from=at, created_at=at,
    )  # fmt: skip
    with transaction(api.engine) as session:
        session.add(listed)
        configured.apply(session, configuration, at)
    return api


def models(api: Any, who: str = "root", **query: Any) -> dict[str, dict[str, Any]]:
    answer = api.get("/api/models", who, limit=1000, **query)
    assert answer.status_code == 200, answer.text
    assert SECRET not in answer.text
    return {model["name"]: model for model in answer.get_json()["items"]}


def test_each_name_tells_its_deployments_lane_dialect_price_and_source(offered: Any) -> None:
    found = models(offered)
    first, second = found["mine"]["deployments"]
    assert (first["provider"], first["model"], first["lane"], first["dialects"]) == (
        "openai", "gpt-4o", "direct", ["openai"]
    )  # fmt: skip
    assert "responses" in first["formats"] and "messages" not in first["formats"]
    assert (first["order"], second["weight"], second["credential"], second["dialects"]) == (1, 2, "prod", ["anthropic"])
    assert found["forced"]["deployments"][0]["lane"] == "litellm" and not found["forced"]["deployments"][0]["formats"]
    assert found["nick"]["alias_of"] == "mine" and found["nick"]["deployments"] == found["mine"]["deployments"]
    assert (found["later"]["health"], found["later"]["deployments"]) == ("off", [])
    assert "UNSET_KEY" in found["later"]["reasons"][0]
    sources = {name: found[name]["source"] for name in ("mine", "nick", "later", "mistral/*")}
    assert sources == {"mine": "config", "nick": "config", "later": "config", "mistral/*": "environment"}


def test_prices_are_those_that_the_gateway_would_choose(offered: Any) -> None:
    def price(name: str, index: int = 0) -> tuple[str, dict[str, str]]:
        shown = models(offered)[name]["deployments"][index]["price"]
        return shown["source"], shown["rates"]

    assert price("mine") == ("entry", {"input_cost_per_token": "0.000001"})
    source, rates = price("mine", 1)
    assert source == "pricing" and Decimal(rates["input_cost_per_token"]) == Decimal("0.000003")
    assert price("local") == ("local", {}) and price("nobody") == ("unpriced", {}) and price("groq/*")[0] == "by_model"
    assert price("forced")[1]["output_cost_per_token"] == "0.00001"
    made = offered.post("/api/prices", "root", name="openai/gpt-4o", rates={"input_cost_per_token": "0.5"})
    assert made.status_code == 201
    assert price("forced") == ("override", {"input_cost_per_token": "0.5"})
    assert price("mine")[0] == "entry"


def test_health_is_what_the_books_say_of_the_last_hours(offered: Any, booked: Booked) -> None:
    def states() -> list[str]:
        return [each["health"] for each in models(offered)["mine"]["deployments"]]

    assert states() == ["unknown", "unavailable"]
    assert "'prod' does not exist" in models(offered)["mine"]["deployments"][1]["reason"]
    bad = {"timestamp": datetime.now(UTC), "end_reason": "upstream_error", "status_code": 500}
    booked([{"id": "a", **bad}])
    assert states()[0] == models(offered)["mine"]["health"] == models(offered)["forced"]["health"] == "failing"
    booked([{"id": f"good-{number}", "timestamp": datetime.now(UTC)} for number in range(3)])
    assert states()[0] == "degraded"
    booked([{"id": f"more-{number}", "timestamp": datetime.now(UTC)} for number in range(20)])
    assert states()[0] == "ok"


def test_everybody_who_is_logged_in_may_look_and_pages_cover_all(offered: Any) -> None:
    everything = models(offered)
    for who in ("mia", "ann", "eve"):
        assert models(offered, who) == everything
    assert offered.get("/api/models").status_code == 401
    names, cursor = [], None
    while True:
        query = {"limit": 7} | ({"cursor": cursor} if cursor else {})
        page = offered.get("/api/models", "root", **query).get_json()
        names += [model["name"] for model in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert sorted(names) == sorted(everything) and len(names) == len(set(names)) > 14
    assert set(models(offered, name="mine")) == {"mine"}
    assert "mistral/*" in models(offered, source="environment") and "mine" not in models(offered, source="environment")


@pytest.mark.parametrize(("name", "value"), [("cursor", "é"), ("cursor", "AA"), ("limit", "0"), ("source", "x")])
def test_a_question_that_makes_no_sense_is_named(offered: Any, name: str, value: str) -> None:
    answer = offered.get("/api/models", "root", **{name: value})
    assert answer.status_code == 422
    assert [detail["field"] for detail in answer.get_json()["error"]["details"]] == [name]
