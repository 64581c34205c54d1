"""Which budgets, rate limits and freezes an account may see: those that are about what it may see at all."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select, true

from token_tracker.database.models import ApiKey, Team, User
from token_tracker.domain.access import EVERYTHING, Scope
from token_tracker.domain.rules import EACH


def within(scope: Scope, model: Any) -> ColumnElement[bool]:
    """`model`: a table of rules. A team's people see the rules of the team, of its members and of its keys; somebody
    alone the own ones; both those for each, of which they see their own members. What holds for everybody is shown to
    those who see everything."""
    if scope == EVERYTHING:
        return true()
    return or_(
        *(
            and_(model.scope_type == scope_type, or_(model.scope_id == EACH, model.scope_id.in_(ids)))
            for scope_type, ids in _seen(scope).items()
        )
    )


def members_within(scope: Scope, scope_type: str) -> Select[str] | None:
    """The members of a rule for each that an account may see; None for all of them."""
    return None if scope == EVERYTHING else _seen(scope)[scope_type]


def _seen(scope: Scope) -> dict[str, Select[str]]:
    """By the types of scopes that belong to people."""
    seen = {"key": select(ApiKey.id), "user": select(User.id)}
    if scope.team is not None:
        seen["key"] = seen["key"].where(ApiKey.team_id == scope.team)
        seen["user"] = seen["user"].where(User.team_id == scope.team)
        seen["team"] = select(Team.id).where(Team.id == scope.team)
    if scope.user is not None:
        seen["key"] = seen["key"].where(ApiKey.user_id == scope.user)
        seen["user"] = seen["user"].where(User.id == scope.user)
    return seen
