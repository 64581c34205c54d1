"""Latency counters of any hours can be added up, and quantiles read from the sum."""

from hypothesis import given
from hypothesis import strategies as st

from token_tracker.domain.latency import BUCKETS, bucket_of, quantile_ms


def counted(latencies_ms: list[float]) -> list[int]:
    counts = [0] * BUCKETS
    for latency_ms in latencies_ms:
        counts[bucket_of(latency_ms)] += 1
    return counts


def test_nothing_counted_has_no_latency() -> None:
    assert quantile_ms([0] * BUCKETS, 0.95) == 0.0


def test_the_smallest_and_the_largest_latency_have_a_bucket() -> None:
    assert bucket_of(0) == 0
    assert bucket_of(10**9) == BUCKETS - 1


@given(
    st.lists(st.floats(min_value=2.001, max_value=700_000), min_size=1, max_size=50),
    st.sampled_from([0.5, 0.95, 0.99, 1.0]),
)
def test_a_quantile_is_within_a_buckets_width_of_the_truth(latencies_ms: list[float], q: float) -> None:
    ordered = sorted(latencies_ms)
    rank = next(i for i in range(len(ordered)) if i + 1 >= q * len(ordered))
    assert ordered[rank] / 1.7501 <= quantile_ms(counted(latencies_ms), q) <= ordered[rank] * 1.7501
