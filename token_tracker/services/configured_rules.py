"""The rate limits and budgets of proxy.yaml as rows of source 'config'."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from token_tracker.config.values import BudgetEntry, RateLimitEntry
from token_tracker.database.models import Budget, BudgetAlert, RateLimit
from token_tracker.services import counters

SOURCE = "config"
Rule = TypeVar("Rule", RateLimit, Budget)
Entry = TypeVar("Entry", RateLimitEntry, BudgetEntry)
Key = tuple[str, ...]


def follow_rate_limits(session: Session, entries: Sequence[RateLimitEntry], at: datetime) -> list[str]:
    """Make the rows follow the entries; warns of entries that an API-made row, or a later entry, stands against."""
    counts = Counter(map(_limit_key, entries))
    twice = [
        f"rate_limits names {' '.join(filter(None, key))} {count} times: the last entry counts."
        for key, count in counts.items()
        if count > 1
    ]
    wanted = {_limit_key(entry): entry for entry in entries}
    return [*twice, *_follow(session, _limits(session), wanted, lambda entry: _new_limit(entry, at), _change_limit)]


def follow_budgets(session: Session, entries: Sequence[BudgetEntry], at: datetime) -> list[str]:
    """The same for budgets."""
    counters.lock_exclusive(session)  # a recorder that counts for one that goes would fail on it
    wanted = {_budget_key(entry): entry for entry in entries}
    return list(_follow(session, _budgets(session), wanted, lambda entry: _new_budget(entry, at), _change_budget))


def _follow(
    session: Session,
    rows: dict[Key, Rule],
    entries: dict[Key, Entry],
    make: Callable[[Entry], Rule],
    change: Callable[[Rule, Entry], None],
) -> Iterator[str]:
    for key, row in rows.items():
        if row.source == SOURCE and key not in entries:
            session.delete(row)
    for key, entry in entries.items():
        found = rows.get(key)
        if found is None:
            session.add(make(entry))
        elif found.source == SOURCE:
            change(found, entry)
        else:
            label = " ".join(filter(None, key))
            yield (
                f"'{found.id}' in {found.__tablename__} ({label}) was made through the API and stands; "
                "the entry of proxy.yaml for the same is ignored. Delete one of the two."
            )


def _limits(session: Session) -> dict[Key, RateLimit]:
    rows = session.scalars(select(RateLimit))
    return {(row.scope_type, row.scope_id, row.model, row.unit, row.period): row for row in rows}


def _limit_key(entry: RateLimitEntry) -> Key:
    return entry.scope_type, entry.scope_id or "", entry.model or "", entry.unit, entry.period


def _new_limit(entry: RateLimitEntry, at: datetime) -> RateLimit:
    scope_type, scope_id, model, unit, period = _limit_key(entry)
    return RateLimit(
        id=f"limit_{secrets.token_hex(12)}",
        scope_type=scope_type,
        scope_id=scope_id,
        model=model,
        unit=unit,
        period=period,
        limit=entry.limit,
        on_store_error=entry.on_store_error,
        source=SOURCE,
        created_at=at,
    )


def _change_limit(row: RateLimit, entry: RateLimitEntry) -> None:
    row.limit, row.on_store_error = entry.limit, entry.on_store_error


def _budgets(session: Session) -> dict[Key, Budget]:
    return {(row.scope_type, row.scope_id, row.model, row.period): row for row in session.scalars(select(Budget))}


def _budget_key(entry: BudgetEntry) -> Key:
    return "global", "", "", entry.period


def _new_budget(entry: BudgetEntry, at: datetime) -> Budget:
    scope_type, scope_id, model, period = _budget_key(entry)
    budget = Budget(
        id=f"budget_{secrets.token_hex(12)}",
        name=f"{period.capitalize()} budget of proxy.yaml",
        scope_type=scope_type,
        scope_id=scope_id,
        model=model,
        period=period,
        source=SOURCE,
        starts_at=at,
        created_at=at,
    )
    _change_budget(budget, entry)
    return budget


def _change_budget(row: Budget, entry: BudgetEntry) -> None:
    """A budget that was changed keeps its start: what was spent stays spent. In another zone its windows are others,
    and are counted anew from the ledger."""
    if row.timezone != entry.timezone:
        row.counter_built_at = None
    row.limit_nano_usd, row.enforcement, row.timezone = entry.limit_nano_usd, entry.enforcement, entry.timezone
    wanted = {(a.threshold_percent, a.email, a.slack_webhook, a.webhook) for a in entry.alerts}
    present = {(a.threshold_percent, a.email, a.slack_webhook, a.webhook): a for a in row.alerts}
    for alert in present.keys() - wanted:
        row.alerts.remove(present[alert])
    for percent, email, slack_webhook, webhook in sorted(wanted - present.keys(), key=str):
        row.alerts.append(
            BudgetAlert(threshold_percent=percent, email=email, slack_webhook=slack_webhook, webhook=webhook)
        )
