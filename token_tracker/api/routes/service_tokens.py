"""Service tokens: how programs use the API."""

from __future__ import annotations

from token_tracker.api.errors import forbidden
from token_tracker.api.routing import Call, Route
from token_tracker.api.schemas import (
    NewServiceToken,
    PageQuery,
    ServiceTokenCreate,
    ServiceTokenPage,
    new_service_token_shown,
    service_token_shown,
)
from token_tracker.database.session import reading, transaction
from token_tracker.domain.access import Permission
from token_tracker.services import accounts, service_tokens


def list_tokens(call: Call, query: PageQuery) -> ServiceTokenPage:
    with reading(call.engine) as session:
        page = service_tokens.list_tokens(session, scope=call.scope, limit=query.limit, cursor=query.cursor)
        return ServiceTokenPage([service_token_shown(token) for token in page.items], page.next_cursor)


def create(call: Call, body: ServiceTokenCreate) -> NewServiceToken:
    if call.caller.token:
        raise forbidden("A service token cannot make others. Log in as the person.")
    with transaction(call.engine) as session:
        user = accounts.get_user(session, user_id=call.caller.user)
        token, text = service_tokens.create(
            session, user=user, name=body.name, permissions=body.permissions, expires_at=body.expires_at, at=call.at
        )
        call.record(session, "service_token.create", token.id, after=service_token_shown(token))
        return new_service_token_shown(token, text)


def revoke(call: Call, token_id: str) -> None:
    with transaction(call.engine) as session:
        token = service_tokens.revoke(session, token_id=token_id, at=call.at, scope=call.scope)
        if token.revoked_at == call.at:
            call.record(session, "service_token.revoke", token_id, after=service_token_shown(token))


MANAGE = Permission.TOKENS_MANAGE
ROUTES = (
    Route(
        "GET",
        "/api/service-tokens",
        list_tokens,
        Permission.TOKENS_READ,
        "Service tokens, newest first",
        ServiceTokenPage,
        query=PageQuery,
    ),
    Route(
        "POST",
        "/api/service-tokens",
        create,
        MANAGE,
        "Make a service token; its text is shown this once",
        NewServiceToken,
        201,
        body=ServiceTokenCreate,
    ),
    Route("DELETE", "/api/service-tokens/{token_id}", revoke, MANAGE, "Revoke a service token for good", status=204),
)
