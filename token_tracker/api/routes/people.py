"""Users and teams."""

from __future__ import annotations

import re

from sqlalchemy.orm import Session

from token_tracker.api.routing import Call, Route
from token_tracker.api.schemas import (
    PageQuery,
    TeamChange,
    TeamCreate,
    TeamDetail,
    TeamPage,
    TeamShown,
    UserChange,
    UserCreate,
    UserPage,
    UserShown,
    given,
    team_detail,
    team_shown,
    user_shown,
)
from token_tracker.database.models import Team
from token_tracker.database.session import reading, transaction
from token_tracker.domain.access import Permission
from token_tracker.domain.problems import Invalid, NotFound
from token_tracker.services import accounts, refresh_tokens

_NOT_IN_IDS = re.compile(r"[^a-z0-9]+")


def list_users(call: Call, query: PageQuery) -> UserPage:
    with reading(call.engine) as session:
        page = accounts.list_users(session, scope=call.scope, limit=query.limit, cursor=query.cursor)
        return UserPage([user_shown(user) for user in page.items], page.next_cursor)


def create_user(call: Call, body: UserCreate) -> UserShown:
    with transaction(call.engine) as session:
        try:
            user = accounts.create_user(
                session, name=body.username, password=body.password, role=body.role, team=body.team, at=call.at
            )
        except Invalid as error:
            named = [("username" if field == "name" else field, message) for field, message in error.problems]
            raise Invalid(named) from None
        call.record(session, "user.create", user.id, after=user_shown(user))
        return user_shown(user)


def show_user(call: Call, user_id: str) -> UserShown:
    with reading(call.engine) as session:
        return user_shown(accounts.get_user(session, user_id=user_id, scope=call.scope))


def change_user(call: Call, user_id: str, body: UserChange) -> UserShown:
    changes = given(body)
    with transaction(call.engine) as session:
        before = user_shown(accounts.get_user(session, user_id=user_id, scope=call.scope))
        call.expect(before)
        user = accounts.change_user(session, user_id=user_id, scope=call.scope, at=call.at, **changes)
        if changes.get("disabled") or "password" in changes:
            refresh_tokens.revoke_user(session, user_id=user_id, at=call.at)
        call.record(session, "user.update", user_id, before=before, after=user_shown(user))
        if "password" in changes:
            call.record(session, "user.password", user_id)
        return user_shown(user)


def list_teams(call: Call, query: PageQuery) -> TeamPage:
    with reading(call.engine) as session:
        if call.scope.user is not None:  # a manager without a team
            return TeamPage([], None)
        if call.scope.team is not None:
            return TeamPage([team_shown(accounts.get_team(session, team_id=call.scope.team))], None)
        page = accounts.list_teams(session, limit=query.limit, cursor=query.cursor)
        return TeamPage([team_shown(team) for team in page.items], page.next_cursor)


def create_team(call: Call, body: TeamCreate) -> TeamShown:
    team_id = body.id or _NOT_IN_IDS.sub("-", body.name.lower()).strip("-")[:64]
    with transaction(call.engine) as session:
        team = team_shown(accounts.create_team(session, team_id=team_id, name=body.name, at=call.at))
        call.record(session, "team.create", team.id, after=team)
        return team


def show_team(call: Call, team_id: str) -> TeamDetail:
    if call.scope.user is not None or call.scope.team not in (None, team_id):
        raise NotFound("team", team_id)
    with reading(call.engine) as session:
        return _detail(session, accounts.get_team(session, team_id=team_id))


def change_team(call: Call, team_id: str, body: TeamChange) -> TeamDetail:
    with transaction(call.engine) as session:
        before = _detail(session, accounts.get_team(session, team_id=team_id))
        call.expect(before)
        after = _detail(session, accounts.change_team(session, team_id=team_id, name=body.name))
        call.record(session, "team.update", team_id, before=before, after=after)
        return after


def delete_team(call: Call, team_id: str) -> None:
    with transaction(call.engine) as session:
        before = team_shown(accounts.get_team(session, team_id=team_id))
        accounts.delete_team(session, team_id=team_id)
        call.record(session, "team.delete", team_id, before=before)


def _detail(session: Session, team: Team) -> TeamDetail:
    return team_detail(team, accounts.members(session, team_id=team.id))


ROUTES = (
    Route("GET", "/api/users", list_users, Permission.USERS_READ, "Users, newest first", UserPage, query=PageQuery),
    Route(
        "POST",
        "/api/users",
        create_user,
        Permission.USERS_MANAGE,
        "Add a user",
        UserShown,
        201,
        body=UserCreate,
        errors=(409,),
    ),
    Route("GET", "/api/users/{user_id}", show_user, Permission.USERS_READ, "One user", UserShown),
    Route(
        "PATCH",
        "/api/users/{user_id}",
        change_user,
        Permission.USERS_MANAGE,
        "Change a user's role, team or password, or disable the account",
        UserShown,
        body=UserChange,
        errors=(409, 412),
    ),
    Route("GET", "/api/teams", list_teams, Permission.TEAMS_READ, "Teams, newest first", TeamPage, query=PageQuery),
    Route(
        "POST",
        "/api/teams",
        create_team,
        Permission.TEAMS_MANAGE,
        "Add a team",
        TeamShown,
        201,
        body=TeamCreate,
        errors=(409,),
    ),
    Route("GET", "/api/teams/{team_id}", show_team, Permission.TEAMS_READ, "One team", TeamDetail),
    Route(
        "PATCH",
        "/api/teams/{team_id}",
        change_team,
        Permission.TEAMS_MANAGE,
        "Rename a team",
        TeamDetail,
        body=TeamChange,
        errors=(412,),
    ),
    Route(
        "DELETE",
        "/api/teams/{team_id}",
        delete_team,
        Permission.TEAMS_MANAGE,
        "Delete an empty team",
        status=204,
        errors=(409,),
    ),
)
