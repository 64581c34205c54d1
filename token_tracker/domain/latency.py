"""Latency as 24 log-spaced counters, so that quantiles of any sum of hours can be read."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

BUCKETS = 24
# Upper bounds in ms: 2 ms x 1.75^k, so 2 ms to about 780 s; the last bucket takes everything above.
UPPER_BOUNDS_MS: tuple[float, ...] = tuple(2 * 1.75**k for k in range(BUCKETS - 1))


def bucket_of(latency_ms: float) -> int:
    """The index (0 to 23) of the counter that a latency belongs to."""
    return bisect_left(UPPER_BOUNDS_MS, latency_ms)


def quantile_ms(counts: Sequence[int], q: float) -> float:
    """The latency in ms below which the share `q` (above 0, at most 1) of the counted calls lies; 0.0 where nothing was
    counted.

    Interpolated within its bucket, so at most one bucket's width (a factor of 1.75) from the truth.
    """
    reached = list(accumulate(counts))
    if reached[-1] == 0:
        return 0.0
    rank = q * reached[-1]
    index = bisect_left(reached, rank)  # the first to come so far, so it counted calls
    lower = UPPER_BOUNDS_MS[index - 1] if index else 0.0
    upper = UPPER_BOUNDS_MS[index] if index < BUCKETS - 1 else UPPER_BOUNDS_MS[-1] * 1.75
    return lower + (upper - lower) * (1 - (reached[index] - rank) / counts[index])
