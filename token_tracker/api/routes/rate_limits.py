"""Rate limits. A change acts on the gateway within two seconds."""

from __future__ import annotations

from typing import Any

from token_tracker.api.routing import Answer, Call, Route
from token_tracker.api.rule_schemas import (
    RateLimitChange,
    RateLimitPage,
    RateLimitSave,
    RateLimitShown,
    rate_limit_shown,
)
from token_tracker.api.schemas import PageQuery
from token_tracker.database.session import reading, transaction
from token_tracker.domain.access import Permission
from token_tracker.services import rate_limits


def list_rate_limits(call: Call, query: PageQuery) -> RateLimitPage:
    with reading(call.engine) as session:
        page = rate_limits.list_rate_limits(session, scope=call.scope, limit=query.limit, cursor=query.cursor)
        return RateLimitPage([rate_limit_shown(limit) for limit in page.items], page.next_cursor)


def save(call: Call, body: RateLimitSave) -> Answer:
    fields: Any = body.fields()
    with transaction(call.engine) as session:
        limit, is_new = rate_limits.save(session, actor=call.actor, at=call.at, **fields)
        return Answer(rate_limit_shown(limit), 201 if is_new else 200)


def show(call: Call, limit_id: str) -> RateLimitShown:
    with reading(call.engine) as session:
        return rate_limit_shown(rate_limits.get(session, limit_id=limit_id, scope=call.scope))


def change(call: Call, limit_id: str, body: RateLimitChange) -> RateLimitShown:
    changes: Any = body.fields()
    with transaction(call.engine) as session:
        call.expect(rate_limit_shown(rate_limits.get(session, limit_id=limit_id)))
        changed = rate_limits.update(session, limit_id=limit_id, actor=call.actor, at=call.at, **changes)
        return rate_limit_shown(changed)


def delete(call: Call, limit_id: str) -> None:
    with transaction(call.engine) as session:
        rate_limits.delete(session, limit_id=limit_id, actor=call.actor, at=call.at)


READ, MANAGE = Permission.RULES_READ, Permission.RULES_MANAGE
ROUTES = (
    Route("GET", "/api/rate-limits", list_rate_limits, READ, "Rate limits", RateLimitPage, query=PageQuery),
    Route(
        "POST",
        "/api/rate-limits",
        save,
        MANAGE,
        "Make a rate limit (201), or change that of the same scope, model, unit and period (200)",
        RateLimitShown,
        201,
        body=RateLimitSave,
        other_statuses=(200,),
        errors=(409,),
    ),
    Route("GET", "/api/rate-limits/{limit_id}", show, READ, "One rate limit", RateLimitShown),
    Route(
        "PATCH",
        "/api/rate-limits/{limit_id}",
        change,
        MANAGE,
        "Change a rate limit",
        RateLimitShown,
        body=RateLimitChange,
        errors=(409, 412),
    ),
    Route("DELETE", "/api/rate-limits/{limit_id}", delete, MANAGE, "Delete a rate limit", status=204, errors=(409,)),
)
