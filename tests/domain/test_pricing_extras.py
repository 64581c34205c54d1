"""What is billed beside tokens: service tiers, other units, searches, and the provider's own bill."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from token_tracker.domain.extras import Extras, ServiceTier, service_tier
from token_tracker.domain.pricing import Choice, CostSource, Price, cost_nano_usd, cost_of, make_price
from token_tracker.domain.usage import NO_USAGE, TOKEN_CLASSES, Usage

# OpenAI's list for gpt-5: 1.25 and 10 USD for a million tokens; half of it flex and batch, twice with priority.
GPT_5 = make_price(
    "file",
    "gpt-5",
    {
        "input_cost_per_token": "0.00000125",
        "input_cost_per_token_batches": "0.000000625",
        "input_cost_per_token_flex": "0.000000625",
        "input_cost_per_token_priority": "0.0000025",
        "cache_read_input_token_cost": "0.000000125",
        "cache_read_input_token_cost_flex": "0.0000000625",
        "output_cost_per_token": "0.00001",
        "output_cost_per_token_batches": "0.000005",
        "output_cost_per_token_flex": "0.000005",
        "output_cost_per_token_priority": "0.00002",
        "search_context_cost_per_query_low": "0.01",
        "search_context_cost_per_query_medium": "0.025",
    },
)
CALL = Usage(input_tokens=1000, cache_read_tokens=1000, output_tokens=100)


def price(**rates: str) -> Price:
    return make_price("file", "m", rates)


def cost(usage: Usage, price: Price, **extras: object) -> int | None:
    return cost_nano_usd(usage, price, Extras(**extras))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("told", "nano_usd"),
    [
        ("default", 1_250_000 + 125_000 + 1_000_000),
        ("flex", 625_000 + 62_500 + 500_000),
        # No priority rate for cached input: it keeps its ordinary one, as LiteLLM computes it.
        ("priority", 2_500_000 + 125_000 + 2_000_000),
        ("fast", 2_500_000 + 125_000 + 2_000_000),
        # No batch rate for cached input: no discount on a discount is known, so it is input.
        ("batch", 625_000 + 625_000 + 500_000),
        ("scale", 1_250_000 + 125_000 + 1_000_000),
    ],
)
def test_a_call_is_billed_at_the_service_tier_that_its_answer_names(told: str, nano_usd: int) -> None:
    assert cost(CALL, GPT_5, tier=service_tier(told)) == nano_usd


def test_a_tier_that_a_price_does_not_know_is_the_ordinary_one_but_for_batches() -> None:
    plain = price(input_cost_per_token="0.000001", output_cost_per_token="0.000002")
    tiers = {tier: cost(Usage(10, output_tokens=5), plain, tier=tier) for tier in ServiceTier}
    assert tiers.pop(ServiceTier.BATCH) is None
    assert set(tiers.values()) == {20_000}


def test_reasoning_is_output_of_the_same_tier() -> None:
    rates = price(
        input_cost_per_token="1E-9",
        output_cost_per_token="2E-9",
        output_cost_per_token_priority="4E-9",
        output_cost_per_reasoning_token="3E-9",
    )
    assert cost(Usage(reasoning_tokens=1), rates) == 3
    assert cost(Usage(reasoning_tokens=1), rates, tier=ServiceTier.PRIORITY) == 4


def test_a_long_prompt_takes_the_long_rate_of_its_tier_and_the_ordinary_long_rate_where_there_is_none() -> None:
    rates = price(
        input_cost_per_token="1E-9",
        input_cost_per_token_priority="2E-9",
        input_cost_per_token_above_272k_tokens="3E-9",
        input_cost_per_token_above_272k_tokens_priority="6E-9",
        output_cost_per_token="1E-9",
        output_cost_per_token_priority="5E-9",
        output_cost_per_token_above_272k_tokens="4E-9",
    )
    short, long = Usage(272_000, output_tokens=1), Usage(272_001, output_tokens=1)
    assert cost(short, rates, tier=ServiceTier.PRIORITY) == 544_000 + 5
    assert cost(long, rates, tier=ServiceTier.PRIORITY) == 1_632_006 + 4
    assert cost(long, rates) == 816_003 + 4


def test_images_in_a_batch_are_not_sold_at_the_batch_price_of_text() -> None:
    rates = price(
        input_cost_per_token="1E-9",
        input_cost_per_token_batches="1E-9",
        output_cost_per_token="2E-9",
        output_cost_per_token_batches="1E-9",
        output_cost_per_image_token="1E-7",
    )
    assert cost(Usage(output_image_tokens=5), rates, tier=ServiceTier.BATCH) is None
    assert cost(Usage(output_tokens=5), rates, tier=ServiceTier.BATCH) == 5
    assert cost(Usage(output_image_tokens=5), rates) == 500


@pytest.mark.parametrize(
    ("rates", "extras", "nano_usd"),
    [
        ({"input_cost_per_character": "0.000015"}, {"characters": 11}, 165_000),
        ({"output_cost_per_image": "0.04"}, {"images": 3}, 120_000_000),
        ({"input_cost_per_image": "0.011"}, {"images": 2}, 22_000_000),
        # Groq names a second of audio twice, once as 0; OpenAI twice at the same rate: it is paid once.
        ({"input_cost_per_second": "0.0001", "output_cost_per_second": "0"}, {"seconds": Decimal("2.5")}, 250_000),
        ({"input_cost_per_second": "0.0001", "output_cost_per_second": "0.0001"}, {"seconds": Decimal(60)}, 6_000_000),
        ({"input_cost_per_query": "0.002", "input_cost_per_token": "0"}, {"queries": 4}, 8_000_000),
    ],
)
def test_a_unit_that_is_no_token_is_billed_at_its_own_rate(
    rates: dict[str, str], extras: dict[str, object], nano_usd: int
) -> None:
    assert cost(NO_USAGE, price(**rates), **extras) == nano_usd


def test_characters_are_billed_in_place_of_the_tokens_that_count_the_same_text() -> None:
    rates = price(input_cost_per_character="0.000001", input_cost_per_token="0.000005", output_cost_per_token="0.00001")
    assert cost(Usage(input_tokens=7, output_tokens=1), rates, characters=30) == 30_000 + 10_000
    assert cost(Usage(input_tokens=7, output_tokens=1), rates) == 35_000 + 10_000


def test_an_image_that_was_counted_in_tokens_is_not_billed_a_second_time() -> None:
    rates = price(input_cost_per_token="1E-6", output_cost_per_image_token="3E-5", output_cost_per_image="0.039")
    assert cost(Usage(input_tokens=10, output_image_tokens=1290), rates, images=1) == 10_000 + 38_700_000
    assert cost(NO_USAGE, rates, images=1) == 39_000_000


@pytest.mark.parametrize("unit", ["characters", "images", "queries"])
def test_a_unit_without_a_rate_is_unknown_and_never_free_unless_tokens_count_the_same(unit: str) -> None:
    tokens = price(input_cost_per_token="0.000001", output_cost_per_token="0.000002")
    assert cost(NO_USAGE, tokens, **{unit: 1}) is None
    counted = Usage(output_tokens=3) if unit == "images" else Usage(input_tokens=3)
    assert cost(counted, tokens, **{unit: 1}) == (6_000 if unit == "images" else 3_000)


def test_the_prompt_of_an_image_does_not_stand_for_the_image() -> None:
    tokens = price(input_cost_per_token="0.000001", output_cost_per_image_token="0.00003")
    assert cost(Usage(input_tokens=3), tokens, images=1) is None


def test_a_price_for_images_alone_has_the_text_of_the_prompt_in_it() -> None:
    assert cost(Usage(input_tokens=3), price(output_cost_per_image="0.04"), images=1) == 40_000_000
    assert cost(Usage(input_tokens=3), price(output_cost_per_image="0.04"), characters=1) is None


def test_searches_are_paid_on_top_of_the_tokens_by_the_size_of_their_context() -> None:
    assert cost(Usage(1000), GPT_5, searches=2, search_size="low") == 1_250_000 + 20_000_000
    assert cost(Usage(1000), GPT_5, searches=2) == 1_250_000 + 50_000_000


def test_a_search_at_a_price_that_does_not_name_one_leaves_the_call_unpriced() -> None:
    assert cost(Usage(1000), GPT_5, searches=1, search_size="high") is None
    assert cost(Usage(1000), price(input_cost_per_token="0.000001"), searches=1) is None


PROVIDER = Extras(cost_usd=Decimal("0.0037756"))


def test_a_providers_own_bill_goes_before_the_price_file_and_before_nothing() -> None:
    for choice in (Choice(CostSource.PRICED, GPT_5), Choice(CostSource.UNPRICED), Choice(CostSource.LOCAL)):
        booked = cost_of(CALL, choice, PROVIDER)
        assert (booked.nano_usd, booked.source, booked.version) == (3_775_600, CostSource.PROVIDER, "")


@pytest.mark.parametrize("source", ["entry", "override", "pricing"])
def test_a_price_that_the_user_gave_goes_before_the_providers_bill(source: str) -> None:
    given = make_price(source, "m", {"input_cost_per_token": "0.000001"})
    booked = cost_of(Usage(input_tokens=5), Choice(CostSource.PRICED, given), PROVIDER)
    assert (booked.nano_usd, booked.source, booked.version) == (5_000, CostSource.PRICED, given.version)


def test_a_bill_of_nothing_is_a_bill() -> None:
    booked = cost_of(CALL, Choice(CostSource.UNPRICED), Extras(cost_usd=Decimal(0)))
    assert (booked.nano_usd, booked.source) == (0, CostSource.PROVIDER)


COUNTS = st.integers(min_value=0, max_value=10**9)


@given(st.builds(Usage, *(COUNTS for _ in TOKEN_CLASSES)))
def test_a_tier_whose_rates_are_the_ordinary_ones_changes_no_cost(usage: Usage) -> None:
    rates = {"input_cost_per_token": "1E-6", "output_cost_per_token": "2E-6", "cache_read_input_token_cost": "1E-7"}
    tiers = {f"{name}_{tier}": rate for tier in ServiceTier if tier for name, rate in rates.items()}
    made = price(**rates, **tiers)
    assert {cost(usage, made, tier=tier) for tier in ServiceTier} == {cost(usage, price(**rates))}
