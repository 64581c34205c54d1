"""Token classes are disjoint; the totals people know are derived."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from token_tracker.domain.usage import TOKEN_CLASSES, Usage


def test_the_prompt_holds_everything_that_went_in_and_the_completion_everything_that_came_out() -> None:
    usage = Usage(1, 20, 300, 4_000, 50_000, 600_000, 1, 20, 300, 4_000)
    assert usage.prompt_tokens == 654_321
    assert usage.completion_tokens == 4_321
    assert usage.total_tokens == 658_642


@pytest.mark.parametrize("token_class", TOKEN_CLASSES)
def test_a_negative_count_is_refused_by_name(token_class: str) -> None:
    with pytest.raises(ValueError, match=token_class):
        Usage(**{token_class: -1})


@given(st.lists(st.integers(0, 10**12), min_size=len(TOKEN_CLASSES), max_size=len(TOKEN_CLASSES)))
def test_every_class_counts_once_in_the_total(counts: list[int]) -> None:
    assert Usage(*counts).total_tokens == sum(counts)
