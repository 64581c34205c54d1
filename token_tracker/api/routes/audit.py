"""Who changed what."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from token_tracker.api.routing import Call, Route
from token_tracker.api.schemas import PageQuery, Time
from token_tracker.database.models import AuditEntry
from token_tracker.database.session import reading
from token_tracker.domain.access import Permission
from token_tracker.services import audit
from token_tracker.services.usage import format_time

Text = Annotated[str, Meta(max_length=255)]


class AuditQuery(PageQuery, frozen=True):
    start: Time | None = None
    end: Time | None = None
    actor: Text | None = None
    action: Text | None = None
    object_type: Text | None = None
    object_id: Text | None = None


class AuditShown(Struct, frozen=True):
    """`actor`: a user, 'config' for proxy.yaml, or 'system'. `via`: the service token it came by. `before`, `after`:
    what differs, null where there was nothing."""

    id: int
    at: str
    actor: str
    via: str | None
    address: str | None
    request_id: str | None
    action: str
    object_type: str
    object_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class AuditPage(Struct, frozen=True):
    items: list[AuditShown]
    next_cursor: str | None


def list_entries(call: Call, query: AuditQuery) -> AuditPage:
    names = ("start", "end", "actor", "action", "object_type", "object_id")
    filters = audit.AuditFilters(**{name: getattr(query, name) for name in names})
    with reading(call.engine) as session:
        page = audit.list_entries(session, filters, limit=query.limit, cursor=query.cursor)
        return AuditPage([_shown(entry) for entry in page.items], page.next_cursor)


def _shown(entry: AuditEntry) -> AuditShown:
    return AuditShown(
        entry.id,
        format_time(entry.at),
        entry.actor,
        entry.via or None,
        entry.address or None,
        entry.request_id or None,
        entry.action,
        entry.object_type,
        entry.object_id,
        entry.before,
        entry.after,
    )


ROUTES = (
    Route(
        "GET",
        "/api/audit-log",
        list_entries,
        Permission.AUDIT_READ,
        "Who changed what, newest first",
        AuditPage,
        query=AuditQuery,
    ),
)
