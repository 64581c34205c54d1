"""Freezes: stop the calls of somebody, of a model, or all of them, at once and until they are taken back."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from token_tracker.database.models import Freeze
from token_tracker.domain.access import EVERYTHING, Scope
from token_tracker.domain.problems import Conflict, Invalid, NotFound
from token_tracker.services import audit, checks, scopes
from token_tracker.services.audit import Actor
from token_tracker.services.pages import DEFAULT_LIMIT, Page, newest_first
from token_tracker.services.rule_reach import within

TYPES = ("global", "key", "user", "team", scopes.MODEL)


def freeze(
    session: Session,
    *,
    scope_type: str,
    reason: str,
    actor: Actor,
    at: datetime,
    scope_id: str | None = None,
    model: str | None = None,
) -> tuple[Freeze, bool]:
    """Stop a key, user, team, model or everything; and whether it was made now: one that is there keeps its time and
    gets the new reason. Raises Invalid, Conflict (another one made the same at this moment)."""
    scope, problems = scopes.read(session, scope_type, scope_id, model, may_be_each=False)
    if scope_type not in TYPES and not any(field == "scope.type" for field, _ in problems):
        problems.append(("scope.type", f"must be one of {', '.join(TYPES)}"))
    problems += checks.text("reason", reason, at_most=500)
    if problems:
        raise Invalid(problems)
    found = session.scalars(
        select(Freeze).where(Freeze.scope_type == scope.type, Freeze.scope_id == scope.id, Freeze.model == scope.model)
    ).first()
    if found is not None:
        before, found.reason = public(found), reason
        audit.record(session, actor, "freeze.update", found.id, at=at, before=before, after=public(found))
        session.flush()
        return found, False
    made = Freeze(
        id=f"freeze_{secrets.token_hex(12)}",
        scope_type=scope.type,
        scope_id=scope.id,
        model=scope.model,
        reason=reason,
        created_at=at,
        created_by=actor.user[:64],
    )
    session.add(made)
    try:
        session.flush()
    except IntegrityError:
        raise Conflict("Somebody else has just frozen the same. Look at it, and try again.") from None
    audit.record(session, actor, "freeze.create", made.id, at=at, after=public(made))
    return made, True


def get(session: Session, *, freeze_id: str, scope: Scope = EVERYTHING) -> Freeze:
    """Raises NotFound, also for one outside `scope`."""
    found = None
    if checks.may_be_stored(freeze_id):
        found = session.scalar(select(Freeze).where(Freeze.id == freeze_id, within(scope, Freeze)))
    if found is None:
        raise NotFound("freeze", freeze_id)
    return found


def list_freezes(
    session: Session, *, scope: Scope = EVERYTHING, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[Freeze]:
    """Newest first. Raises Invalid (limit, cursor)."""
    return newest_first(session, select(Freeze).where(within(scope, Freeze)), Freeze, limit=limit, cursor=cursor)


def unfreeze(session: Session, *, freeze_id: str, actor: Actor, at: datetime) -> None:
    """Let the calls through again. Raises NotFound."""
    found = get(session, freeze_id=freeze_id)
    audit.record(session, actor, "freeze.delete", found.id, at=at, before=public(found))
    session.delete(found)
    session.flush()


def public(found: Freeze) -> dict[str, Any]:
    """What the audit log says of a freeze."""
    return {name: getattr(found, name) for name in ("scope_type", "scope_id", "model", "reason")}
