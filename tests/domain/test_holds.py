"""Holds: the worst case is never rounded in the spender's favour, and what is granted is the most that may be."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from token_tracker.domain.holds import (
    Ask,
    fits,
    grant,
    largest_output,
    limit_at,
    output_bounds,
    overrun_of,
    unproven_of,
)
from token_tracker.domain.rules import BudgetRule, CallFacts

amounts = st.integers(0, 10**13)
prices = st.integers(0, 10**9)


def ask(**more: Any) -> Ask:
    return Ask(**({"id": "c", "now_us": 0, "facts": CallFacts()} | more))


def rule(**more: Any) -> BudgetRule:
    return BudgetRule("b", "global", "", "", "daily", "UTC", 0, 1000, **more)


@given(amounts, prices, st.integers(0, 10**6))
def test_the_worst_case_is_rounded_up_to_a_whole_nano_dollar(fixed: int, pico: int, output: int) -> None:
    exact = fixed + Fraction(pico * output, 1000)
    held = ask(usd_fixed_nano=fixed, usd_per_output_pico=pico).usd(output)
    assert exact <= held < exact + 1


@given(amounts, amounts, prices, st.integers(0, 10**6))
def test_the_largest_output_fits_and_one_more_does_not(left: int, fixed: int, pico: int, most: int) -> None:
    call = ask(usd_fixed_nano=fixed, usd_per_output_pico=pico, output_max=most)
    largest = largest_output(call, left, None)
    assert largest <= most
    if largest >= 0:
        assert fits(call, largest, left, None)
    if largest < most:
        assert not fits(call, largest + 1, left, None)


@given(amounts, amounts, prices, st.integers(1, 5), st.integers(0, 300), st.integers(0, 10**5), amounts)
def test_what_the_gate_chooses_is_within_its_bounds_and_half_of_what_remains(
    left: int, fixed: int, pico: int, per_output: int, least: int, more: int, tokens_left: int
) -> None:
    call = ask(
        usd_fixed_nano=fixed,
        usd_per_output_pico=pico,
        tokens_fixed=10,
        tokens_per_output=per_output,
        output_min=least,
        output_max=least + more,
        is_own_maximum=False,
    )
    output = grant(call, left, tokens_left)
    assert least <= output <= least + more
    if output > least:
        assert (call.usd(output) - fixed) * 2 <= left - fixed
        assert (call.tokens(output) - 10) * 2 <= tokens_left - 10


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_what_is_not_proven_stays_counted_up_to_the_hold(held: int, booked: int) -> None:
    assert unproven_of(held, booked, True) == 0
    assert booked + unproven_of(held, booked, False) == max(held, booked)
    assert overrun_of(held, booked) == (max(0, booked - held) if held else 0)


@pytest.mark.parametrize(
    ("rules", "client", "model", "bounds"),
    [
        ([rule()], 500, 4096, (500, 500)),
        ([rule(clamp="always")], 500, 4096, (256, 500)),
        ([rule(clamp="always")], 100, 4096, (100, 100)),
        ([rule()], None, 4096, (256, 4096)),
        ([rule()], None, None, (256, 8192)),
        ([rule(), rule(default_output_tokens=1000, min_output_tokens=300)], None, None, (300, 1000)),
        ([rule(min_output_tokens=9000)], None, None, (8192, 8192)),
        ([rule()], None, 100, (100, 100)),
        ([], None, 100, (100, 100)),
        ([], 7, 100, (7, 7)),
    ],
)
def test_bounds_of_the_output_maximum(
    rules: list[BudgetRule], client: int | None, model: int | None, bounds: tuple[int, int]
) -> None:
    assert output_bounds(rules, client, model) == bounds


def test_a_top_up_holds_from_its_start_to_its_end_or_to_the_end_of_its_window() -> None:
    raised = rule(top_ups=((5, 100, 50), (70, 0, 60)))
    assert [limit_at(raised, "usd", at, 55) for at in (49, 50, 60, 99, 100)] == [1000, 1005, 1075, 1075, 1070]
    assert limit_at(raised, "usd", 120, 101) == 1000
    assert limit_at(raised, "tokens", 60, 55) is None
