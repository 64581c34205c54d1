"""What each rule sees in the books at one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from token_tracker.database.models import AlertRule, ApiKey, OpenHolds
from token_tracker.domain import alert_signals as signals
from token_tracker.domain.alert_flow import Observation
from token_tracker.domain.alert_signals import Expiry
from token_tracker.domain.money import NANO_PER_USD
from token_tracker.services import alert_budgets, alert_sums, open_holds
from token_tracker.services.alert_sums import HOUR
from token_tracker.services.rollups import first_hour, hour_of

DAY, WEEK = timedelta(days=1), timedelta(days=7)
REFUSED = "rate_limit_exceeded"


@dataclass(frozen=True, slots=True)
class Look:
    """`since`: when this worker began to look; `away`: seconds that a store was away that the books cannot tell of."""

    at: datetime
    since: datetime
    away: Mapping[str, int] = field(default_factory=dict)

    @property
    def hour(self) -> datetime:
        return hour_of(self.at)


def observe(session: Session, rule: AlertRule, look: Look) -> list[Observation]:
    """Of the rule's subject, or of all."""
    return [
        each
        for each in _OBSERVERS[rule.kind](session, rule, look)
        if rule.subject in ("", each.subject, each.subject.partition("|")[0])
    ]


def _errors(session: Session, rule: AlertRule, look: Look) -> Iterable[Observation]:
    return signals.error_rates(_recent(session, rule, look))


def _latency(session: Session, rule: AlertRule, look: Look) -> Iterable[Observation]:
    return signals.latencies(_recent(session, rule, look), rule.options["percentile"])


def _slow(session: Session, rule: AlertRule, look: Look) -> Iterable[Observation]:
    start = look.hour - rule.options["days"] * DAY
    usual = alert_sums.traffic(session, rule.options["by"], start=start, end=look.hour - HOUR)
    options = {name: rule.options[name] for name in ("least_calls", "least_ms")}
    return signals.slowness(_recent(session, rule, look), usual, **options)


def _recent(session: Session, rule: AlertRule, look: Look) -> dict[str, signals.Traffic]:
    by, hour = rule.options["by"], look.hour
    this = alert_sums.traffic(session, by, start=hour, end=hour + HOUR)
    before = alert_sums.traffic(session, by, start=hour - HOUR, end=hour)
    return signals.recent(this, before, rule.options["least_calls"])


def _unusual(session: Session, rule: AlertRule, look: Look) -> Iterable[Observation]:
    first, weeks, by = first_hour(session), rule.options["weeks"], rule.options["by"]
    if first is None or look.hour - first < WEEK + HOUR:
        return []
    now = (look.hour, look.hour - HOUR)
    hours = [*now, *(past for each in now for past in signals.past_hours(each, first, weeks))]
    start = max(first, look.hour - weeks * WEEK)
    counted = max(1, (now[1] - start) // HOUR)
    total = alert_sums.spent(session, by, start=start, end=now[1])
    return signals.unusual_spend(
        alert_sums.spent_by_hour(session, by, hours),
        {name: amount // counted for name, amount in total.items()},
        look.hour,
        first=first,
        weeks=weeks,
        least=rule.options["least_usd"] * NANO_PER_USD,
    )


def _unpriced(session: Session, _: AlertRule, look: Look) -> Iterable[Observation]:
    return signals.numbers(alert_sums.unpriced(session, start=look.hour - DAY))


def _missing(session: Session, rule: AlertRule, look: Look) -> Iterable[Observation]:
    counts = alert_sums.streams(session, start=look.at - HOUR)
    least, least_missing = rule.options["least_calls"], rule.options["least_missing"]
    return signals.shares(counts, least=least, least_counted=least_missing)


def _overrun(session: Session, _: AlertRule, look: Look) -> Iterable[Observation]:
    return signals.numbers(alert_sums.overruns(session, start=look.at - HOUR))


def _refused(session: Session, rule: AlertRule, look: Look) -> Iterable[Observation]:
    hours = (look.hour, look.hour - HOUR)
    return signals.numbers(alert_sums.refused(session, rule.options["by"], REFUSED, hours=hours))


def _expiring(session: Session, rule: AlertRule, look: Look) -> Iterable[Observation]:
    successor = aliased(ApiKey)
    soon = look.at + timedelta(hours=1.1 * max(map(float, rule.thresholds)))
    is_wanted = (ApiKey.expires_at > look.at, ApiKey.expires_at <= soon, ApiKey.revoked_at.is_(None))
    was_rotated = select(successor.id).where(successor.predecessor_id == ApiKey.id).exists()
    rows = session.scalars(select(ApiKey).where(*is_wanted, ~was_rotated))
    keys = [Expiry(row.id, row.name, row.user_id, row.created_at, row.expires_at) for row in rows if row.expires_at]
    return signals.expiring(keys, look.at, least_days=rule.options["least_days"])


def _backlog(session: Session, _: AlertRule, look: Look) -> Iterable[Observation]:
    for node, content in open_holds.by_node(session):
        facts = {"name": node, "counted": content.backlog_mib}
        yield Observation(node, Decimal(content.backlog_mib), facts)


def _away(session: Session, _: AlertRule, look: Look) -> Iterable[Observation]:
    """A gateway's node that says nothing, the store that gateways share, and what the worker itself cannot reach. A
    node that was silent for a day before is gone for good."""
    for node, published_at in session.execute(select(OpenHolds.node, OpenHolds.published_at)):
        if look.at - published_at < DAY:
            silent = min(look.at - published_at, look.at - look.since)
            yield _silence(f"node {node}", max(0, int(silent.total_seconds())))
    for node, content in open_holds.by_node(session):
        since = datetime.fromtimestamp(content.store_away_since_us / 1_000_000, UTC)
        away_s = int((look.at - since).total_seconds()) if content.store_away_since_us else 0
        yield _silence(f"redis of node {node}", away_s)
    for name, away_s in look.away.items():
        yield _silence(name, away_s)


def _silence(name: str, away_s: int) -> Observation:
    return Observation(name, Decimal(away_s), {"name": name, "counted": away_s})


_OBSERVERS: Mapping[str, Callable[[Session, AlertRule, Look], Iterable[Observation]]] = {
    "budget.forecast": lambda session, rule, look: alert_budgets.forecasts(session, rule, look.at),
    "budget.unproven": lambda session, rule, look: alert_budgets.unproven(session, rule, look.at),
    "budget.overrun": _overrun,
    "spend.unusual": _unusual,
    "upstream.errors": _errors,
    "upstream.latency": _latency,
    "upstream.slow": _slow,
    "usage.unpriced": _unpriced,
    "usage.missing": _missing,
    "requests.refused": _refused,
    "key.expiring": _expiring,
    "journal.backlog": _backlog,
    "store.away": _away,
}
