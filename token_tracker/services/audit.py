"""Writes down who changed what, in the transaction that changes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from token_tracker.database.models import AuditEntry
from token_tracker.domain.problems import Invalid
from token_tracker.services.pages import DEFAULT_LIMIT, MAX_LIMIT, Page


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks. `user`: a user's id, 'config' for proxy.yaml, 'system' for what nobody asked for. `via`: the id of the
    token it came by; `address`, `request_id`: of the request; '' for none."""

    user: str
    via: str = ""
    address: str = ""
    request_id: str = ""


CONFIGURATION = Actor("config")


def record(
    session: Session,
    actor: Actor,
    action: str,
    object_id: str,
    *,
    at: datetime,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> AuditEntry | None:
    """`action`: '<object type>.<verb>', as 'budget.create'. Of `before` and `after` (public fields, as JSON has them)
    only what differs is kept; a change of nothing is no entry.
    """
    if before is not None and after is not None:
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        if not changed:
            return None
        before = {name: before[name] for name in sorted(changed & before.keys())}
        after = {name: after[name] for name in sorted(changed & after.keys())}
    entry = AuditEntry(
        at=at,
        actor=actor.user[:64],
        via=actor.via[:40],
        address=actor.address[:64],
        request_id=actor.request_id[:64],
        action=action,
        object_type=action.partition(".")[0],
        object_id=object_id,
        before=dict(before) if before is not None else None,
        after=dict(after) if after is not None else None,
    )
    session.add(entry)
    session.flush()
    return entry


@dataclass(frozen=True, slots=True)
class AuditFilters:
    """None asks nothing. `start` <= at < `end`."""

    start: datetime | None = None
    end: datetime | None = None
    actor: str | None = None
    action: str | None = None
    object_type: str | None = None
    object_id: str | None = None


def list_entries(
    session: Session, filters: AuditFilters, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[AuditEntry]:
    """Newest first. Raises Invalid (limit, cursor)."""
    problems = [] if 1 <= limit <= MAX_LIMIT else [("limit", f"must be between 1 and {MAX_LIMIT}")]
    if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 18):
        problems.append(("cursor", "is not one that this list gave out"))
    if problems:
        raise Invalid(problems)
    statement = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit + 1)
    for name in ("actor", "action", "object_type", "object_id"):
        if (value := getattr(filters, name)) is not None:
            statement = statement.where(getattr(AuditEntry, name) == value)
    if filters.start is not None:
        statement = statement.where(AuditEntry.at >= filters.start)
    if filters.end is not None:
        statement = statement.where(AuditEntry.at < filters.end)
    if cursor is not None:
        statement = statement.where(AuditEntry.id < int(cursor))
    found = list(session.scalars(statement))
    return Page(found[:limit], str(found[limit - 1].id) if len(found) > limit else None)
