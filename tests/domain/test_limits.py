"""Sliding rates: never more than the limit in any span of the period, and the wait that is told is enough."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from token_tracker.domain.limits import COUNTED, PERIODS_S, SlidingWindow, estimated_tokens, slice_us

START_US = 1_790_000_000_000_000
periods = st.sampled_from(["second", "minute", "hour"])
steps = st.lists(st.tuples(st.floats(0, 0.6), st.integers(1, 4)), max_size=60)


@given(periods, st.integers(1, 12), steps, st.integers(0, 10**9))
def test_no_span_of_the_period_holds_more_than_the_limit(
    period: str, limit: int, arrivals: list[tuple[float, int]], offset_us: int
) -> None:
    window, now_us = SlidingWindow(period), START_US + offset_us
    admitted: list[tuple[int, int]] = []
    period_us = PERIODS_S[period] * 1_000_000
    for gap, amount in arrivals:
        now_us += int(gap * period_us)
        number = window.advance(now_us)
        if window.total + amount <= limit:
            window.add(number, amount)
            admitted.append((now_us, amount))
    for first_us, _ in admitted:  # the closed span: what comes exactly a period later is inside, too
        assert sum(amount for at_us, amount in admitted if first_us <= at_us <= first_us + period_us) <= limit


@given(periods, st.integers(1, 12), steps)
def test_after_the_wait_that_is_told_the_call_fits_and_a_second_before_it_does_not(
    period: str, limit: int, arrivals: list[tuple[float, int]]
) -> None:
    window, now_us = SlidingWindow(period), START_US
    for gap, amount in arrivals:
        now_us += int(gap * PERIODS_S[period] * 1_000_000)
        number = window.advance(now_us)
        amount = min(amount, limit)
        if window.total + amount <= limit:
            window.add(number, amount)
            continue
        wait_s = window.retry_after_s(now_us, amount, limit)
        assert 1 <= wait_s <= PERIODS_S[period] + slice_us(period) // 1_000_000 + 1
        assert room(window, now_us + wait_s * 1_000_000, amount, limit)
        if wait_s > 1:
            assert not room(window, now_us + (wait_s - 1) * 1_000_000, amount, limit)


def room(window: SlidingWindow, at_us: int, amount: int, limit: int) -> bool:
    """Looked at in a copy, so that time does not go on in the window itself."""
    copy = SlidingWindow.__new__(SlidingWindow)
    copy.total, copy.slice_us = window.total, window.slice_us
    copy._amounts, copy._newest = list(window._amounts), window._newest
    copy.advance(at_us)
    return copy.total + amount <= limit


@given(periods, st.lists(st.integers(-200, 400), max_size=50))
def test_the_total_is_the_sum_of_the_slices_whatever_the_clock_does(period: str, moves: list[int]) -> None:
    window, now_us = SlidingWindow(period), START_US
    for move in moves:
        now_us += move * slice_us(period) // 3
        window.add(window.advance(now_us), 1)
        assert window.total == sum(window._amounts) >= 1


def test_a_correction_goes_to_the_slice_of_the_admission_and_never_below_nothing() -> None:
    window = SlidingWindow("minute")
    first = window.advance(START_US)
    window.add(first, 100)
    window.add(window.advance(START_US + 10_000_000), 5)
    window.add(first, -40)
    assert window.total == 65
    window.add(first, -400)
    assert window.total == 5
    window.add(first - COUNTED, 7)  # too old to count
    assert window.total == 5


def test_slices_are_never_shorter_than_a_sixtieth_of_the_period() -> None:
    assert all(slice_us(period) * 60 >= seconds * 1_000_000 for period, seconds in PERIODS_S.items())


def test_the_estimate_is_a_quarter_of_the_bytes_and_at_most_4096_of_the_output() -> None:
    assert [estimated_tokens(9, 10), estimated_tokens(0, None), estimated_tokens(4, 10**6)] == [13, 4096, 4097]
