"""Tokens for programs that use the API. Their text is shown once and kept nowhere."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from token_tracker.database.models import ServiceToken, User
from token_tracker.domain.access import EVERYTHING, Permission, Role, Scope, scope_of
from token_tracker.domain.problems import Invalid, NotFound
from token_tracker.services import checks
from token_tracker.services.pages import DEFAULT_LIMIT, Page, newest_first
from token_tracker.services.usage import format_time

TEXT_PREFIX = "svc-tt-"
_PREFIX_CHARACTERS = 13
# A token that makes tokens would outlive its own end; a password is a person's.
OF_PEOPLE = {Permission.TOKENS_READ, Permission.TOKENS_MANAGE, Permission.PASSWORD_CHANGE}


def create(
    session: Session, *, user: User, name: str, permissions: list[str], at: datetime, expires_at: datetime | None = None
) -> tuple[ServiceToken, str]:
    """A token that acts as `user`, and its text, for the only time. Raises Invalid with all problems."""
    problems = checks.text("name", name, at_most=200) + _permission_problems(user, permissions)
    if expires_at is not None:
        problems += checks.future("expires_at", expires_at, at)
    if problems:
        raise Invalid(problems)
    text = TEXT_PREFIX + secrets.token_urlsafe(32)
    token = ServiceToken(
        id=f"token_{secrets.token_hex(12)}",
        name=name,
        hash=_hash(text),
        prefix=text[:_PREFIX_CHARACTERS],
        user_id=user.id,
        permissions=sorted(set(permissions)),
        created_at=at,
        expires_at=expires_at,
    )
    session.add(token)
    session.flush()
    return token, text


def find(session: Session, *, text: str, at: datetime) -> ServiceToken | None:
    """The live token of this text."""
    found = session.scalar(select(ServiceToken).where(ServiceToken.hash == _hash(text)))
    return found if found is not None and is_live(found, at) else None


def is_live(token: ServiceToken, at: datetime) -> bool:
    """Whether it may be used: neither revoked nor expired."""
    return token.revoked_at is None and (token.expires_at is None or token.expires_at > at)


def public(token: ServiceToken) -> dict[str, Any]:
    """What may be shown of a token, as JSON has it."""
    return {
        "id": token.id,
        "prefix": token.prefix,
        "name": token.name,
        "user": token.user_id,
        "permissions": token.permissions,
        "created_at": format_time(token.created_at),
        "expires_at": None if token.expires_at is None else format_time(token.expires_at),
        "revoked_at": None if token.revoked_at is None else format_time(token.revoked_at),
    }


def list_tokens(
    session: Session, *, scope: Scope = EVERYTHING, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[ServiceToken]:
    """Tokens within `scope`, ended ones included, newest first. Raises Invalid."""
    return newest_first(session, _within(scope), ServiceToken, limit=limit, cursor=cursor)


def revoke(session: Session, *, token_id: str, at: datetime, scope: Scope = EVERYTHING) -> ServiceToken:
    """Ends it for good; a second time changes nothing. Raises NotFound, also for one outside `scope`."""
    found = None
    if checks.may_be_stored(token_id):
        found = session.scalar(_within(scope).where(ServiceToken.id == token_id).with_for_update())
    if found is None:
        raise NotFound("service token", token_id)
    found.revoked_at = found.revoked_at or at
    session.flush()
    return found


def _within(scope: Scope) -> Select[ServiceToken]:
    statement = select(ServiceToken).join(User, User.id == ServiceToken.user_id)
    if scope.user is not None:
        statement = statement.where(ServiceToken.user_id == scope.user)
    if scope.team is not None:
        statement = statement.where(User.team_id == scope.team)
    return statement


def _permission_problems(user: User, permissions: list[str]) -> checks.Problems:
    if not permissions:
        return [("permissions", "must name at least one permission")]
    own = {
        permission
        for permission in Permission
        if scope_of(Role(user.role), permission, user=user.id, team=user.team_id) is not None
    } - OF_PEOPLE
    wrong = sorted(set(permissions) - own)
    if not wrong:
        return []
    return [("permissions", f"cannot hold {', '.join(wrong)}: yours are {', '.join(sorted(own))}")]


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
