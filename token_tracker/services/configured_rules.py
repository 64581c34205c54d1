"""The rate limits and budgets of proxy.yaml as rows of source 'config'."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from token_tracker.config.values import BudgetEntry, RateLimitEntry
from token_tracker.database.models import Budget, BudgetAlert, RateLimit
from token_tracker.database.models.rules import ALERT_COLUMNS
from token_tracker.services import alert_book, audit, budget_fields, counters, rate_limit_fields

SOURCE = "config"
Rule = TypeVar("Rule", RateLimit, Budget)
Entry = TypeVar("Entry", RateLimitEntry, BudgetEntry)
Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kind(Generic[Rule, Entry]):
    """What is done with rules of one kind. `noun`: by which the audit log names them."""

    noun: str
    make: Callable[[Entry, datetime], Rule]
    change: Callable[[Rule, Entry], None]
    public: Callable[[Rule], dict[str, Any]]


def follow_rate_limits(session: Session, entries: Sequence[RateLimitEntry], at: datetime) -> list[str]:
    """Make the rows follow the entries, of which no two are for the same; warns of entries that an API-made row stands
    against."""
    wanted = {_limit_key(entry): entry for entry in entries}
    return list(_follow(session, _RATE_LIMITS, _limits(session), wanted, at))


def follow_budgets(session: Session, entries: Sequence[BudgetEntry], at: datetime) -> list[str]:
    """The same for budgets."""
    counters.lock_exclusive(session)  # a recorder that counts for one that goes would fail on it
    wanted = {_budget_key(entry): entry for entry in entries}
    return list(_follow(session, _BUDGETS, _budgets(session), wanted, at))


def _follow(
    session: Session, kind: Kind[Rule, Entry], rows: dict[Key, Rule], entries: dict[Key, Entry], at: datetime
) -> Iterator[str]:
    def record(verb: str, row: Rule, **states: dict[str, Any]) -> None:
        audit.record(session, audit.CONFIGURATION, f"{kind.noun}.{verb}", row.id, at=at, **states)

    for key, row in rows.items():
        if row.source == SOURCE and key not in entries:
            record("delete", row, before=kind.public(row))
            alert_book.forget(session, row.id)
            session.delete(row)
    for key, entry in entries.items():
        found = rows.get(key)
        if found is None:
            session.add(made := kind.make(entry, at))
            session.flush()
            record("create", made, after=kind.public(made))
        elif found.source == SOURCE:
            before = kind.public(found)
            kind.change(found, entry)
            record("update", found, before=before, after=kind.public(found))
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
    wanted = {tuple(getattr(alert, name) for name in ALERT_COLUMNS) for alert in entry.alerts}
    present = {alert.said: alert for alert in row.alerts}
    for alert in present.keys() - wanted:
        row.alerts.remove(present[alert])
    for said in sorted(wanted - present.keys(), key=str):
        row.alerts.append(BudgetAlert(**dict(zip(ALERT_COLUMNS, said, strict=True))))


_RATE_LIMITS = Kind("rate_limit", _new_limit, _change_limit, rate_limit_fields.public)
_BUDGETS = Kind("budget", _new_budget, _change_budget, budget_fields.public)
