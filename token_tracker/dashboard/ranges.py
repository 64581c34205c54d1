"""The ranges one can look at, and their slots in the viewer's time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Range:
    label: str
    count: int
    slot: str  # hour | day: also the summary's group


@dataclass(frozen=True, slots=True)
class Slots:
    """`start`: the first slot's beginning in UTC; `times`: every slot as the summary names it (see `slot_name`)."""

    start: datetime
    times: tuple[str, ...]


RANGES: dict[str, Range] = {
    "24h": Range("Last 24 hours", 24, "hour"),
    "48h": Range("Last 48 hours", 48, "hour"),
    "7d": Range("Last 7 days", 7, "day"),
    "30d": Range("Last 30 days", 30, "day"),
    "90d": Range("Last 90 days", 90, "day"),
}


def slots(chosen: Range, zone: ZoneInfo, at: datetime) -> Slots:
    """The slots of `chosen` up to the one that contains `at`; days follow the zone's calendar, DST included."""
    if chosen.slot == "hour":
        last = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        hours = [last - timedelta(hours=back) for back in range(chosen.count - 1, -1, -1)]
        return Slots(hours[0], tuple(hour_label(hour, zone) for hour in hours))
    today = at.astimezone(zone).date()
    days = [today - timedelta(days=back) for back in range(chosen.count - 1, -1, -1)]
    start = datetime(days[0].year, days[0].month, days[0].day, tzinfo=zone).astimezone(UTC)
    return Slots(start, tuple(day.isoformat() for day in days))


def hour_label(hour: datetime, zone: ZoneInfo) -> str:
    """An hour as the axis shows it: local, with the offset only where a DST change makes it ambiguous."""
    local = hour.astimezone(zone)
    ambiguous = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
    return local.strftime("%d %b %H:%M %Z" if ambiguous else "%d %b %H:%M")
