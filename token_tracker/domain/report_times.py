"""Which period a report tells: the latest one that is over and whose hour of telling has come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

from token_tracker.domain.windows import window_of

PERIODS = ("daily", "weekly", "monthly")
DEFAULT_HOUR = 7


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` up to `end`, in UTC; `before`: the start of the period before it, which ends at `start`. `first`:
    its first date by the zone's clocks."""

    before: datetime
    start: datetime
    end: datetime
    first: str


def latest(period: str, zone_name: str, hour: int, at: datetime) -> Period:
    """The period to be told at `at`: told from `hour` o'clock of the zone on, on the day that follows the period."""
    zone = ZoneInfo(zone_name)
    end = _start_of(period, zone_name, at)
    told_from = datetime.combine(end.astimezone(zone).date(), time(hour), zone)
    if at < told_from:
        end = _start_before(period, zone_name, end)
    start = _start_before(period, zone_name, end)
    return Period(_start_before(period, zone_name, start), start, end, start.astimezone(zone).date().isoformat())


def _start_before(period: str, zone_name: str, start: datetime) -> datetime:
    return _start_of(period, zone_name, datetime.fromtimestamp(start.timestamp() - 1, UTC))


def _start_of(period: str, zone_name: str, at: datetime) -> datetime:
    return datetime.fromtimestamp(window_of(period, zone_name, int(at.timestamp()) * 1_000_000).start_s, UTC)
