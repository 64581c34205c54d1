"""Virtual keys: made, changed, rotated and revoked. Their text is shown once and kept nowhere."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Any, TypedDict, Unpack

from sqlalchemy import select
from sqlalchemy.orm import Session

from token_tracker.database.models import ApiKey
from token_tracker.domain.access import EVERYTHING, KEY_PERMISSIONS, Scope
from token_tracker.domain.problems import Conflict, Invalid, NotFound
from token_tracker.services import checks
from token_tracker.services.accounts import find_team, find_user
from token_tracker.services.pages import DEFAULT_LIMIT, Page, newest_first
from token_tracker.services.usage import format_time

TEXT_PREFIX = "sk-tt-"
ALL_MODELS = "*"
MAX_OVERLAP_S = 30 * 24 * 3600
_PREFIX_CHARACTERS = 12  # of the text, to recognise a key by; the 37 others stay unknown


class KeyFields(TypedDict, total=False):
    """What the owner of a key may set. `agent` '' pins none; `models` are names, prefixes with '*', or '*'.

    `permissions`: what a key may do beyond calling models (`domain/access.py`).
    """

    name: str
    agent: str
    models: list[str]
    permissions: list[str]
    expires_at: datetime | None


def hash_of(text: str) -> bytes:
    """What is stored: SHA-256 suffices for a text of 256 random bits."""
    return hashlib.sha256(text.encode()).digest()


def public(key: ApiKey) -> dict[str, Any]:
    """What may be shown of a key: JSON, without its text."""
    return {
        "id": key.id,
        "prefix": key.prefix,
        "name": key.name,
        "user": key.user_id,
        "team": key.team_id,
        "agent": key.agent or None,
        "models": key.models,
        "permissions": key.permissions,
        "predecessor": key.predecessor_id,
        "created_at": format_time(key.created_at),
        "created_by": key.created_by,
        "expires_at": None if key.expires_at is None else format_time(key.expires_at),
        "revoked_at": None if key.revoked_at is None else format_time(key.revoked_at),
    }


def is_live(key: ApiKey, at: datetime) -> bool:
    """Neither revoked nor expired at `at`."""
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > at)


def create(
    session: Session,
    *,
    user: str,
    created_by: str,
    at: datetime,
    team: str | None = None,
    **fields: Unpack[KeyFields],
) -> tuple[ApiKey, str]:
    """A new key of `user`, and its text, for the only time. `name` is required; `team` defaults to the user's own.

    Raises Invalid with all problems.
    """
    problems = _problems(fields, at)
    if "name" not in fields:
        problems.append(("name", "is required"))
    owner = find_user(session, user)
    if owner is None or owner.disabled_at is not None:
        problems.append(("user", f"there is no active user '{user}'"))
    if team is not None and find_team(session, team) is None:
        problems.append(("team", f"there is no team '{team}'"))
    if problems or owner is None:
        raise Invalid(problems)
    return _add(session, owner.id, team or owner.team_id, created_by, at, dict(fields))


def get(session: Session, *, key_id: str, scope: Scope = EVERYTHING) -> ApiKey:
    """Raises NotFound, also for a key outside `scope`."""
    return _found(session, key_id, scope)


def names(session: Session) -> dict[str, str]:
    """The name of each key, by id."""
    return dict(session.execute(select(ApiKey.id, ApiKey.name)).tuples().all())


def list_keys(
    session: Session,
    *,
    scope: Scope = EVERYTHING,
    user: str | None = None,
    team: str | None = None,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[ApiKey]:
    """Keys within `scope`, revoked and expired ones included, newest first. Raises Invalid."""
    if problems := [(name, "is no name") for name, value in (("user", user), ("team", team)) if not _may_filter(value)]:
        raise Invalid(problems)
    statement = select(ApiKey)
    for owner in {scope.user, user} - {None}:
        statement = statement.where(ApiKey.user_id == owner)
    for group in {scope.team, team} - {None}:
        statement = statement.where(ApiKey.team_id == group)
    return newest_first(session, statement, ApiKey, limit=limit, cursor=cursor)


def update(
    session: Session, *, key_id: str, at: datetime, scope: Scope = EVERYTHING, **changes: Unpack[KeyFields]
) -> ApiKey:
    """Change the fields given. Raises NotFound, Conflict (revoked), Invalid."""
    key = _locked(session, key_id, scope)
    if key.revoked_at is not None:
        raise Conflict(f"The key '{key_id}' is revoked for good. Make a new one.")
    if problems := _problems(changes, at):
        raise Invalid(problems)
    for name, value in _stored(dict(changes)).items():
        setattr(key, name, value)
    session.flush()
    return key


def rotate(
    session: Session, *, key_id: str, overlap_s: int, created_by: str, at: datetime, scope: Scope = EVERYTHING
) -> tuple[ApiKey, str]:
    """A successor with the same rights, and its text; the old key works for `overlap_s` seconds more.

    A successor of a key with an end gets as long a life as the old one was given. Raises NotFound, Conflict (not
    live, or rotated before), Invalid.
    """
    old = _locked(session, key_id, scope)
    if isinstance(overlap_s, bool) or not isinstance(overlap_s, int) or not 0 <= overlap_s <= MAX_OVERLAP_S:
        raise Invalid([("overlap_s", f"must be a whole number of seconds from 0 to {MAX_OVERLAP_S}")])
    if not is_live(old, at):
        raise Conflict(f"The key '{key_id}' is revoked or expired. Make a new one.")
    successor = session.scalars(select(ApiKey.id).where(ApiKey.predecessor_id == key_id)).first()
    if successor is not None:
        raise Conflict(f"The key '{key_id}' was rotated before: rotate its successor '{successor}'.")
    fields = {name: getattr(old, name) for name in ("name", "agent", "models", "permissions")}
    fields["expires_at"] = None if old.expires_at is None else at + (old.expires_at - old.created_at)
    new, text = _add(session, old.user_id, old.team_id, created_by, at, fields)
    new.predecessor_id = old.id
    end = at + timedelta(seconds=overlap_s)
    old.expires_at = end if old.expires_at is None else min(end, old.expires_at)
    session.flush()
    return new, text


def revoke(session: Session, *, key_id: str, at: datetime, scope: Scope = EVERYTHING) -> ApiKey:
    """Stop `key_id` working from `at` on; revoking twice keeps the first time. Raises NotFound."""
    key = _locked(session, key_id, scope)
    if key.revoked_at is None:
        key.revoked_at = at
        session.flush()
    return key


def _add(
    session: Session, user: str, team: str | None, created_by: str, at: datetime, fields: dict[str, Any]
) -> tuple[ApiKey, str]:
    text = TEXT_PREFIX + secrets.token_urlsafe(32)
    defaults = {"agent": "", "models": [ALL_MODELS], "permissions": [], "expires_at": None}
    key = ApiKey(
        id=f"key_{secrets.token_hex(12)}",
        hash=hash_of(text),
        prefix=text[:_PREFIX_CHARACTERS],
        user_id=user,
        team_id=team,
        created_at=at,
        created_by=created_by,
        **_stored(defaults | fields),
    )
    session.add(key)
    session.flush()
    return key, text


def _stored(fields: dict[str, Any]) -> dict[str, Any]:
    """Lists as lists: what JSON gives back, so that an equal value is no change."""
    return {name: list(value) if name in ("models", "permissions") else value for name, value in fields.items()}


def _problems(fields: KeyFields, at: datetime) -> checks.Problems:
    problems: checks.Problems = []
    if "name" in fields:
        problems += checks.text("name", fields["name"], at_most=200)
    if "agent" in fields:
        problems += checks.text("agent", fields["agent"], at_most=200, may_be_empty=True)
    if "models" in fields:
        problems += checks.texts("models", fields["models"], each_at_most=255, at_most=1000)
    if "permissions" in fields:
        problems += _permission_problems(fields["permissions"])
    if fields.get("expires_at") is not None:
        problems += checks.future("expires_at", fields.get("expires_at"), at)
    return problems


def _permission_problems(value: object) -> checks.Problems:
    known = ", ".join(sorted(KEY_PERMISSIONS))
    if not isinstance(value, list | tuple) or any(
        not isinstance(name, str) or name not in KEY_PERMISSIONS for name in value
    ):
        return [("permissions", f"must be a list of: {known}")]
    return [("permissions", "names one twice")] if len(set(value)) < len(value) else []


def _may_filter(value: str | None) -> bool:
    return value is None or checks.may_be_stored(value)


def _locked(session: Session, key_id: str, scope: Scope) -> ApiKey:
    return _found(session, key_id, scope, locked=True)


def _found(session: Session, key_id: str, scope: Scope, *, locked: bool = False) -> ApiKey:
    key = session.get(ApiKey, key_id, with_for_update=locked) if checks.may_be_stored(key_id) else None
    if key is None or not scope.covers(user=key.user_id, team=key.team_id):
        raise NotFound("key", key_id)
    return key
