"""What a call costs: the sums of the lessons worked out by hand, and properties that hold for any price."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from token_tracker.domain.pricing import Price, cost_nano_usd, make_price, version_of
from token_tracker.domain.usage import TOKEN_CLASSES, Usage

GPT_4O = make_price(
    "file",
    "gpt-4o",
    {
        "input_cost_per_token": "0.0000025",
        "cache_read_input_token_cost": "0.00000125",
        "output_cost_per_token": "0.00001",
    },
)
SONNET = make_price(
    "file",
    "claude-sonnet-4-5",
    {
        "input_cost_per_token": "0.000003",
        "cache_creation_input_token_cost": "0.00000375",
        "cache_creation_input_token_cost_above_1hr": "0.000006",
        "cache_read_input_token_cost": "0.0000003",
        "output_cost_per_token": "0.000015",
    },
)


def price(**rates: str) -> Price:
    return make_price("file", "m", rates)


def test_cached_tokens_are_not_charged_a_second_time_as_input() -> None:
    # 1000 in, of which 800 cached, 10 out: 200 x 2.5e-6 + 800 x 1.25e-6 + 10 x 1e-5 = 0.0005 + 0.001 + 0.0001
    usage = Usage(input_tokens=200, cache_read_tokens=800, output_tokens=10)
    assert cost_nano_usd(usage, GPT_4O) == 1_600_000


def test_a_one_hour_cache_write_costs_its_own_rate_and_not_the_five_minute_one() -> None:
    # 100 x 3e-6 + 500 x 3e-7 + 2000 x 6e-6 + 2000 x 1.5e-5 = 0.0003 + 0.00015 + 0.012 + 0.03 (not 0.03795)
    usage = Usage(input_tokens=100, cache_read_tokens=500, cache_write_1h_tokens=2000, output_tokens=2000)
    assert cost_nano_usd(usage, SONNET) == 42_450_000


def test_both_kinds_of_cache_write_are_charged_beside_each_other() -> None:
    # 1000 x 3.75e-6 + 1000 x 6e-6 = 0.00975
    assert cost_nano_usd(Usage(cache_write_5m_tokens=1000, cache_write_1h_tokens=1000), SONNET) == 9_750_000


def test_an_amount_below_a_millionth_of_a_dollar_is_kept() -> None:
    # 7 tokens of an embedding at 2e-8: six decimals would book 0
    assert cost_nano_usd(Usage(input_tokens=7), price(input_cost_per_token="2E-8")) == 140


def test_a_call_is_rounded_once_and_not_class_by_class() -> None:
    half = price(input_cost_per_token="0.0000000005", output_cost_per_token="0.0000000005")  # half a nano-dollar
    assert cost_nano_usd(Usage(input_tokens=1, output_tokens=1), half) == 1


@pytest.mark.parametrize(("tokens", "nano_usd"), [(1, 0), (3, 2), (5, 2), (7, 4)])
def test_half_a_nano_dollar_goes_to_the_even_neighbour(tokens: int, nano_usd: int) -> None:
    assert cost_nano_usd(Usage(input_tokens=tokens), price(input_cost_per_token="0.0000000005")) == nano_usd


def test_more_digits_than_a_float_or_the_default_decimal_context_has_do_not_round_twice() -> None:
    # 1.4999…9 (30 nines) nano-dollars is below the half; rounded to 28 digits first it would become 1.5 and then 2
    rate = price(input_cost_per_token="0.000000001" + "4" + "9" * 30)
    assert cost_nano_usd(Usage(input_tokens=1), rate) == 1


@pytest.mark.parametrize(
    ("usage", "rates", "nano_usd"),
    [
        (Usage(reasoning_tokens=10), {"output_cost_per_token": "0.00001"}, 100_000),
        (Usage(input_audio_tokens=10), {"input_cost_per_token": "0.000002"}, 20_000),
        (Usage(input_image_tokens=10), {"input_cost_per_token": "0.000002"}, 20_000),
        (Usage(output_audio_tokens=10), {"output_cost_per_token": "0.00001"}, 100_000),
        (Usage(output_image_tokens=10), {"output_cost_per_token": "0.00001"}, 100_000),
        (Usage(output_tokens=10), {"output_cost_per_image_token": "0.00004"}, 400_000),
        (Usage(cache_read_tokens=10), {"input_cost_per_token": "0.000002"}, 20_000),
        (Usage(cache_write_5m_tokens=10), {"input_cost_per_token": "0.000002"}, 20_000),
        (Usage(cache_write_1h_tokens=10), {"input_cost_per_token": "0.000002"}, 20_000),
        (Usage(cache_write_1h_tokens=10), {"cache_creation_input_token_cost": "0.000003"}, 30_000),
    ],
)
def test_a_class_without_a_rate_of_its_own_takes_the_one_it_is_a_kind_of(
    usage: Usage, rates: dict[str, str], nano_usd: int
) -> None:
    assert cost_nano_usd(usage, price(**rates)) == nano_usd


def test_each_class_takes_its_own_rate_where_the_price_names_one() -> None:
    # 1 + 2 + 3 + 4 + 5 + 6 + 7 + 8 + 9 + 10 tokens at 1, 10, 100, … nano-dollars: every digit shows its class
    rates = price(
        input_cost_per_token="1E-9",
        cache_read_input_token_cost="1E-8",
        cache_creation_input_token_cost="1E-7",
        cache_creation_input_token_cost_above_1hr="1E-6",
        input_cost_per_audio_token="1E-5",
        input_cost_per_image_token="1E-4",
        output_cost_per_token="1E-3",
        output_cost_per_reasoning_token="1E-2",
        output_cost_per_audio_token="1E-1",
        output_cost_per_image_token="1",
    )
    assert cost_nano_usd(Usage(1, 2, 3, 4, 5, 6, 7, 8, 9, 1), rates) == 1_987_654_321


def test_a_unit_that_the_price_does_not_know_is_unknown_and_never_free() -> None:
    assert cost_nano_usd(Usage(input_tokens=5, output_tokens=1), price(input_cost_per_token="0.000001")) is None
    assert cost_nano_usd(Usage(input_tokens=5), price(output_cost_per_token="0.000001")) is None


def test_a_price_per_character_tells_nothing_of_tokens() -> None:
    speech = price(input_cost_per_character="0.000015")
    assert cost_nano_usd(Usage(), speech) is None
    assert cost_nano_usd(Usage(input_tokens=5), speech) is None


def test_no_tokens_are_no_proof_of_no_cost_where_seconds_are_billed_too() -> None:
    speech = price(input_cost_per_token="0.0000006", output_cost_per_token="0", output_cost_per_second="0.00025")
    assert cost_nano_usd(Usage(), speech) is None
    assert cost_nano_usd(Usage(input_tokens=10), speech) == 6_000


def test_no_tokens_cost_nothing_where_only_tokens_are_billed() -> None:
    assert cost_nano_usd(Usage(), GPT_4O) == 0


def test_a_rate_of_zero_is_a_price_and_costs_nothing() -> None:
    assert cost_nano_usd(Usage(5, 4, 3), price(input_cost_per_token="0")) == 0


LONG = price(
    input_cost_per_token="0.000003",
    input_cost_per_token_above_200k_tokens="0.000006",
    output_cost_per_token="0.000015",
    output_cost_per_token_above_200k_tokens="0.0000225",
    cache_read_input_token_cost="0.0000003",
    cache_creation_input_token_cost="0.00000375",
    cache_creation_input_token_cost_above_1hr="0.000006",
    cache_creation_input_token_cost_above_1hr_above_200k_tokens="0.000012",
)


def test_a_long_prompt_bills_all_its_tokens_at_the_tier_also_the_output() -> None:
    # 200_001 x 6e-6 + 10 x 2.25e-5 = 1.200006 + 0.000225
    assert cost_nano_usd(Usage(input_tokens=200_001, output_tokens=10), LONG) == 1_200_231_000


def test_a_prompt_of_exactly_the_threshold_is_still_a_short_one() -> None:
    # 200_000 x 3e-6 + 10 x 1.5e-5 = 0.6 + 0.00015
    assert cost_nano_usd(Usage(input_tokens=200_000, output_tokens=10), LONG) == 600_150_000


def test_cached_tokens_count_towards_the_tier_and_a_class_without_the_tier_keeps_its_rate() -> None:
    # 200_001 in the prompt: 1 x 6e-6 + 199_990 x 3e-7 (no tier) + 10 x 1.2e-5 = 0.000006 + 0.059997 + 0.00012
    usage = Usage(input_tokens=1, cache_read_tokens=199_990, cache_write_1h_tokens=10)
    assert cost_nano_usd(usage, LONG) == 60_123_000


def test_output_does_not_count_towards_the_tier() -> None:
    # 10 x 3e-6 + 300_000 x 1.5e-5 = 0.00003 + 4.5
    assert cost_nano_usd(Usage(input_tokens=10, output_tokens=300_000), LONG) == 4_500_030_000


@pytest.mark.parametrize(("tokens", "nano_usd"), [(1000, 1000), (1001, 2002), (128_000, 256_000), (128_001, 384_003)])
def test_any_tier_is_read_and_the_highest_crossed_one_wins(tokens: int, nano_usd: int) -> None:
    rates = price(
        input_cost_per_token_above_128k_tokens="3E-9",
        input_cost_per_token_above_1000_tokens="2E-9",
        input_cost_per_token="1E-9",
    )
    assert cost_nano_usd(Usage(input_tokens=tokens), rates) == nano_usd


def test_batch_and_priority_rates_are_not_taken_for_the_ordinary_ones() -> None:
    rates = price(
        input_cost_per_token_batches="1",
        input_cost_per_token_priority="1",
        input_cost_per_token_above_272k_tokens_priority="1",
        input_cost_per_token="1E-9",
        output_cost_per_token_flex="1",
    )
    assert cost_nano_usd(Usage(input_tokens=300_000), rates) == 300_000
    assert cost_nano_usd(Usage(output_tokens=1), rates) is None


@pytest.mark.parametrize("rate", ["-0.000001", "NaN", "Infinity"])
def test_a_rate_that_is_no_amount_makes_no_price(rate: str) -> None:
    with pytest.raises(ValueError, match="input_cost_per_token"):
        price(input_cost_per_token=rate)


def test_a_price_cannot_be_edited_in_place() -> None:
    rates = {"input_cost_per_token": Decimal(1)}
    made = Price("v", "file", rates)
    rates["input_cost_per_token"] = Decimal(2)
    assert made.rates["input_cost_per_token"] == 1
    with pytest.raises(TypeError):
        made.rates["input_cost_per_token"] = Decimal(2)  # type: ignore[index]


def test_a_version_names_source_model_and_rates_whatever_their_notation() -> None:
    version = version_of("file", "m", {"a": "0.0000010", "b": "1"})
    assert version == version_of("file", "m", {"b": Decimal("1.00"), "a": "1E-6"})
    assert version.startswith("file:m@")
    others = [("file", "m", {"a": "0.000002", "b": "1"}), ("file", "n", {"a": "1E-6", "b": "1"})]
    others += [("override", "m", {"a": "1E-6", "b": "1"}), ("file", "m", {"a": "1", "b": "1E-6"})]
    assert len({version, *(version_of(*other) for other in others)}) == 5


def test_a_version_fits_its_column_and_long_names_stay_apart() -> None:
    versions = {version_of("override", "x" * 400 + end, {"a": "1"}) for end in ("y", "z")}
    assert {len(version) for version in versions} == {300}
    assert len(versions) == 2


# Properties. Rates from nothing to a dollar a token with up to 20 places; counts as large as any call's.
RATES = st.decimals(min_value=0, max_value=1, places=20, allow_nan=False)
COUNTS = st.integers(min_value=0, max_value=10**9)
USAGES = st.builds(Usage, *(COUNTS for _ in TOKEN_CLASSES))
FIELD_OF_CLASS = {
    "input_tokens": "input_cost_per_token",
    "cache_read_tokens": "cache_read_input_token_cost",
    "cache_write_5m_tokens": "cache_creation_input_token_cost",
    "cache_write_1h_tokens": "cache_creation_input_token_cost_above_1hr",
    "input_audio_tokens": "input_cost_per_audio_token",
    "input_image_tokens": "input_cost_per_image_token",
    "output_tokens": "output_cost_per_token",
    "reasoning_tokens": "output_cost_per_reasoning_token",
    "output_audio_tokens": "output_cost_per_audio_token",
    "output_image_tokens": "output_cost_per_image_token",
}
FULL_RATES = st.fixed_dictionaries(dict.fromkeys(FIELD_OF_CLASS.values(), RATES))


@given(USAGES, FULL_RATES)
def test_the_cost_is_the_exact_sum_of_tokens_times_rates(usage: Usage, rates: dict[str, Decimal]) -> None:
    exact = sum(
        (getattr(usage, name) * Fraction(rates[field]) for name, field in FIELD_OF_CLASS.items()), start=Fraction(0)
    )
    assert cost_nano_usd(usage, make_price("file", "m", rates)) == round(exact * 10**9)


@given(USAGES, USAGES, FULL_RATES)
def test_two_calls_cost_what_one_with_the_tokens_of_both_costs_but_for_the_rounding(
    one: Usage, other: Usage, rates: dict[str, Decimal]
) -> None:
    made = make_price("file", "m", rates)
    both = Usage(*(getattr(one, name) + getattr(other, name) for name in TOKEN_CLASSES))
    costs = [cost_nano_usd(usage, made) for usage in (one, other, both)]
    assert all(cost is not None for cost in costs)
    assert abs(costs[0] + costs[1] - costs[2]) <= 1  # type: ignore[operator]


@given(USAGES, st.sampled_from(TOKEN_CLASSES), FULL_RATES)
def test_one_more_token_never_costs_less(usage: Usage, token_class: str, rates: dict[str, Decimal]) -> None:
    made = make_price("file", "m", rates)
    more = Usage(**{name: getattr(usage, name) + (name == token_class) for name in TOKEN_CLASSES})
    before, after = cost_nano_usd(usage, made), cost_nano_usd(more, made)
    assert before is not None
    assert after is not None
    assert after >= before


@given(USAGES, st.dictionaries(st.sampled_from(sorted(FIELD_OF_CLASS.values())), RATES))
def test_a_cost_is_known_exactly_if_every_used_class_has_a_rate_to_stand_for_it(
    usage: Usage, rates: dict[str, Decimal]
) -> None:
    has_input, has_output = (
        "input_cost_per_token" in rates,
        bool({"output_cost_per_token", "output_cost_per_image_token"} & rates.keys()),
    )
    standing = {
        name: field in rates or (has_output if "output" in name or name == "reasoning_tokens" else has_input)
        for name, field in FIELD_OF_CLASS.items()
    }
    standing["cache_write_1h_tokens"] |= "cache_creation_input_token_cost" in rates
    known = bool(rates) and all(standing[name] for name in TOKEN_CLASSES if getattr(usage, name))
    assert (cost_nano_usd(usage, make_price("file", "m", rates)) is not None) == known


@given(FULL_RATES, st.randoms())
def test_the_order_of_the_rates_changes_nothing(rates: dict[str, Decimal], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(rates.items())
    random.shuffle(shuffled)
    assert version_of("file", "m", dict(shuffled)) == version_of("file", "m", rates)


@given(st.integers(min_value=1, max_value=2_000_000), st.integers(min_value=1, max_value=2_000))
def test_a_tier_holds_from_the_first_token_above_its_threshold(tokens: int, thousands: int) -> None:
    rates = price(**{"input_cost_per_token": "1E-9", f"input_cost_per_token_above_{thousands}k_tokens": "2E-9"})
    factor = 2 if tokens > thousands * 1000 else 1
    assert cost_nano_usd(Usage(input_tokens=tokens), rates) == tokens * factor
