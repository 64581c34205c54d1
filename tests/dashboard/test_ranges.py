"""The axis has every slot of its range, also across a change of the clocks."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from token_tracker.dashboard.ranges import RANGES, slots

BERLIN = ZoneInfo("Europe/Berlin")


def test_a_day_of_hours_ends_with_the_hour_that_contains_now() -> None:
    found = slots(RANGES["24h"], ZoneInfo("UTC"), datetime(2026, 5, 2, 9, 30, tzinfo=UTC))
    assert found.start == datetime(2026, 5, 1, 10, tzinfo=UTC)
    assert len(found.times) == 24
    assert found.times[-1] == "02 May 09:00"


def test_hours_that_come_twice_when_clocks_go_back_have_two_names() -> None:
    found = slots(RANGES["24h"], BERLIN, datetime(2026, 10, 25, 12, tzinfo=UTC))
    assert len(set(found.times)) == 24
    assert "25 Oct 02:00 CEST" in found.times
    assert "25 Oct 02:00 CET" in found.times


def test_days_follow_the_calendar_of_the_zone_over_a_change_of_the_clocks() -> None:
    found = slots(RANGES["7d"], BERLIN, datetime(2026, 3, 30, 22, 30, tzinfo=UTC))  # 31 March in Berlin
    assert found.times[0] == "2026-03-25"
    assert found.times[-1] == "2026-03-31"
    assert found.start == datetime(2026, 3, 24, 23, tzinfo=UTC)
