"""Who uses the product: users, teams, and the check of a password."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypedDict, Unpack

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from token_tracker.database.models import ApiKey, Team, User
from token_tracker.domain.access import EVERYTHING, Role, Scope
from token_tracker.domain.problems import Conflict, Invalid, NotFound
from token_tracker.services import checks, passwords
from token_tracker.services.pages import DEFAULT_LIMIT, Page, newest_first
from token_tracker.services.usage import format_time


class UserChanges(TypedDict, total=False):
    """What an admin may change of an account. `team` None: of no team."""

    role: str
    team: str | None
    disabled: bool
    password: str


def public(user: User) -> dict[str, Any]:
    """What may be shown of an account: JSON."""
    return {
        "id": user.id,
        "username": user.id,
        "role": user.role,
        "team": user.team_id,
        "created_at": format_time(user.created_at),
        "disabled_at": None if user.disabled_at is None else format_time(user.disabled_at),
    }


def public_team(team: Team) -> dict[str, Any]:
    """What may be shown of a team: JSON."""
    return {"id": team.id, "name": team.name, "created_at": format_time(team.created_at)}


def create_user(
    session: Session, *, name: str, password: str, role: str, at: datetime, team: str | None = None
) -> User:
    """A new account; `name` is its id for good. Raises Invalid with all problems, or Conflict (the name is taken)."""
    problems = checks.identity("name", name) + passwords.problems("password", password)
    if role not in tuple(Role):
        problems.append(("role", f"must be one of {', '.join(Role)}"))
    if team is not None and find_team(session, team) is None:
        problems.append(("team", f"there is no team '{team}'"))
    if problems:
        raise Invalid(problems)
    user = User(id=name, password_hash=passwords.hashed(password), role=str(role), team_id=team, created_at=at)
    _add(session, user, f"The user name '{name}' is taken. Choose another.")
    return user


def get_user(session: Session, *, user_id: str, scope: Scope = EVERYTHING) -> User:
    """Raises NotFound, also for a user outside `scope`."""
    user = find_user(session, user_id)
    if user is None or not scope.covers(user=user.id, team=user.team_id):
        raise NotFound("user", user_id)
    return user


def list_users(
    session: Session, *, scope: Scope = EVERYTHING, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[User]:
    """Accounts within `scope`, newest first. Raises Invalid (limit, cursor)."""
    statement = select(User)
    if scope.user is not None:
        statement = statement.where(User.id == scope.user)
    if scope.team is not None:
        statement = statement.where(User.team_id == scope.team)
    return newest_first(session, statement, User, limit=limit, cursor=cursor)


def change_user(
    session: Session, *, user_id: str, at: datetime, scope: Scope = EVERYTHING, **changes: Unpack[UserChanges]
) -> User:
    """Change the fields given. Raises NotFound, Invalid with all problems, or Conflict (nobody could administer)."""
    user = get_user(session, user_id=user_id, scope=scope)
    role, team = changes.get("role", user.role), changes.get("team", user.team_id)
    problems = passwords.problems("password", changes["password"]) if "password" in changes else []
    if role not in tuple(Role):
        problems.append(("role", f"must be one of {', '.join(Role)}"))
    if team is not None and find_team(session, team) is None:
        problems.append(("team", f"there is no team '{team}'"))
    if problems:
        raise Invalid(problems)
    user.role, user.team_id = str(role), team
    if "disabled" in changes:
        user.disabled_at = (user.disabled_at or at) if changes["disabled"] else None
    if "password" in changes:
        user.password_hash = passwords.hashed(changes["password"])
    session.flush()
    _require_an_admin(session)
    return user


def _require_an_admin(session: Session) -> None:
    admins = select(User.id).where(User.role == Role.ADMIN, User.disabled_at.is_(None))
    if session.scalar(admins.limit(1)) is None:
        raise Conflict("Nobody could administer this installation any more. Make another active admin first.")


def set_password(session: Session, *, user_id: str, password: str, field: str = "password") -> User:
    """Raises NotFound or Invalid. Logins that stand are not ended: see `refresh_tokens.revoke_user`."""
    user = get_user(session, user_id=user_id)
    if problems := passwords.problems(field, password):
        raise Invalid(problems)
    user.password_hash = passwords.hashed(password)
    session.flush()
    return user


def authenticate(session: Session, *, username: str, password: str) -> User | None:
    """The account if the password is right and it is not disabled; one answer, after the same work, for all else."""
    passwords.warm_up()
    user = find_user(session, username)  # one of single sign-on has no hash, and no password matches
    right = passwords.matches(password, user.password_hash if user is not None else None)
    return user if user is not None and right and user.disabled_at is None else None


def create_team(session: Session, *, team_id: str, name: str, at: datetime) -> Team:
    """A new team; `team_id` stays for good. Raises Invalid with all problems, or Conflict (the id is taken)."""
    if problems := checks.identity("id", team_id) + checks.text("name", name, at_most=200):
        raise Invalid(problems)
    team = Team(id=team_id, name=name, created_at=at)
    _add(session, team, f"The team id '{team_id}' is taken. Choose another.")
    return team


def get_team(session: Session, *, team_id: str) -> Team:
    """Raises NotFound."""
    team = find_team(session, team_id)
    if team is None:
        raise NotFound("team", team_id)
    return team


def list_teams(session: Session, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> Page[Team]:
    """Teams, newest first. Raises Invalid (limit, cursor)."""
    return newest_first(session, select(Team), Team, limit=limit, cursor=cursor)


def change_team(session: Session, *, team_id: str, name: str) -> Team:
    """Raises NotFound or Invalid."""
    team = get_team(session, team_id=team_id)
    if problems := checks.text("name", name, at_most=200):
        raise Invalid(problems)
    team.name = name
    session.flush()
    return team


def delete_team(session: Session, *, team_id: str) -> None:
    """Raises NotFound, or Conflict while it has members or keys. Rows of the ledger keep its name."""
    team = get_team(session, team_id=team_id)
    for model, noun in ((User, "members"), (ApiKey, "keys, revoked ones included")):
        if session.scalar(select(model.id).where(model.team_id == team_id).limit(1)) is not None:
            raise Conflict(f"The team '{team_id}' still has {noun}. Only an empty team can be deleted.")
    session.delete(team)
    session.flush()


def members(session: Session, *, team_id: str) -> list[User]:
    """The accounts of a team, at most 1,000, by name."""
    statement = select(User).where(User.team_id == team_id, User.disabled_at.is_(None))
    return list(session.scalars(statement.order_by(User.id).limit(1000)))


def find_user(session: Session, user_id: object) -> User | None:
    """The account of that id; None for anything else, whatever was sent."""
    return session.get(User, user_id) if checks.may_be_stored(user_id) else None


def find_team(session: Session, team_id: object) -> Team | None:
    """The team of that id; None for anything else, whatever was sent."""
    return session.get(Team, team_id) if checks.may_be_stored(team_id) else None


def _add(session: Session, row: User | Team, taken: str) -> None:
    """Two who ask for one name at once: the database decides."""
    if session.get(type(row), row.id) is not None:
        raise Conflict(taken)
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        raise Conflict(taken) from None
