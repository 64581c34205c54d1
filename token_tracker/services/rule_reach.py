"""Which budgets, rate limits and freezes an account may see: those that are about what it may see at all."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select, true

from token_tracker.database.models import ApiKey, User
from token_tracker.domain.access import Scope


def within(scope: Scope, model: Any) -> ColumnElement[bool]:
    """`model`: a table of rules. A team's people see the rules of the team, of its members and of its keys; somebody
    alone the own ones. What holds for everybody is shown to those who see everything."""
    if scope.user is None and scope.team is None:
        return true()
    keys, users = select(ApiKey.id), select(User.id)
    if scope.team is not None:
        keys, users = keys.where(ApiKey.team_id == scope.team), users.where(User.team_id == scope.team)
    if scope.user is not None:
        keys, users = keys.where(ApiKey.user_id == scope.user), users.where(User.id == scope.user)
    seen = [
        and_(model.scope_type == "key", model.scope_id.in_(keys)),
        and_(model.scope_type == "user", model.scope_id.in_(users)),
    ]
    if scope.team is not None:
        seen.append(and_(model.scope_type == "team", model.scope_id == scope.team))
    return or_(*seen)
