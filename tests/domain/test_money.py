"""Amounts are whole nano-dollars, rounded half to even, shown with nine places."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from token_tracker.domain.money import format_usd, to_nano_usd


@pytest.mark.parametrize(
    ("usd", "nano_usd"),
    [
        ("0", 0),
        ("0.0000000005", 0),
        ("0.0000000015", 2),
        ("0.0000000025", 2),
        ("0.00000000250001", 3),
        ("-0.0000000015", -2),
        ("123456.789", 123_456_789_000_000),
    ],
)
def test_half_a_nano_dollar_goes_to_the_even_neighbour(usd: str, nano_usd: int) -> None:
    assert to_nano_usd(Decimal(usd)) == nano_usd


@pytest.mark.parametrize(
    ("nano_usd", "text"),
    [
        (0, "0.000000000"),
        (1, "0.000000001"),
        (1_234_567_890, "1.234567890"),
        (-1, "-0.000000001"),
        (-(10**9), "-1.000000000"),
    ],
)
def test_an_amount_is_shown_with_nine_places(nano_usd: int, text: str) -> None:
    assert format_usd(nano_usd) == text


@given(st.integers(-(2**63), 2**63 - 1))
def test_what_is_shown_is_what_is_stored(nano_usd: int) -> None:
    assert to_nano_usd(Decimal(format_usd(nano_usd))) == nano_usd
