"""The latest period that is over, by the clocks of any zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from token_tracker.domain.report_times import PERIODS, latest


@pytest.mark.parametrize(
    ("period", "zone", "at", "first", "start", "end"),
    [
        ("daily", "UTC", "2026-03-10T07:00", "2026-03-09", "2026-03-09T00:00", "2026-03-10T00:00"),
        ("daily", "UTC", "2026-03-10T06:59", "2026-03-08", "2026-03-08T00:00", "2026-03-09T00:00"),
        ("daily", "Europe/Berlin", "2026-03-10T06:00", "2026-03-09", "2026-03-08T23:00", "2026-03-09T23:00"),
        ("daily", "Europe/Berlin", "2026-03-30T06:00", "2026-03-29", "2026-03-28T23:00", "2026-03-29T22:00"),
        ("daily", "Asia/Kolkata", "2026-03-10T02:00", "2026-03-09", "2026-03-08T18:30", "2026-03-09T18:30"),
        ("weekly", "UTC", "2026-03-15T23:00", "2026-03-02", "2026-03-02T00:00", "2026-03-09T00:00"),
        ("weekly", "America/New_York", "2026-03-16T11:00", "2026-03-09", "2026-03-09T04:00", "2026-03-16T04:00"),
        ("monthly", "UTC", "2026-03-31T00:00", "2026-02-01", "2026-02-01T00:00", "2026-03-01T00:00"),
        ("monthly", "UTC", "2026-03-01T06:59", "2026-01-01", "2026-01-01T00:00", "2026-02-01T00:00"),
    ],
)
def test_a_period_is_told_from_seven_o_clock_of_the_next_day_on(
    period: str, zone: str, at: str, first: str, start: str, end: str
) -> None:
    told = latest(period, zone, 7, datetime.fromisoformat(at).replace(tzinfo=UTC))
    assert (told.first, f"{told.start:%Y-%m-%dT%H:%M}", f"{told.end:%Y-%m-%dT%H:%M}") == (first, start, end)


@given(
    st.sampled_from(PERIODS),
    st.sampled_from(["UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kathmandu", "Pacific/Apia", "Africa/Cairo"]),
    st.integers(0, 23),
    st.datetimes(datetime(2005, 1, 1), datetime(2035, 1, 1)),  # noqa: DTZ001 (made UTC below)
)
def test_it_is_over_and_follows_the_one_before_without_a_gap(period: str, zone: str, hour: int, at: datetime) -> None:
    now = at.replace(tzinfo=UTC)
    told = latest(period, zone, hour, now)
    assert told.before < told.start < told.end <= now
    earlier = latest(period, zone, hour, told.end - timedelta(hours=1))
    assert earlier.end <= told.end
