"""Rate limits as the API sets them."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any, TypedDict, Unpack

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from token_tracker.database.models import RateLimit
from token_tracker.domain.access import EVERYTHING, Scope
from token_tracker.domain.problems import Conflict, Invalid, KeptInFile, NotFound, Unchangeable
from token_tracker.services import audit, checks, scopes
from token_tracker.services.audit import Actor
from token_tracker.services.budgets import API
from token_tracker.services.configured_rules import SOURCE
from token_tracker.services.pages import DEFAULT_LIMIT, Page, newest_first
from token_tracker.services.rate_limit_fields import public
from token_tracker.services.rule_reach import within

UNITS = ("requests", "tokens", "concurrent")
PERIODS = ("second", "minute", "hour", "day")
ON_STORE_ERROR = ("allow", "deny")
MOST = 2**52
_FIELDS = ("limit", "on_store_error")


class RateLimitFields(TypedDict, total=False):
    """What may be set and changed."""

    limit: int
    on_store_error: str


class RateLimitChanges(RateLimitFields, total=False):
    """With what cannot be changed, so that it can be said so: a value equal to what is there is no change."""

    scope_type: str
    scope_id: str | None
    model: str | None
    unit: str
    period: str | None


def save(
    session: Session,
    *,
    scope_type: str,
    actor: Actor,
    at: datetime,
    period: str | None = None,
    unit: str = "requests",
    scope_id: str | None = None,
    model: str | None = None,
    **fields: Unpack[RateLimitFields],
) -> tuple[RateLimit, bool]:
    """The limit of this scope, model, unit and period, and whether it was made now; one that is there is changed.

    `limit` is required; `period` too, but for `concurrent`, which has none. Raises Invalid with all problems,
    KeptInFile, Conflict (another one made the same at this moment).
    """
    scope, problems = scopes.read(session, scope_type, scope_id, model)
    problems += _unit_problems(unit, period) + _problems(fields)
    if "limit" not in fields:
        problems.append(("limit", "is required"))
    if problems:
        raise Invalid(problems)
    found = session.scalars(
        select(RateLimit).where(
            RateLimit.scope_type == scope.type,
            RateLimit.scope_id == scope.id,
            RateLimit.model == scope.model,
            RateLimit.unit == unit,
            RateLimit.period == (period or ""),
        )
    ).first()
    if found is not None:
        return _change(session, found, dict(fields), actor, at), False
    limit = RateLimit(
        id=f"limit_{secrets.token_hex(12)}",
        scope_type=scope.type,
        scope_id=scope.id,
        model=scope.model,
        unit=unit,
        period=period or "",
        limit=fields["limit"],
        on_store_error=fields.get("on_store_error", ON_STORE_ERROR[0]),
        source=API,
        created_at=at,
    )
    session.add(limit)
    try:
        session.flush()
    except IntegrityError:
        raise Conflict("Somebody else has just made this rate limit. Look at it, and try again.") from None
    audit.record(session, actor, "rate_limit.create", limit.id, at=at, after=public(limit))
    return limit, True


def get(session: Session, *, limit_id: str, scope: Scope = EVERYTHING) -> RateLimit:
    """Raises NotFound, also for one outside `scope`."""
    limit = None
    if checks.may_be_stored(limit_id):
        limit = session.scalar(select(RateLimit).where(RateLimit.id == limit_id, within(scope, RateLimit)))
    if limit is None:
        raise NotFound("rate limit", limit_id)
    return limit


def list_rate_limits(
    session: Session, *, scope: Scope = EVERYTHING, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[RateLimit]:
    """All, those of proxy.yaml included, newest first. Raises Invalid (limit, cursor)."""
    return newest_first(
        session, select(RateLimit).where(within(scope, RateLimit)), RateLimit, limit=limit, cursor=cursor
    )


def update(
    session: Session, *, limit_id: str, actor: Actor, at: datetime, **changes: Unpack[RateLimitChanges]
) -> RateLimit:
    """Change the fields given. Raises NotFound, KeptInFile, Unchangeable (scope, model, unit, period), Invalid."""
    limit = get(session, limit_id=limit_id)
    if limit.source == SOURCE:
        raise KeptInFile("rate limit", limit_id)
    _check_kept(session, limit, changes)
    fields: Any = {name: value for name, value in changes.items() if name in _FIELDS}
    if problems := _problems(fields):
        raise Invalid(problems)
    return _change(session, limit, fields, actor, at)


def delete(session: Session, *, limit_id: str, actor: Actor, at: datetime) -> None:
    """Raises NotFound, KeptInFile."""
    limit = get(session, limit_id=limit_id)
    if limit.source == SOURCE:
        raise KeptInFile("rate limit", limit_id)
    audit.record(session, actor, "rate_limit.delete", limit.id, at=at, before=public(limit))
    session.delete(limit)
    session.flush()


def _change(session: Session, limit: RateLimit, fields: dict[str, Any], actor: Actor, at: datetime) -> RateLimit:
    if limit.source == SOURCE:
        raise KeptInFile("rate limit", limit.id)
    before = public(limit)
    for name, value in fields.items():
        setattr(limit, name, value)
    if audit.record(session, actor, "rate_limit.update", limit.id, at=at, before=before, after=public(limit)):
        limit.updated_at = at
    session.flush()
    return limit


def _check_kept(session: Session, limit: RateLimit, changes: RateLimitChanges) -> None:
    """Raises Unchangeable or Invalid."""
    asked: dict[str, object] = {name: changes[name] for name in ("unit", "period") if name in changes}
    if "period" in asked:
        asked["period"] = asked["period"] or ""
    if changes.keys() & {"scope_type", "scope_id", "model"}:
        given = (changes.get("scope_type", limit.scope_type), changes.get("scope_id", limit.scope_id))
        model = changes.get("model", None if given[0] == scopes.MODEL else limit.model)
        scope, problems = scopes.read(session, *given, model)
        if problems:
            raise Invalid(problems)
        asked |= {"scope": (scope.type, scope.id), "model": scope.model}
    kept = {
        "scope": (limit.scope_type, limit.scope_id),
        "model": limit.model,
        "unit": limit.unit,
        "period": limit.period,
    }
    if different := [name for name, value in asked.items() if value != kept[name]]:
        raise Unchangeable([(name, "cannot be changed: make another rate limit") for name in different])


def _unit_problems(unit: object, period: object) -> checks.Problems:
    problems: checks.Problems = []
    if unit not in UNITS:
        problems.append(("unit", f"must be one of {', '.join(UNITS)}"))
    if unit == "concurrent":
        if period:
            problems.append(("period", "must be absent: 'concurrent' counts the calls of one moment"))
    elif period not in PERIODS:
        problems.append(("period", f"must be one of {', '.join(PERIODS)}"))
    return problems


def _problems(fields: RateLimitFields) -> checks.Problems:
    problems = checks.whole("limit", fields["limit"], least=0, most=MOST) if "limit" in fields else []
    if fields.get("on_store_error", ON_STORE_ERROR[0]) not in ON_STORE_ERROR:
        problems.append(("on_store_error", f"must be one of {', '.join(ON_STORE_ERROR)}"))
    return problems
