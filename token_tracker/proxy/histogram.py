"""A histogram of durations: counts by bucket and their sum, for one thread."""

from __future__ import annotations

from bisect import bisect_left


class Histogram:
    """`bounds_ms`: of the buckets, ascending; the last of `counts` has no bound. A bucket holds what is not above its
    bound."""

    __slots__ = ("bounds_ms", "counts", "sum_ms")

    def __init__(self, bounds_ms: tuple[float, ...]) -> None:
        self.bounds_ms = bounds_ms
        self.counts = [0] * (len(bounds_ms) + 1)
        self.sum_ms = 0.0

    def add(self, value_ms: float) -> None:
        self.counts[bisect_left(self.bounds_ms, value_ms)] += 1
        self.sum_ms += value_ms
