"""What each kind of rule sees: pure functions from facts to observations. Amounts are nano-dollars or tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from statistics import median

from token_tracker.domain.alert_flow import Observation
from token_tracker.domain.latency import BUCKETS, quantile_ms
from token_tracker.domain.money import format_usd

_HOUR, WEEK = timedelta(hours=1), timedelta(days=7)
LEAST_SPENT_PERCENT = 25  # before that no rate says anything about a budget's end


@dataclass(frozen=True, slots=True)
class Traffic:
    """Calls of one name in one span; `latency`: counters of `domain/latency.py`."""

    calls: int = 0
    errors: int = 0
    latency: tuple[int, ...] = (0,) * BUCKETS

    def __add__(self, other: Traffic) -> Traffic:
        latency = tuple(map(sum, zip(self.latency, other.latency, strict=True)))
        return Traffic(self.calls + other.calls, self.errors + other.errors, latency)


@dataclass(frozen=True, slots=True)
class Burn:
    """A budget's spending. `recent`: in the `over_s` seconds until now; `left_s`: until its window ends, or as far as
    is looked ahead."""

    spent: int
    limit: int
    recent: int
    over_s: int
    left_s: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """`percent` of the limit that will be spent by the end; `ends_at`: when nothing is left, None: not before."""

    percent: Decimal
    ends_at: datetime | None


def recent(this: Mapping[str, Traffic], before: Mapping[str, Traffic], least_calls: int) -> dict[str, Traffic]:
    """This hour so far, with the hour before it where this one has not enough calls yet."""
    found = {}
    for name in this.keys() | before.keys():
        traffic = this.get(name, Traffic())
        if traffic.calls < least_calls:
            traffic += before.get(name, Traffic())
        if traffic.calls >= least_calls:
            found[name] = traffic
    return found


def error_rates(traffic: Mapping[str, Traffic]) -> Iterator[Observation]:
    """Percent of calls that failed."""
    for name, seen in traffic.items():
        facts = {"name": name, "calls": seen.calls, "errors": seen.errors}
        yield Observation(name, Decimal(seen.errors) * 100 / seen.calls, facts)


def latencies(traffic: Mapping[str, Traffic], percentile: int) -> Iterator[Observation]:
    """Seconds."""
    for name, seen in traffic.items():
        seconds = _seconds(seen, percentile)
        yield Observation(name, seconds, {"name": name, "calls": seen.calls, "percentile": percentile})


def slowness(
    traffic: Mapping[str, Traffic], usual: Mapping[str, Traffic], *, least_calls: int, least_ms: int
) -> Iterator[Observation]:
    """The 95th percentile as so many times the usual one; nothing is slow under `least_ms`."""
    for name, seen in traffic.items():
        before = usual.get(name, Traffic())
        if before.calls < least_calls:
            continue
        now, then = _seconds(seen, 95), max(_seconds(before, 95), Decimal("0.001"))
        times = now / then if now * 1000 >= least_ms else Decimal(1)
        facts = {"name": name, "calls": seen.calls, "seconds": f"{now:.1f}", "usual_seconds": f"{then:.1f}"}
        yield Observation(name, min(times, now / then), facts)


def past_hours(hour: datetime, first: datetime, weeks: int) -> list[datetime]:
    """The same hour of the week in up to so many weeks before, as far as the books go back."""
    return [past for week in range(1, weeks + 1) if (past := hour - week * WEEK) >= first]


def unusual_spend(
    spent: Mapping[str, Mapping[datetime, int]],
    mean: Mapping[str, int],
    hour: datetime,
    *,
    first: datetime,
    weeks: int,
    least: int,
) -> Iterator[Observation]:
    """Spend of `hour` so far, or of the one before it if that stands out more, as so many times what is usual: the
    median of the same hour of past weeks, or the mean of all hours where that is more. `spent`: by name and hour, of
    both and their `past_hours`; `first`: where the books begin."""
    for name, amounts in spent.items():
        found = []
        for now in (hour, hour - _HOUR):
            past = [amounts.get(each, 0) for each in past_hours(now, first, weeks)]
            expected = max(int(median(past)) if past else 0, mean.get(name, 0), 1)
            amount = amounts.get(now, 0)
            times = Decimal(amount) / expected if amount >= least else Decimal(0)
            found.append((times, amount, expected))
        times, amount, expected = max(found)
        facts = {"name": name, "spent": format_usd(amount), "usual": format_usd(expected)}
        yield Observation(name, times, facts)


def forecast(burn: Burn, at: datetime) -> Forecast | None:
    """None where there is nothing to foretell: too little is spent, or all of it."""
    if not burn.limit > burn.spent >= burn.limit * LEAST_SPENT_PERCENT / 100:
        return None
    coming = burn.recent * burn.left_s / Decimal(burn.over_s)
    percent = (burn.spent + coming) * 100 / burn.limit
    if percent < 100 or burn.recent <= 0:
        return Forecast(percent, None)
    until_s = Decimal(burn.limit - burn.spent) * burn.over_s / burn.recent
    return Forecast(percent, at + timedelta(seconds=int(until_s)))


def shares(counts: Mapping[str, tuple[int, int]], *, least: int, least_counted: int) -> Iterator[Observation]:
    """Percent, of (all, those that count); of fewer than `least_counted` it is none, as they are chance."""
    for name, (total, counted) in counts.items():
        if total >= least:
            counted = counted if counted >= least_counted else 0
            facts = {"name": name, "total": total, "counted": counted}
            yield Observation(name, Decimal(counted) * 100 / total, facts)


def numbers(counts: Mapping[str, int]) -> Iterator[Observation]:
    for name, count in counts.items():
        yield Observation(name, Decimal(count), {"name": name, "counted": count})


@dataclass(frozen=True, slots=True)
class Expiry:
    """A key that was not taken over by another one."""

    key_id: str
    name: str
    user: str
    created_at: datetime
    expires_at: datetime


def expiring(keys: Iterable[Expiry], at: datetime, *, least_days: int) -> Iterator[Observation]:
    """Hours left, of keys that were made for so many days or more: one for a job of a day is meant to end."""
    for key in keys:
        left = key.expires_at - at
        if left > timedelta(0) and key.expires_at - key.created_at >= timedelta(days=least_days):
            expires_at = f"{key.expires_at:%Y-%m-%dT%H:%M:%SZ}"
            facts = {"name": key.name, "user": key.user, "expires_at": expires_at}
            yield Observation(key.key_id, Decimal(int(left.total_seconds())) / 3600, facts)


def _seconds(traffic: Traffic, percentile: int) -> Decimal:
    return Decimal(str(round(quantile_ms(traffic.latency, percentile / 100)))) / 1000
