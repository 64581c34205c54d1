"""Windows follow the calendar of a zone: each instant is in exactly one, and they follow each other without a gap."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from token_tracker.domain import windows
from token_tracker.domain.windows import HOUR_S, NEVER_S, bucket_of, first_bucket, leaves_at_s, window_of

ODD_ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # midnight did not exist
    "America/St_Johns",  # clocks went back over midnight at 00:01
    "America/Havana",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",  # moves by half an hour
    "Pacific/Apia",  # left 2011-12-30 out
    "Africa/Cairo",
    "Asia/Tehran",
]
CALENDAR = ("hourly", "daily", "weekly", "monthly")
zones = st.sampled_from(ODD_ZONES)
instants = st.integers(min_value=631_152_000, max_value=2_208_988_800)  # 1990 to 2040


def us(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * 1_000_000


def lasting_hours(period: str, zone: str, at: str) -> float:
    window = window_of(period, zone, us(at, zone))
    return (window.end_s - window.start_s) / HOUR_S


@pytest.mark.parametrize(
    ("period", "zone", "at", "hours"),
    [
        ("daily", "Europe/Berlin", "2026-03-29T12:00", 23),
        ("daily", "Europe/Berlin", "2026-10-25T12:00", 25),
        ("daily", "Europe/Berlin", "2026-10-26T00:00", 24),
        ("weekly", "Europe/Berlin", "2026-10-22T12:00", 169),
        ("monthly", "UTC", "2026-02-28T23:59", 28 * 24),
        ("monthly", "UTC", "2028-02-01T00:00", 29 * 24),
        ("monthly", "America/New_York", "2026-11-30T23:59", 30 * 24 + 1),
        ("hourly", "Asia/Kathmandu", "2026-05-01T10:30", 1),
        ("hourly", "Europe/Berlin", "2026-10-25T02:30", 1),
        ("hourly", "Australia/Lord_Howe", "2026-10-04T02:45", 0.5),
        ("daily", "America/Sao_Paulo", "2018-11-04T12:00", 23),
        ("daily", "Pacific/Apia", "2011-12-29T12:00", 24),
        ("daily", "Pacific/Apia", "2011-12-31T12:00", 24),
    ],
)
def test_a_window_lasts_as_long_as_the_calendar_says(period: str, zone: str, at: str, hours: float) -> None:
    assert lasting_hours(period, zone, at) == hours


def test_a_day_whose_midnight_does_not_exist_begins_when_its_date_does() -> None:
    window = window_of("daily", "America/Sao_Paulo", us("2018-11-04T12:00", "America/Sao_Paulo"))
    assert (
        datetime.fromtimestamp(window.start_s, ZoneInfo("America/Sao_Paulo")).isoformat() == "2018-11-04T01:00:00-02:00"
    )


def test_a_day_begins_at_its_first_midnight_where_clocks_go_back_over_it() -> None:
    zone = "America/St_Johns"  # on 2010-11-07 at 00:01 it was 23:01 of the day before again
    first_midnight_us = us("2010-11-07T00:00", zone)
    later_us = first_midnight_us + 30 * 60_000_000
    assert datetime.fromtimestamp(later_us / 1e6, ZoneInfo(zone)).day == 6
    assert bucket_of("daily", zone, later_us) * 1_000_000 == first_midnight_us
    assert bucket_of("daily", zone, first_midnight_us - 1) < first_midnight_us // 1_000_000


def test_weeks_begin_on_monday_in_the_zone() -> None:
    window = window_of("weekly", "Asia/Kathmandu", us("2026-11-21T10:00", "Asia/Kathmandu"))
    start = datetime.fromtimestamp(window.start_s, ZoneInfo("Asia/Kathmandu"))
    assert (start.weekday(), start.hour, start.minute, start.date().isoformat()) == (0, 0, 0, "2026-11-16")


@given(st.sampled_from(CALENDAR), zones, instants)
@example("daily", "America/St_Johns", us("2010-11-07T02:45") // 1_000_000)
@example("daily", "Pacific/Apia", us("2011-12-30T10:00") // 1_000_000)
@example("hourly", "Australia/Lord_Howe", us("2026-04-04T15:00") // 1_000_000)
def test_calendar_windows_hold_their_instant_and_follow_each_other(period: str, zone: str, at_s: int) -> None:
    windows._last.clear()
    window = window_of(period, zone, at_s * 1_000_000)
    assert window.start_s <= at_s < window.end_s
    assert at_s * 1_000_000 in window
    assert bucket_of(period, zone, at_s * 1_000_000) == window.start_s
    for instant_s in (window.start_s, window.end_s - 1):
        windows._last.clear()
        assert window_of(period, zone, instant_s * 1_000_000) == window
    windows._last.clear()
    assert window_of(period, zone, window.end_s * 1_000_000).start_s == window.end_s
    windows._last.clear()
    assert window_of(period, zone, (window.start_s - 1) * 1_000_000).end_s == window.start_s
    assert leaves_at_s(period, zone, window.start_s) == window.end_s


@given(zones, instants)
def test_a_day_has_one_date_but_for_clocks_that_go_back_over_midnight(zone: str, at_s: int) -> None:
    window = window_of("daily", zone, at_s * 1_000_000)
    day = datetime.fromtimestamp(window.end_s - 1, ZoneInfo(zone)).date()
    assert abs((datetime.fromtimestamp(at_s, ZoneInfo(zone)).date() - day).days) <= (zone == "America/St_Johns")
    assert 20 * HOUR_S <= window.end_s - window.start_s <= 26 * HOUR_S


@given(zones, instants)
def test_an_hour_is_never_longer_than_an_hour(zone: str, at_s: int) -> None:
    window = window_of("hourly", zone, at_s * 1_000_000)
    assert 0 < window.end_s - window.start_s <= HOUR_S


@given(st.sampled_from(["rolling_24h", "rolling_30d"]), instants, st.integers(0, 999_999), st.integers(0, 800 * HOUR_S))
def test_a_cost_leaves_a_rolling_window_within_the_hour_after_its_span(
    period: str, at_s: int, part_us: int, age_s: int
) -> None:
    hours = windows.ROLLING_HOURS[period]
    admitted_us = at_s * 1_000_000 + part_us
    bucket = bucket_of(period, "Asia/Kathmandu", admitted_us)
    now_us = admitted_us + age_s * 1_000_000
    counts = first_bucket(period, "Asia/Kathmandu", now_us) <= bucket
    if age_s < hours * HOUR_S:
        assert counts
    if age_s >= (hours + 1) * HOUR_S:
        assert not counts
    assert counts == (now_us < leaves_at_s(period, "UTC", bucket) * 1_000_000)


def test_total_counts_from_its_start_and_has_no_end() -> None:
    start_us = us("2026-01-05T10:00")
    assert bucket_of("total", "UTC", us("2031-01-01T00:00"), start_us) == start_us // 1_000_000
    assert window_of("total", "UTC", us("2031-01-01T00:00"), start_us).end_s == NEVER_S
    assert leaves_at_s("total", "UTC", 5) == NEVER_S


def test_half_open_to_the_microsecond() -> None:
    midnight_us = int(datetime(2026, 11, 21, tzinfo=UTC).timestamp()) * 1_000_000
    before = window_of("daily", "UTC", midnight_us - 1)
    after = window_of("daily", "UTC", midnight_us)
    assert before.end_s == after.start_s == midnight_us // 1_000_000
    assert timedelta(seconds=after.end_s - after.start_s) == timedelta(days=1)
