"""What a budget, a rate limit or a freeze is for: read from outside in one place, so that all mean the same."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy.orm import Session

from token_tracker.database.models import ApiKey
from token_tracker.domain.rules import EACH
from token_tracker.services import checks
from token_tracker.services.accounts import find_team, find_user

SCOPES = ("global", "team", "user", "key", "provider", "agent", "tag", "session", "end_user")
MODEL = "model"  # as a type: everybody's calls of a model
_LONGEST = 255


class Scope(NamedTuple):
    """As columns and rules have it: '' for none."""

    type: str
    id: str
    model: str


def read(
    session: Session, scope_type: object, scope_id: object, model: object, *, may_be_each: bool = True
) -> tuple[Scope, checks.Problems]:
    """`scope_id`, `model` None or '': none. Type `model` is another way to write `model`. The problems, by the
    contract's names of the fields; with one the scope means nothing."""
    scope_id, model = scope_id or "", model or ""
    problems: checks.Problems = []
    if scope_type == MODEL:
        if model and scope_id and model != scope_id:
            problems.append(("model", "names another model than the scope does"))
        if not (model or scope_id):
            problems.append(("scope.id", "is required: which model?"))
        scope_type, scope_id, model = "global", "", model or scope_id
    if not isinstance(scope_type, str) or scope_type not in SCOPES:
        return _NONE, [*problems, ("scope.type", f"must be one of {', '.join((*SCOPES, MODEL))}")]
    if model:
        problems += checks.text("model", model, at_most=_LONGEST)
    if scope_type == "global":
        if scope_id:
            problems.append(("scope.id", "must be absent: 'global' is everybody"))
    elif not scope_id:
        hint = " ('*' gives each its own)" if may_be_each else ""
        problems.append(("scope.id", f"is required: which {scope_type}?{hint}"))
    else:
        problems += _id_problems(session, scope_type, scope_id, may_be_each)
    if problems or not isinstance(scope_id, str) or not isinstance(model, str):
        return _NONE, problems
    return Scope(scope_type, scope_id, model), []


_NONE = Scope("", "", "")


def _id_problems(session: Session, scope_type: str, scope_id: object, may_be_each: bool) -> checks.Problems:
    if problems := checks.text("scope.id", scope_id, at_most=_LONGEST):
        return problems
    name = str(scope_id)
    if name == EACH:
        return [] if may_be_each else [("scope.id", "must name one: '*' is not possible here")]
    exists = {
        "user": lambda: find_user(session, name) is not None,
        "team": lambda: find_team(session, name) is not None,
        "key": lambda: session.get(ApiKey, name) is not None,
    }
    if scope_type in exists and not exists[scope_type]():
        return [("scope.id", f"there is no {scope_type} '{name}'")]
    return []
