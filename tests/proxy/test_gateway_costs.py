"""What an answer says of its price, on the way to its row: the provider's bill, the service tier, the searches."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from tests.proxy.conftest import MakeHouse
from tests.proxy.house import House
from tests.proxy.upstream import DONE, Out, Seen, Upstream, delta, event

RATES = {
    "input_cost_per_token": Decimal("0.000001"),
    "input_cost_per_token_priority": Decimal("0.000002"),
    "output_cost_per_token": Decimal("0.000003"),
    "search_context_cost_per_query_medium": Decimal("0.01"),
}
COUNTED = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def offered(make_house: MakeHouse, upstream: Upstream, answer: dict[str, Any], **deployment: Any) -> House:
    async def whole(seen: Seen, out: Out) -> None:
        await out.whole(json.dumps(answer).encode())

    upstream.answer = whole
    house = make_house()
    house.configuration.models.exact["m"] = (house.deployment("m", **deployment),)  # type: ignore[index]
    return house


@pytest.mark.parametrize(
    ("provider", "usage"), [("openrouter", {"cost": 0.00014}), ("xai", {"cost_in_usd_ticks": 1_400_000})]
)
def test_a_providers_bill_is_the_cost_of_the_row_and_of_the_header(
    make_house: MakeHouse, upstream: Upstream, provider: str, usage: dict[str, Any]
) -> None:
    house = offered(make_house, upstream, {"id": "c", "usage": COUNTED | usage}, provider=provider, rates=None)
    reply = house.chat("m")
    row = house.row()
    assert reply.headers["x-tt-cost-usd"] == "0.000140000"
    assert (row.cost_nano_usd, row.cost_source, row.price_version) == (140_000, "provider", "")
    assert (row.usage_source, row.tokens[0], row.tokens[6]) == ("provider", 10, 5)


def test_a_bill_at_the_end_of_a_stream_is_the_cost_of_the_row(make_house: MakeHouse, upstream: Upstream) -> None:
    house = offered(make_house, upstream, {}, provider="openrouter", rates=None)
    bill = {"id": "c", "choices": [], "usage": COUNTED | {"cost": 0.25}}

    async def billed(seen: Seen, out: Out) -> None:
        await out.begin_stream()
        for part in (delta("Hi"), event(bill), DONE):
            await out.chunk(part)
        await out.end()

    upstream.answer = billed
    house.chat("m", stream=True)
    row = house.row()
    assert (row.cost_nano_usd, row.cost_source, row.end_reason) == (250_000_000, "provider", "complete")


def test_the_service_tier_of_the_answer_decides_the_rates(make_house: MakeHouse, upstream: Upstream) -> None:
    answer = {"id": "c", "service_tier": "priority", "usage": COUNTED}
    house = offered(make_house, upstream, answer, rates=RATES)
    house.chat("m")
    assert house.row().cost_nano_usd == 10 * 2000 + 5 * 3000


def test_a_search_of_the_web_is_paid_on_top(make_house: MakeHouse, upstream: Upstream) -> None:
    usage = {"input_tokens": 10, "output_tokens": 5, "server_tool_use": {"web_search_requests": 2}}
    house = offered(make_house, upstream, {"id": "m", "usage": usage}, provider="anthropic", rates=RATES)
    house.call({"model": "m", "max_tokens": 5, "messages": []}, "/v1/messages")
    assert house.row().cost_nano_usd == 10 * 1000 + 5 * 3000 + 20_000_000
