"""Virtual keys. A change acts on the gateway within two seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from token_tracker.api.errors import forbidden
from token_tracker.api.routing import Call, Route
from token_tracker.api.schemas import (
    Key,
    KeyChange,
    KeyCreate,
    KeyPage,
    KeyQuery,
    KeyRotate,
    NewKey,
    given,
    key_shown,
    new_key_shown,
)
from token_tracker.database.models import ApiKey, User
from token_tracker.database.session import reading, transaction
from token_tracker.domain.access import EVERYTHING, Permission, may_put_on_key
from token_tracker.domain.problems import Invalid
from token_tracker.services import budgets, key_rules, keys, rate_limits


def list_keys(call: Call, query: KeyQuery) -> KeyPage:
    with reading(call.engine) as session:
        page = keys.list_keys(
            session, scope=call.scope, user=query.user, team=query.team, limit=query.limit, cursor=query.cursor
        )
        return KeyPage([key_shown(key) for key in page.items], page.next_cursor)


def create(call: Call, body: KeyCreate) -> NewKey:
    user = body.user or call.caller.user
    fields: dict[str, Any] = {
        "name": body.name,
        "agent": body.agent or "",
        "models": body.models,
        "permissions": body.permissions,
        "expires_at": body.expires_at,
    }
    with transaction(call.engine) as session:
        _check_reach(call, session, user, body.team)
        _check_permissions(call, body.permissions, [])
        key, text = keys.create(session, user=user, team=body.team, created_by=call.caller.user, at=call.at, **fields)
        call.record(session, "key.create", key.id, after=key_shown(key))
        _add_rules(call, session, key, body)
    return new_key_shown(key, text)


def _add_rules(call: Call, session: Session, key: ApiKey, body: KeyCreate) -> None:
    """Raises Invalid, by the names that the fields have here; then there is no key either."""
    try:
        if (wanted := body.budget) is not None:
            budgets.save(
                session,
                scope_type="key",
                scope_id=key.id,
                name=f"Budget of {key.name}"[:200],
                period=wanted.period,
                timezone=wanted.timezone,
                limit_usd=wanted.limit_usd,
                limit_tokens=wanted.limit_tokens,
                enforcement=wanted.enforcement,
                actor=call.actor,
                at=call.at,
            )
    except Invalid as error:
        raise Invalid([(f"budget.{field}", message) for field, message in error.problems]) from None
    for index, limit in enumerate(body.rate_limits):
        try:
            rate_limits.save(
                session,
                scope_type="key",
                scope_id=key.id,
                unit=limit.unit,
                limit=limit.limit,
                period=limit.period,
                actor=call.actor,
                at=call.at,
            )
        except Invalid as error:
            raise Invalid([(f"rate_limits[{index}].{field}", said) for field, said in error.problems]) from None


def show(call: Call, key_id: str) -> Key:
    with reading(call.engine) as session:
        return key_shown(keys.get(session, key_id=key_id, scope=call.scope))


def change(call: Call, key_id: str, body: KeyChange) -> Key:
    changes = given(body)
    if "agent" in changes:
        changes["agent"] = changes["agent"] or ""
    with transaction(call.engine) as session:
        known = keys.get(session, key_id=key_id, scope=call.scope)
        before = key_shown(known)
        call.expect(before)
        _check_permissions(call, changes.get("permissions", []), known.permissions)
        after = key_shown(keys.update(session, key_id=key_id, at=call.at, scope=call.scope, **changes))
        call.record(session, "key.update", key_id, before=before, after=after)
        return after


def rotate(call: Call, key_id: str, body: KeyRotate) -> NewKey:
    with transaction(call.engine) as session:
        key, text = keys.rotate(
            session,
            key_id=key_id,
            overlap_s=body.overlap_s,
            created_by=call.caller.user,
            at=call.at,
            scope=call.scope,
        )
        call.record(session, "key.rotate", key_id, after=key_shown(key))
        key_rules.hand_on(session, key_id=key_id, successor_id=key.id, actor=call.actor, at=call.at)
    return new_key_shown(key, text)


def revoke(call: Call, key_id: str) -> None:
    with transaction(call.engine) as session:
        before = key_shown(keys.get(session, key_id=key_id, scope=call.scope))
        after = key_shown(keys.revoke(session, key_id=key_id, at=call.at, scope=call.scope))
        call.record(session, "key.revoke", key_id, before=before, after=after)


def _check_reach(call: Call, session: Session, user: str, team: str | None) -> None:
    """Others' keys are for those who manage them; the answer does not tell whether such a user or team exists."""
    if call.scope == EVERYTHING:
        return
    owner = session.get(User, user)
    reached = owner is not None and call.scope.covers(user=owner.id, team=owner.team_id)
    if not reached or team not in (None, call.caller.team):
        raise forbidden("You may make keys only for yourself and, as a manager, for the members of your team.")


def _check_permissions(call: Call, wanted: Sequence[str], known: Sequence[str]) -> None:
    """Also on one's own key: what a key may do beyond calling models acts on others. What it has it may keep."""
    if not may_put_on_key(call.caller.role, [each for each in wanted if each not in known]):
        raise forbidden("Your role may not put these permissions on a key; ask an admin.")


READ, MANAGE = Permission.KEYS_READ, Permission.KEYS_MANAGE
ROUTES = (
    Route("GET", "/api/keys", list_keys, READ, "Keys, newest first", KeyPage, query=KeyQuery),
    Route("POST", "/api/keys", create, MANAGE, "Make a key; its text is shown this once", NewKey, 201, body=KeyCreate),
    Route("GET", "/api/keys/{key_id}", show, READ, "One key", Key),
    Route("PATCH", "/api/keys/{key_id}", change, MANAGE, "Change a key", Key, body=KeyChange, errors=(409, 412)),
    Route("DELETE", "/api/keys/{key_id}", revoke, MANAGE, "Revoke a key for good", status=204),
    Route(
        "POST",
        "/api/keys/{key_id}/rotate",
        rotate,
        MANAGE,
        "Make a successor of a key",
        NewKey,
        201,
        body=KeyRotate,
        errors=(409,),
    ),
)
