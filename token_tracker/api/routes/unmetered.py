"""What was served and could not be metered."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from token_tracker.api.routing import Call, Route
from token_tracker.api.schemas import Input, Time
from token_tracker.database.session import reading
from token_tracker.domain.access import Permission
from token_tracker.domain.problems import Invalid
from token_tracker.services import unmetered as service
from token_tracker.services.usage import Filters, format_time


class UnmeteredQuery(Input, frozen=True):
    """Rows of `start` <= timestamp < `end`."""

    start: Time | None = None
    end: Time | None = None
    provider: Annotated[str, Meta(max_length=255)] | None = None
    team: Annotated[str, Meta(max_length=255)] | None = None
    user: Annotated[str, Meta(max_length=255)] | None = None
    key: Annotated[str, Meta(max_length=255, description="a key's id")] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class UnmeteredItem(Struct, frozen=True):
    """So many attempts at one endpoint. `model` is '' where none was named. `request_bytes`, `response_bytes`: of the
    bodies that went to the upstream and came from it."""

    endpoint: str
    provider: str
    model: str
    end_reason: str
    team: str
    user: str
    key_id: str
    attempts: int
    request_bytes: int
    response_bytes: int
    first_at: str
    last_at: str


class UnmeteredList(Struct, frozen=True):
    """The most frequent first."""

    items: list[UnmeteredItem]


def unmetered(call: Call, query: UnmeteredQuery) -> UnmeteredList:
    if query.start is not None and query.end is not None and query.end < query.start:
        raise Invalid([("end", "is before start")])
    filters = Filters(
        start=query.start,
        end=query.end,
        provider=query.provider,
        team=query.team,
        user=query.user,
        key=query.key,
        scope=call.scope,
    )
    with reading(call.engine) as session:
        found = service.unmetered(session, filters, limit=query.limit)
    return UnmeteredList([_item(each) for each in found])


def _item(found: service.Unmetered) -> UnmeteredItem:
    return UnmeteredItem(
        endpoint=found.endpoint,
        provider=found.provider,
        model=found.model,
        end_reason=found.end_reason,
        team=found.team,
        user=found.user,
        key_id=found.key_id,
        attempts=found.attempts,
        request_bytes=found.request_bytes,
        response_bytes=found.response_bytes,
        first_at=format_time(found.first_at),
        last_at=format_time(found.last_at),
    )


ROUTES = (
    Route(
        "GET",
        "/api/unmetered",
        unmetered,
        Permission.USAGE_READ,
        "What was served and could not be metered, by endpoint, provider, model and key",
        UnmeteredList,
        query=UnmeteredQuery,
    ),
)
