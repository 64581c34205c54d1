"""Who sends a request: a person by an access token, or a program by a service token."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from token_tracker.api.routing import Account
from token_tracker.api.tokens import AccessTokens
from token_tracker.database.models import User
from token_tracker.database.session import reading
from token_tracker.domain.access import Role
from token_tracker.services import refresh_tokens, service_tokens


def find_account(authorization: str, engine: Engine, tokens: AccessTokens, at: datetime) -> Account | None:
    """The account of an `Authorization` header, read from the database each time: who was disabled or logged out, or
    whose token was revoked, is out at once."""
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer":
        return None
    if token.startswith(service_tokens.TEXT_PREFIX):
        with reading(engine) as session:
            return _program(session, token, at)
    access = tokens.read(token)
    if access is None:
        return None
    with reading(engine) as session:
        user = _active(session, access.user)
        if user is None or not refresh_tokens.family_is_live(session, family=access.login, user_id=user.id, at=at):
            return None
        return Account(user.id, Role(user.role), user.team_id, login=access.login)


def _program(session: Session, text: str, at: datetime) -> Account | None:
    token = service_tokens.find(session, text=text, at=at)
    user = _active(session, token.user_id) if token is not None else None
    if token is None or user is None:
        return None
    return Account(user.id, Role(user.role), user.team_id, token=token.id, permissions=frozenset(token.permissions))


def _active(session: Session, user_id: str) -> User | None:
    user = session.get(User, user_id)
    return user if user is not None and user.disabled_at is None else None
