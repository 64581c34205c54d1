"""Every provider's counting in disjoint classes. Expected numbers are written by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from token_tracker.domain.usage import Usage
from token_tracker.proxy.dialects.counts import count, exclusive_usage, inclusive_usage

ODD = st.sampled_from([None, -1, 1.5, 12.0, float("nan"), float("inf"), 1e300, 10**30, "12", True, [], {}])
COUNTS = st.integers(0, 5000) | ODD
DETAILS = st.none() | st.dictionaries(
    st.sampled_from(["cached_tokens", "audio_tokens", "image_tokens", "reasoning_tokens", "cache_write_tokens"]), COUNTS
)
OPENAI = st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": COUNTS,
        "completion_tokens": COUNTS,
        "total_tokens": COUNTS,
        "prompt_tokens_details": DETAILS,
        "completion_tokens_details": DETAILS,
        "prompt_cache_hit_tokens": COUNTS,
    },
)
ANTHROPIC = st.fixed_dictionaries(
    {},
    optional={
        "input_tokens": COUNTS,
        "output_tokens": COUNTS,
        "cache_read_input_tokens": COUNTS,
        "cache_creation_input_tokens": COUNTS,
        "cache_creation": st.none()
        | st.dictionaries(st.sampled_from(["ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"]), COUNTS),
        "output_tokens_details": st.none() | st.dictionaries(st.just("thinking_tokens"), COUNTS),
        "iterations": st.none() | st.lists(st.none() | st.just({"type": "compaction", "input_tokens": 3})),
    },
)


def usage(prompt: int, completion: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **more}


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        (usage(10, 5), Usage(input_tokens=10, output_tokens=5)),
        (usage(10, 5, prompt_tokens_details=None, completion_tokens_details=None), Usage(10, output_tokens=5)),
        (  # lesson 1: cached tokens are part of the prompt
            usage(1000, 10, prompt_tokens_details={"cached_tokens": 800}),
            Usage(input_tokens=200, cache_read_tokens=800, output_tokens=10),
        ),
        (
            usage(
                100,
                90,
                prompt_tokens_details={"cached_tokens": 30, "audio_tokens": 20, "image_tokens": 10},
                completion_tokens_details={"reasoning_tokens": 40, "audio_tokens": 20, "image_tokens": 5},
            ),
            Usage(40, 30, 0, 0, 20, 10, 25, 40, 20, 5),
        ),
        (  # DeepSeek
            usage(100, 5, prompt_cache_hit_tokens=64, prompt_cache_miss_tokens=36),
            Usage(input_tokens=36, cache_read_tokens=64, output_tokens=5),
        ),
        (usage(100, 5, cached_tokens=64), Usage(input_tokens=36, cache_read_tokens=64, output_tokens=5)),  # Moonshot
        (  # OpenRouter
            usage(100, 5, prompt_tokens_details={"cached_tokens": 10, "cache_write_tokens": 60}),
            Usage(input_tokens=30, cache_read_tokens=10, cache_write_5m_tokens=60, output_tokens=5),
        ),
        (  # LiteLLM translating Anthropic: cache counts in three spellings, all of them parts of the prompt
            usage(
                2800,
                40,
                prompt_tokens_details={
                    "cached_tokens": 2000,
                    "cache_write_tokens": 700,
                    "cache_creation_tokens": 700,
                    "cache_creation_token_details": {
                        "ephemeral_5m_input_tokens": 300,
                        "ephemeral_1h_input_tokens": 400,
                    },
                },
                cache_creation_input_tokens=700,
                cache_read_input_tokens=2000,
            ),
            Usage(100, 2000, 300, 400, output_tokens=40),
        ),
        (  # xAI: reasoning beside the completion
            {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 135,
                "completion_tokens_details": {"reasoning_tokens": 94},
            },
            Usage(input_tokens=32, output_tokens=9, reasoning_tokens=94),
        ),
        (  # Gemini's compatible route: thoughts in the total alone
            {"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 141},
            Usage(input_tokens=32, output_tokens=9, reasoning_tokens=100),
        ),
        (  # a server that leaves what was cached out of the prompt
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 105,
                "prompt_tokens_details": {"cached_tokens": 90},
            },
            Usage(input_tokens=10, cache_read_tokens=90, output_tokens=5),
        ),
        (  # parts larger than their whole
            usage(
                10, 5, prompt_tokens_details={"cached_tokens": 50}, completion_tokens_details={"reasoning_tokens": 9}
            ),
            Usage(cache_read_tokens=10, reasoning_tokens=5),
        ),
        (  # Responses
            {
                "input_tokens": 75,
                "input_tokens_details": {"cached_tokens": 32},
                "output_tokens": 1186,
                "output_tokens_details": {"reasoning_tokens": 1024},
                "total_tokens": 1261,
            },
            Usage(input_tokens=43, cache_read_tokens=32, output_tokens=162, reasoning_tokens=1024),
        ),
        ({"prompt_tokens": 12.0, "completion_tokens": None}, Usage(input_tokens=12)),
        ({"prompt_tokens": 7}, Usage(input_tokens=7)),
        ({}, None),
        ({"prompt_tokens": None, "completion_tokens": "5", "total_tokens": 1e300}, None),
        (None, None),
        ([], None),
        ("12", None),
    ],
)
def test_openai_style_totals_are_taken_apart(reported: Any, expected: Usage | None) -> None:
    assert inclusive_usage(reported) == expected


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ({"input_tokens": 10, "output_tokens": 5}, Usage(input_tokens=10, output_tokens=5)),
        (  # lessons 1 and 2: cache counts stand beside input_tokens, and 1-hour writes are a class of their own
            {
                "input_tokens": 100,
                "cache_read_input_tokens": 2000,
                "cache_creation_input_tokens": 700,
                "cache_creation": {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 400},
                "output_tokens": 40,
            },
            Usage(100, 2000, 300, 400, output_tokens=40),
        ),
        (
            {"input_tokens": 1, "cache_creation_input_tokens": 700, "cache_creation": None, "output_tokens": 2},
            Usage(1, 0, 700, output_tokens=2),
        ),
        (
            {"input_tokens": 1, "cache_creation": {"ephemeral_1h_input_tokens": 9}, "output_tokens": 2},
            Usage(1, 0, 0, 9, output_tokens=2),
        ),
        (  # a split that says more than the total
            {
                "input_tokens": 1,
                "cache_creation_input_tokens": 5,
                "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4},
                "output_tokens": 2,
            },
            Usage(1, 0, 1, 4, output_tokens=2),
        ),
        (
            {"input_tokens": 1, "output_tokens": 50, "output_tokens_details": {"thinking_tokens": 30}},
            Usage(1, output_tokens=20, reasoning_tokens=30),
        ),
        (  # a compaction is billed beside the totals, an advisor at another model's price
            {
                "input_tokens": 10,
                "output_tokens": 5,
                "iterations": [
                    {"type": "compaction", "input_tokens": 1000, "cache_read_input_tokens": 7, "output_tokens": 90},
                    {"type": "advisor_message", "input_tokens": 77, "output_tokens": 77},
                    {"type": "message", "input_tokens": 10, "output_tokens": 5},
                ],
            },
            Usage(input_tokens=1010, cache_read_tokens=7, output_tokens=95),
        ),
        ({"input_tokens": None, "output_tokens": None}, None),
        ({}, None),
        (None, None),
    ],
)
def test_anthropics_counts_are_disjoint_already(reported: Any, expected: Usage | None) -> None:
    assert exclusive_usage(reported) == expected


def is_no_count(reported: dict[str, Any], name: str) -> bool:
    return reported.get(name) is not None and count(reported[name]) is None


@given(OPENAI)
def test_the_classes_add_up_to_the_providers_totals(reported: dict[str, Any]) -> None:
    read = inclusive_usage(reported)
    prompt, completion, total = (count(reported.get(f"{name}_tokens")) for name in ("prompt", "completion", "total"))
    is_garbled = is_no_count(reported, "prompt_tokens") or is_no_count(reported, "completion_tokens")
    if is_garbled or (prompt is None and completion is None and total is None):
        assert read is None
        return
    assert read is not None
    assert read.total_tokens == max(total or 0, (prompt or 0) + (completion or 0))
    assert read.prompt_tokens >= (prompt or 0)
    assert read.completion_tokens >= (completion or 0)


@given(ANTHROPIC)
def test_odd_counts_of_anthropic_never_raise_and_never_go_below_zero(reported: dict[str, Any]) -> None:
    read = exclusive_usage(reported)
    fresh, output = count(reported.get("input_tokens")), count(reported.get("output_tokens"))
    is_garbled = is_no_count(reported, "input_tokens") or is_no_count(reported, "output_tokens")
    assert (read is None) == (is_garbled or (fresh is None and output is None))
    if read is not None:
        assert read.input_tokens >= (fresh or 0)
        assert read.completion_tokens == (output or 0)


@given(st.recursive(COUNTS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10))
def test_anything_at_all_may_stand_where_usage_stands(value: Any) -> None:
    inclusive_usage(value)
    exclusive_usage(value)
    inclusive_usage({"prompt_tokens": 5, "prompt_tokens_details": value, "completion_tokens_details": value})
    exclusive_usage({"input_tokens": 5, "cache_creation": value, "iterations": value, "output_tokens_details": value})


@pytest.mark.parametrize("garbled", [-7, 10.5, 10**30, "10", True, float("nan"), [3]])
def test_a_total_that_is_no_count_makes_the_other_no_proof(garbled: Any) -> None:
    """Half of a usage booked as the provider's word would be a silent zero for the other half."""
    assert inclusive_usage({"prompt_tokens": garbled, "completion_tokens": 5, "total_tokens": 0}) is None
    assert inclusive_usage({"prompt_tokens": 10, "completion_tokens": garbled}) is None
    assert exclusive_usage({"input_tokens": garbled, "output_tokens": 5}) is None
    assert exclusive_usage({"input_tokens": 10, "output_tokens": garbled}) is None


def test_a_total_that_is_said_twice_counts_where_it_is_a_count() -> None:
    assert inclusive_usage({"prompt_tokens": "10", "input_tokens": 10, "completion_tokens": 5}) == Usage(
        input_tokens=10, output_tokens=5
    )
