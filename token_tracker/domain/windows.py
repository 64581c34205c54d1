"""Windows of budgets: calendar windows in any time zone, rolling ones of whole UTC hours, and `total`.

Times are whole Unix seconds UTC, `at_us` Unix microseconds. A window is half-open, and the windows of a period follow
each other without gap or overlap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

HOUR_S = 3600
NEVER_S = 2**52  # the end of `total`
ROLLING_HOURS = {"rolling_24h": 24, "rolling_30d": 720}
PERIODS = ("hourly", "daily", "weekly", "monthly", "total", *ROLLING_HOURS)
_LONGEST_GAP_S = 2 * 24 * HOUR_S  # an island that crosses the date line leaves a whole day out


@dataclass(frozen=True, slots=True)
class Window:
    """Includes `start_s`, excludes `end_s`."""

    start_s: int
    end_s: int

    def __contains__(self, at_us: int) -> bool:
        return self.start_s * 1_000_000 <= at_us < self.end_s * 1_000_000


def bucket_of(period: str, zone: str, at_us: int, starts_at_us: int = 0) -> int:
    """Where a call admitted at `at_us` is counted: the start of its window, for rolling windows its UTC hour."""
    if period in ROLLING_HOURS:
        at_s = at_us // 1_000_000
        return at_s - at_s % HOUR_S
    if period == "total":
        return starts_at_us // 1_000_000
    return _calendar_window(period, zone, at_us).start_s


def window_of(period: str, zone: str, at_us: int, starts_at_us: int = 0) -> Window:
    """The window that an admission at `at_us` looks at.

    A rolling window holds the current UTC hour and the 24 (or 720) before it, so that a cost leaves 24 to 25 (720 to
    721) hours after its admission.
    """
    if period in ROLLING_HOURS:
        at_s = at_us // 1_000_000
        hour_s = at_s - at_s % HOUR_S
        return Window(hour_s - ROLLING_HOURS[period] * HOUR_S, hour_s + HOUR_S)
    if period == "total":
        return Window(starts_at_us // 1_000_000, NEVER_S)
    return _calendar_window(period, zone, at_us)


def first_bucket(period: str, zone: str, at_us: int, starts_at_us: int = 0) -> int:
    """The oldest bucket that counts at `at_us`; for all but rolling windows there is no other."""
    return window_of(period, zone, at_us, starts_at_us).start_s


def leaves_at_s(period: str, zone: str, bucket: int) -> int:
    """When the amounts of a bucket count no more; `NEVER_S` for `total`."""
    if period in ROLLING_HOURS:
        return bucket + (ROLLING_HOURS[period] + 1) * HOUR_S
    if period == "total":
        return NEVER_S
    return _calendar_window(period, zone, bucket * 1_000_000).end_s


_last: dict[tuple[str, str], Window] = {}  # most calls come in the window of the call before them


def _calendar_window(period: str, zone: str, at_us: int) -> Window:
    window = _last.get((period, zone))
    at_s = at_us // 1_000_000
    if window is None or not window.start_s <= at_s < window.end_s:
        window = _last[period, zone] = _hour(zone, at_s) if period == "hourly" else _days(period, zone, at_s)
    return window


def _hour(zone_name: str, at_s: int) -> Window:
    """The hour by the zone's clocks: at most 3,600 s, and less only where they are moved by a part of an hour."""
    zone = ZoneInfo(zone_name)
    offset_s = _offset_s(zone, at_s)
    start_s = at_s - (at_s + offset_s) % HOUR_S
    end_s = start_s + HOUR_S
    if _offset_s(zone, start_s) != offset_s:
        start_s = _first(start_s, at_s, lambda instant_s: _offset_s(zone, instant_s) == offset_s)
    if _offset_s(zone, end_s - 1) != offset_s:
        end_s = _first(at_s, end_s - 1, lambda instant_s: _offset_s(zone, instant_s) != offset_s)
    return Window(start_s, end_s)


def _days(period: str, zone_name: str, at_s: int) -> Window:
    """The day, week (from Monday) or month: from the first instant of its first date to that of the next one's."""
    zone = ZoneInfo(zone_name)
    first = _first_date(period, datetime.fromtimestamp(at_s, zone).replace(tzinfo=None))
    window = Window(_start_of(zone, first), _start_of(zone, _next_date(period, first)))
    # Where clocks go back over midnight, an instant may read yesterday's date and belong to today; where a whole date
    # is left out, its window is empty.
    while at_s >= window.end_s:
        first = _next_date(period, first)
        window = Window(window.end_s, _start_of(zone, _next_date(period, first)))
    return window


def _first_date(period: str, local: datetime) -> datetime:
    midnight = datetime(local.year, local.month, local.day)  # noqa: DTZ001 (what a clock in the zone reads)
    if period == "weekly":
        return midnight - timedelta(days=midnight.weekday())
    return midnight.replace(day=1) if period == "monthly" else midnight


def _next_date(period: str, first: datetime) -> datetime:
    if period == "monthly":
        return (first + timedelta(days=31)).replace(day=1)
    return first + timedelta(days=7 if period == "weekly" else 1)


@lru_cache(maxsize=1024)
def _start_of(zone: ZoneInfo, midnight: datetime) -> int:
    """The first instant at which the zone's clocks read `midnight` or later: midnight may come twice, or not at all."""
    at_s = int(midnight.replace(tzinfo=zone, fold=0).timestamp())
    if _local(zone, at_s - 1) < midnight:
        return at_s
    return _first(at_s - _LONGEST_GAP_S, at_s, lambda instant_s: _local(zone, instant_s) >= midnight)


def _first(low_s: int, high_s: int, is_true: Callable[[int], bool]) -> int:
    """The first instant after `low_s` from which on `is_true` is true, as it is at `high_s`."""
    while low_s + 1 < high_s:
        middle_s = (low_s + high_s) // 2
        low_s, high_s = (low_s, middle_s) if is_true(middle_s) else (middle_s, high_s)
    return high_s


def _local(zone: ZoneInfo, at_s: int) -> datetime:
    return datetime.fromtimestamp(at_s, zone).replace(tzinfo=None)


def _offset_s(zone: ZoneInfo, at_s: int) -> int:
    offset = datetime.fromtimestamp(at_s, UTC).astimezone(zone).utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0
