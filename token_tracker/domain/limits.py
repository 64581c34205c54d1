"""Rate limits: sliding windows of slices, exact about 'never more than the limit in any span of the period'."""

from __future__ import annotations

SLICES = 60
COUNTED = SLICES + 1  # a span of the period touches at most so many slices
LEASE_US = 15_000_000  # a call in flight counts for a concurrency limit so long unless it is renewed
RENEW_S = 5
PERIODS_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
RATE_TOKENS_MOST = 4096  # of an output maximum in a token rate's estimate


def slice_us(period: str) -> int:
    """Length of a slice, rounded up, so that no span of the period touches more than `COUNTED` of them."""
    return -(-PERIODS_S[period] * 1_000_000 // SLICES)


def estimated_tokens(body_bytes: int, output_max: int | None) -> int:
    """What a call counts in rates of tokens until its end says better: upper bounds are for money only."""
    most = RATE_TOKENS_MOST if output_max is None else min(output_max, RATE_TOKENS_MOST)
    return -(-body_bytes // 4) + most


class SlidingWindow:
    """How much was admitted in the last 61 slices.

    Time only goes forward here: an earlier `now_us` counts as the latest one seen, unless it is so much earlier that
    all that is counted lies in its future; then the clock was set right, and counting begins again.
    """

    __slots__ = ("_amounts", "_newest", "_slice_us", "total")

    def __init__(self, period: str) -> None:
        self.total = 0
        self._slice_us = slice_us(period)
        self._amounts = [0] * COUNTED  # by slice number modulo COUNTED
        self._newest = -1

    def advance(self, now_us: int) -> int:
        """Forget what is too old; the slice in which an admission now is counted."""
        newest, now = self._newest, now_us // self._slice_us
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
                return self._until_gone_s(number, now_us)
        return -(-self._slice_us * SLICES // 1_000_000)

    def reset_s(self, now_us: int) -> int:
        """Seconds, rounded up, until nothing is counted any more; 0 if nothing is."""
        newest = self.advance(now_us)
        for number in range(newest, newest - COUNTED, -1):
            if self._amounts[number % COUNTED]:
                return self._until_gone_s(number, now_us)
        return 0

    def _until_gone_s(self, number: int, now_us: int) -> int:
        return max(1, -(-((number + COUNTED) * self._slice_us - now_us) // 1_000_000))
