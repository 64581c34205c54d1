"""Which price a call is booked at, in the contract's order; expected costs are worked out by hand.

Each call has 3 tokens in and 9 out. List prices (USD per million): gpt-4o 2.50 and 10, gpt-4o-mini 0.15 and 0.60.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.functional.house import House, marker


def book(house: House, name: str, **more: Any) -> tuple[Any, dict[str, Any]]:
    """One call to the model `name`; the answer and its row."""
    call = marker("price")
    raw = house.openai().chat.completions.with_raw_response.create(
        model=name, user=call, messages=[{"role": "user", "content": "one two three"}], **more
    )
    return raw, house.row(call)


@pytest.mark.parametrize(
    ("name", "cost", "version"),
    [
        ("gpt-4o", "0.000097500", "file:gpt-4o@"),
        ("dated", "0.000005850", "file:gpt-4o-mini-2024-07-18@"),  # not gpt-4o's, of which it is an extension
        ("renamed", "0.000097500", "file:gpt-4o@"),  # by its base_model
        ("exact", "0.000210000", "pricing:groq/llama-special@"),
        ("by-regex", "0.002100000", "pricing:groq/regex:llama.*@"),
        ("by-star", "0.021000000", "pricing:groq/*@"),
        ("own-price", "3.000000000", "entry:own-price@"),  # an entry's own price comes before `pricing`
    ],
)
def test_a_price_is_taken_in_the_contracts_order_and_named_on_the_row(
    house: House, name: str, cost: str, version: str
) -> None:
    raw, row = book(house, name)
    assert raw.headers["x-tt-cost-usd"] == row["cost_usd"] == cost
    assert row["cost_source"] == "priced"
    digest = row["price_version"].removeprefix(version)
    assert row["price_version"].startswith(version) and len(digest) == 12


@pytest.mark.parametrize("name", ["mine", "vllm"])
def test_a_model_of_ones_own_costs_nothing_and_says_why_although_the_price_file_knows_its_name(
    house: House, name: str
) -> None:
    raw, row = book(house, name)
    assert raw.headers["x-tt-cost-usd"] == row["cost_usd"] == "0.000000000"
    assert (row["cost_source"], row["price_version"], row["total_tokens"]) == ("local", "", 12)


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_price_is_null_and_counted_and_never_zero(house: House, stream: bool) -> None:
    before = house.summary(model="no-price-file-knows-me")["totals"]
    call = marker("unpriced")
    raw = house.openai().chat.completions.with_raw_response.create(
        model="unknown-to-all", user=call, stream=stream, messages=[{"role": "user", "content": "one two three"}]
    )
    if stream:
        assert len(list(raw.parse())) > 9
    assert "x-tt-cost-usd" not in raw.headers
    row = house.row(call)
    assert (row["cost_usd"], row["booked_cost_usd"], row["cost_source"]) == (None, None, "unpriced")
    assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (3, 9, "provider")
    after = house.summary(model="no-price-file-knows-me")["totals"]
    assert after["unpriced_calls"] == before["unpriced_calls"] + 1
    assert after["calls"] == before["calls"] + 1
    assert after["cost_usd"] == "0.000000000"
    assert [each["id"] for each in house.rows(cost_source="unpriced", end_user=call)] == [row["id"]]


def test_card_totals_rows_and_export_agree_to_the_last_nano_dollar(house: House) -> None:
    for name in ("gpt-4o", "fake-cached", "own-price", "exact"):
        book(house, name)
    rows = house.rows()
    assert len(rows) < 1000
    totals = house.summary()["totals"]
    nano = sum(int((row["cost_usd"] or "0").replace(".", "")) for row in rows)
    assert int(totals["cost_usd"].replace(".", "")) == nano
    assert totals["total_tokens"] == sum(row["total_tokens"] for row in rows)
    assert totals["attempts"] == len(rows)
    by_model = house.summary(group_by="model")["items"]
    assert sum(int(item["cost_usd"].replace(".", "")) for item in by_model) == nano
