"""Freezes: calls stop within two seconds, until the freeze is deleted."""

from __future__ import annotations

from token_tracker.api.routing import Answer, Call, Route
from token_tracker.api.rule_schemas import FreezePage, FreezeSave, FreezeShown, freeze_shown
from token_tracker.api.schemas import PageQuery
from token_tracker.database.session import reading, transaction
from token_tracker.domain.access import Permission
from token_tracker.services import freezes


def list_freezes(call: Call, query: PageQuery) -> FreezePage:
    with reading(call.engine) as session:
        page = freezes.list_freezes(session, scope=call.scope, limit=query.limit, cursor=query.cursor)
        return FreezePage([freeze_shown(freeze) for freeze in page.items], page.next_cursor)


def freeze(call: Call, body: FreezeSave) -> Answer:
    scope_type, scope_id = body.scope.type, body.scope.id
    with transaction(call.engine) as session:
        made, is_new = freezes.freeze(
            session,
            scope_type=scope_type,
            scope_id=scope_id,
            model=body.model,
            reason=body.reason,
            actor=call.actor,
            at=call.at,
        )
        return Answer(freeze_shown(made), 201 if is_new else 200)


def unfreeze(call: Call, freeze_id: str) -> None:
    with transaction(call.engine) as session:
        freezes.unfreeze(session, freeze_id=freeze_id, actor=call.actor, at=call.at)


READ, MANAGE = Permission.RULES_READ, Permission.RULES_MANAGE
ROUTES = (
    Route("GET", "/api/freezes", list_freezes, READ, "Freezes, newest first", FreezePage, query=PageQuery),
    Route(
        "POST",
        "/api/freezes",
        freeze,
        MANAGE,
        "Stop a key, user, team, model or everything",
        FreezeShown,
        201,
        body=FreezeSave,
        other_statuses=(200,),
        errors=(409,),
    ),
    Route("DELETE", "/api/freezes/{freeze_id}", unfreeze, MANAGE, "Let the calls through again", status=204),
)
