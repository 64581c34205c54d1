"""The worst case of a call: never below what it may cost, whatever tier, cache class or deployment serves it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from token_tracker.domain.bounds import NOTHING, Bound, Candidate, Extent, Facts, dearest, is_plain, worst_case
from token_tracker.domain.extras import Extras, ServiceTier
from token_tracker.domain.pricing import Choice, CostSource, cost_nano_usd, make_price
from token_tracker.domain.usage import Usage

RATES = {
    "input_cost_per_token": "0.000003",
    "output_cost_per_token": "0.000015",
    "cache_read_input_token_cost": "0.0000003",
    "cache_creation_input_token_cost": "0.00000375",
    "cache_creation_input_token_cost_above_1hr": "0.000006",
    "input_cost_per_token_above_200k_tokens": "0.000006",
    "output_cost_per_token_above_200k_tokens": "0.0000225",
    "input_cost_per_token_priority": "0.00001",
    "output_cost_per_token_priority": "0.00005",
}


def priced(rates: dict[str, str] | None = None) -> Choice:
    return Choice(CostSource.PRICED, make_price("file", "m", rates or RATES))


def candidate(provider: str = "anthropic", rates: dict[str, str] | None = None, **facts: int) -> Candidate:
    return Candidate(provider, "m", priced(rates), Facts(**facts))


def usd(bound: Bound, output: int) -> int:
    assert bound.usd_fixed_nano is not None
    return bound.usd_fixed_nano - (-bound.usd_per_output_pico * output // 1000)


def test_text_costs_its_bytes_at_the_rate_for_fresh_input() -> None:
    bound = worst_case(Extent(text_tokens=1000), [candidate()])
    assert usd(bound, 0) == 3_000_000
    assert usd(bound, 100) == 3_000_000 + 1_500_000
    assert (bound.tokens_fixed, bound.tokens_per_output) == (1000, 1)


def test_a_cache_write_is_held_at_the_rate_of_an_hour() -> None:
    assert usd(worst_case(Extent(text_tokens=1000, writes_cache=True), [candidate()]), 0) == 6_000_000


def test_a_provider_that_may_write_its_cache_unasked_is_held_at_that_rate() -> None:
    assert usd(worst_case(Extent(text_tokens=1000), [candidate("openrouter")]), 0) == 6_000_000


def test_inputs_that_are_referred_to_fill_a_context_window_each() -> None:
    many = Extent(text_tokens=10, is_open=True, outputs=0, windows=100)
    assert (
        usd(worst_case(many, [candidate(rates={"input_cost_per_token": "0.000001"}, context_tokens=8192)]), 0)
        == 819_200_000
    )


def test_a_film_that_is_referred_to_has_no_bound_where_the_model_bills_it_by_the_second() -> None:
    rates = {"input_cost_per_token": "0.0000008", "input_cost_per_video_per_second": "0.002"}
    model = candidate("vertex_ai", rates, context_tokens=2048)
    assert worst_case(Extent(text_tokens=10, is_open=True, outputs=0), [model]).usd_fixed_nano is None
    assert worst_case(Extent(text_tokens=10, outputs=0), [model]).usd_fixed_nano == 8_000


def test_a_fast_mode_is_held_at_its_rates_and_not_priced_where_there_are_none() -> None:
    fast = Extent(text_tokens=1000, tiers=(ServiceTier.STANDARD, ServiceTier.FAST))
    assert not worst_case(fast, [candidate()]).is_priced
    rates = RATES | {"input_cost_per_token_fast": "0.000018", "output_cost_per_token_fast": "0.00009"}
    assert usd(worst_case(fast, [candidate(rates=rates)]), 100) == 18_000_000 + 9_000_000


def test_a_price_whose_cache_is_dearer_to_read_than_fresh_input_is_held_at_that_rate() -> None:
    dear = {**RATES, "cache_read_input_token_cost": "0.000005"}
    assert usd(worst_case(Extent(text_tokens=1000), [candidate(rates=dear)]), 0) == 5_000_000


def test_a_prompt_that_may_reach_a_long_context_tier_is_held_at_its_rates() -> None:
    below, above = (worst_case(Extent(text_tokens=size), [candidate()]) for size in (200_000, 200_001))
    assert usd(below, 1) == 200_000 * 3_000 + 15_000
    assert usd(above, 1) == 200_001 * 6_000 + 22_500


def test_a_tier_that_the_request_selects_is_held_at_the_dearer_of_both() -> None:
    tiers = (ServiceTier.STANDARD, ServiceTier.PRIORITY)
    assert usd(worst_case(Extent(text_tokens=1000, tiers=tiers), [candidate()]), 10) == 10_000_000 + 500_000


def test_a_dearer_fallback_is_held_beforehand() -> None:
    dear = {"input_cost_per_token": "0.00003", "output_cost_per_token": "0.000001"}
    bound = worst_case(Extent(text_tokens=1000), [candidate(), candidate(rates=dear)])
    assert usd(bound, 100) == 30_000_000 + 1_500_000  # each part at the dearest of either


def test_several_answers_multiply_the_output() -> None:
    bound = worst_case(Extent(text_tokens=10, outputs=4), [candidate()])
    assert usd(bound, 100) - usd(bound, 0) == 4 * 1_500_000
    assert bound.tokens_per_output == 4


def test_an_inline_image_is_held_at_its_providers_maximum() -> None:
    bound = worst_case(Extent(text_tokens=100, images=2), [candidate()])
    assert bound.tokens_fixed == 100 + 2 * 5000


def test_the_demo_counts_no_image() -> None:
    assert worst_case(Extent(text_tokens=100, images=2), [candidate("demo")]).tokens_fixed == 100


def test_an_image_of_unknown_size_and_a_reference_are_held_at_the_context_window() -> None:
    known = candidate("groq", context_tokens=128_000)
    for extent in (Extent(text_tokens=100, images=1), Extent(text_tokens=100, is_open=True)):
        assert worst_case(extent, [known]).tokens_fixed == 128_000


def test_a_reference_without_a_known_context_window_has_no_bound() -> None:
    bound = worst_case(Extent(is_open=True), [candidate()])
    assert (bound.usd_fixed_nano, bound.tokens_fixed, bound.is_priced) == (None, None, True)
    assert bound.why.startswith("data of unknown size") and "'max_input_tokens'" in bound.why


def test_one_candidate_without_a_bound_leaves_the_call_without_one() -> None:
    bound = worst_case(Extent(is_open=True), [candidate(context_tokens=1000), candidate()])
    assert bound.usd_fixed_nano is None


def test_a_model_without_a_price_is_not_unbounded_but_unpriced() -> None:
    bound = worst_case(Extent(text_tokens=10), [Candidate("openai", "m", Choice(CostSource.UNPRICED))])
    assert (bound.usd_fixed_nano, bound.is_priced, bound.tokens_fixed) == (None, False, 10)


def test_a_price_that_names_no_output_leaves_a_talking_model_unpriced() -> None:
    assert not worst_case(Extent(text_tokens=10), [candidate(rates={"input_cost_per_token": "0.1"})]).is_priced


def test_what_nobody_bills_is_bounded_by_nothing_and_costs_nothing() -> None:
    free = {"input_cost_per_token": "0", "output_cost_per_token": "0"}
    for price in (Choice(CostSource.LOCAL), priced(free)):
        bound = worst_case(Extent(unbounded="a search"), [Candidate("ollama", "m", price)])
        assert (bound.usd_fixed_nano, bound.tokens_fixed) == (0, None)


def test_a_route_that_nobody_bills_costs_nothing_whatever_the_model() -> None:
    bound = worst_case(NOTHING, [Candidate("openai", "m", Choice(CostSource.UNPRICED))])
    assert (bound.usd_fixed_nano, bound.tokens_fixed, bound.is_priced) == (0, 0, True)


@pytest.mark.parametrize(
    ("extent", "rates", "nano"),
    [
        (Extent(outputs=0, characters=1000), {"input_cost_per_character": "0.000015"}, 15_000_000),
        (Extent(outputs=0, seconds=60), {"input_cost_per_second": "0.0001", "output_cost_per_second": "0"}, 6_000_000),
        (Extent(outputs=0, pictures=2), {"output_cost_per_image": "0.04"}, 80_000_000),
        (Extent(outputs=0, queries=3), {"input_cost_per_query": "0.002"}, 6_000_000),
    ],
)
def test_what_is_no_token_costs_its_number(extent: Extent, rates: dict[str, str], nano: int) -> None:
    assert usd(worst_case(extent, [candidate("groq", rates)]), 0) == nano


def test_the_models_maximum_is_the_largest_that_is_known_of_all() -> None:
    both = [candidate(output_tokens=10), candidate(output_tokens=20)]
    assert worst_case(Extent(), both).model_maximum == 20
    assert worst_case(Extent(), [*both, candidate()]).model_maximum is None


@given(
    parts=st.lists(st.integers(0, 100_000), min_size=4, max_size=4),
    output=st.integers(0, 50_000),
    reasoning=st.integers(0, 50_000),
    tier=st.sampled_from((ServiceTier.STANDARD, ServiceTier.PRIORITY)),
)
def test_no_split_of_a_prompt_into_classes_costs_more_than_was_held(
    parts: list[int], output: int, reasoning: int, tier: ServiceTier
) -> None:
    usage = Usage(*parts, output_tokens=output, reasoning_tokens=reasoning)
    price = priced().price
    assert price is not None
    extent = Extent(text_tokens=usage.prompt_tokens, writes_cache=True, tiers=(ServiceTier.STANDARD, tier))
    cost = cost_nano_usd(usage, price, Extras(tier=tier))
    assert cost is not None and Decimal(cost) <= usd(worst_case(extent, [candidate()]), usage.completion_tokens)


@pytest.mark.parametrize("model", ["perplexity/sonar", "openai/gpt-4o:online", "gemini-3-flash-preview-search"])
def test_models_that_search_by_themselves_do_so_behind_other_gateways_too(model: str) -> None:
    behind = Candidate("openrouter", model, priced(), Facts(128_000, 4096))
    assert worst_case(Extent(text_tokens=10), [behind]).usd_fixed_nano is None


SEARCHING = Candidate("openai", "gpt-4o-search-preview", priced(), Facts(output_tokens=100))
FREE = Candidate("ollama", "m", Choice(CostSource.LOCAL), Facts(context_tokens=8192))
WHOLE_FACTS = candidate("openai", output_tokens=4096, context_tokens=128_000)


@given(
    st.lists(st.sampled_from([candidate(), candidate("openrouter"), WHOLE_FACTS, FREE, SEARCHING]), min_size=1),
    st.integers(0, 400_000),
    st.one_of(st.none(), st.integers(0, 100_000)),
)
def test_what_is_found_once_for_all_plain_texts_is_their_worst_case(
    candidates: list[Candidate], text_tokens: int, own_maximum: int | None
) -> None:
    extent = Extent(text_tokens=text_tokens, own_maximum=own_maximum)
    assert is_plain(extent)
    known, whole = dearest(candidates), worst_case(extent, candidates)
    if known is None:
        assert SEARCHING in candidates and whole.why
    elif text_tokens < known.below_tokens:
        assert known.bound(text_tokens) == whole
    else:
        assert text_tokens > 200_000


@pytest.mark.parametrize(
    "more",
    [
        {"images": 1},
        {"audio_bytes": 1},
        {"is_open": True},
        {"unbounded": "it searches"},
        {"outputs": 2},
        {"extra_output_tokens": 1},
        {"writes_cache": True},
        {"speaks": True},
        {"tiers": (ServiceTier.PRIORITY,)},
        {"made_tokens": 1},
        {"queries": 1},
    ],
)
def test_whatever_else_is_asked_for_is_not_plain(more: dict[str, Any]) -> None:
    assert not is_plain(Extent(text_tokens=5, **more))


def test_a_text_without_a_price_is_not_found_once_for_all() -> None:
    assert dearest([Candidate("openai", "m", Choice(CostSource.UNPRICED))]) is None
    assert dearest([candidate(rates={"input_cost_per_token": "0.000001"})]) is None
    assert dearest([]) is None
