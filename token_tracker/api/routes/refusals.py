"""Calls that were refused before anything was sent."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from token_tracker.api.routing import Call, Route
from token_tracker.api.schemas import Input, Time
from token_tracker.database.session import reading
from token_tracker.domain.access import Permission
from token_tracker.domain.problems import Invalid
from token_tracker.services import refusals as service


class RefusalsQuery(Input, frozen=True):
    """Whole UTC hours of `start` <= hour < `end`."""

    start: Time | None = None
    end: Time | None = None
    code: Annotated[str, Meta(max_length=64)] | None = None
    key: Annotated[str, Meta(max_length=255, description="a key's id")] | None = None
    user: Annotated[str, Meta(max_length=255)] | None = None
    team: Annotated[str, Meta(max_length=255)] | None = None
    model: Annotated[str, Meta(max_length=255)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class RefusalsItem(Struct, frozen=True):
    """So many calls that were refused alike. `key_id`, `user`, `team` are '' where the call had no valid key, `model`
    where none was read; a model that is not configured is 'other'."""

    code: str
    status: int
    key_id: str
    user: str
    team: str
    model: str
    endpoint: str
    calls: int
    first_hour: str
    last_hour: str


class RefusalsList(Struct, frozen=True):
    """The most frequent first."""

    items: list[RefusalsItem]


def refusals(call: Call, query: RefusalsQuery) -> RefusalsList:
    if query.start is not None and query.end is not None and query.end < query.start:
        raise Invalid([("end", "is before start")])
    filters = service.RefusalFilters(
        start=query.start,
        end=query.end,
        code=query.code,
        key=query.key,
        user=query.user,
        team=query.team,
        model=query.model,
        scope=call.scope,
    )
    with reading(call.engine) as session:
        found = service.refusals(session, filters, limit=query.limit)
    return RefusalsList([RefusalsItem(**service.public(each)) for each in found])


ROUTES = (
    Route(
        "GET",
        "/api/refusals",
        refusals,
        Permission.USAGE_READ,
        "Calls that were refused before anything was sent, by code, key, model and endpoint",
        RefusalsList,
        query=RefusalsQuery,
    ),
)
