"""Rate limits: sliding windows of slices, exact about 'never more than the limit in any span of the period'."""

from __future__ import annotations

SLICES = 60
COUNTED = SLICES + 1  # a span of the period touches at most so many slices
LEASE_US = 15_000_000  # a call in flight counts for a concurrency limit so long unless it is renewed
RENEW_S = 5
LEASE_RETRY_S = 1  # a call in flight may end at any moment
PERIODS_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
RATE_TOKENS_MOST = 4096  # of an output maximum in a token rate's estimate


def slice_us(period: str) -> int:
    """Length of a slice, rounded up, so that no span of the period touches more than `COUNTED` of them."""
    return -(-PERIODS_S[period] * 1_000_000 // SLICES)


def estimated_tokens(body_bytes: int, output_max: int | None) -> int:
    """What a call counts in rates of tokens until its end says better: upper bounds are for money only."""
    most = RATE_TOKENS_MOST if output_max is None else min(output_max, RATE_TOKENS_MOST)
    return -(-body_bytes // 4) + most


def until_gone_s(slice_length_us: int, number: int, now_us: int) -> int:
    """Seconds, rounded up, until a slice counts no more."""
    return max(1, -(-((number + COUNTED) * slice_length_us - now_us) // 1_000_000))


class SlidingWindow:
    """How much was admitted in the last 61 slices.

    Time only goes forward here: an earlier `now_us` counts as the latest one seen, unless it is so much earlier that
    all that is counted lies in its future; then the clock was set right, and counting begins again.
    """

    __slots__ = ("_amounts", "_newest", "slice_us", "total")

    def __init__(self, period: str) -> None:
        self.total = 0
        self.slice_us = slice_us(period)
        self._amounts = [0] * COUNTED  # by slice number modulo COUNTED
        self._newest = -1

    @classmethod
    def of(cls, period: str, newest: int, amounts: dict[int, int]) -> SlidingWindow:
        """One that was kept elsewhere: the number of its newest slice, and amounts by slice number modulo 61."""
        window = cls(period)
        window._newest = newest
        window._amounts = [amounts.get(place, 0) for place in range(COUNTED)]
        window.total = sum(window._amounts)
        return window

    def advance(self, now_us: int) -> int:
        """Forget what is too old; the slice in which an admission now is counted."""
        newest, now = self._newest, now_us // self.slice_us
        if now == newest:
            return now
        if newest - COUNTED < now < newest:
            return newest
        if now - COUNTED >= newest or now < newest:
            self._amounts = [0] * COUNTED
            self.total = 0
        else:
            for number in range(newest + 1, now + 1):
                self.total -= self._amounts[number % COUNTED]
                self._amounts[number % COUNTED] = 0
        self._newest = now
        return now

    def count(self, amount: int) -> int:
        """Count in the newest slice, which `advance` has just given; its number."""
        self._amounts[self._newest % COUNTED] += amount
        self.total += amount
        return self._newest

    def add(self, number: int, amount: int) -> None:
        """Count in a slice that `advance` gave; nothing where it is too old. A negative amount corrects."""
        if self._newest - COUNTED < number <= self._newest:
            place = number % COUNTED
            amount = max(amount, -self._amounts[place])
            self._amounts[place] += amount
            self.total += amount

    def retry_after_s(self, now_us: int, amount: int, limit: int) -> int:
        """Seconds, rounded up, until `amount` more fits if nothing else comes; the period's length if it never does."""
        newest = self.advance(now_us)
        excess = self.total + amount - limit
        for number in range(newest - COUNTED + 1, newest + 1):
            excess -= self._amounts[number % COUNTED]
            if excess <= 0:
                return until_gone_s(self.slice_us, number, now_us)
        return -(-self.slice_us * SLICES // 1_000_000)
