"""Users and teams."""

from __future__ import annotations

import re

from token_tracker.api.routing import Call, Route
from token_tracker.api.schemas import (
    PageQuery,
    TeamCreate,
    TeamPage,
    TeamShown,
    UserCreate,
    UserPage,
    UserShown,
    team_shown,
    user_shown,
)
from token_tracker.database.session import reading, transaction
from token_tracker.domain.access import Permission
from token_tracker.domain.problems import Invalid, NotFound
from token_tracker.services import accounts

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
        return user_shown(user)


def show_user(call: Call, user_id: str) -> UserShown:
    with reading(call.engine) as session:
        return user_shown(accounts.get_user(session, user_id=user_id, scope=call.scope))


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
        return team_shown(accounts.create_team(session, team_id=team_id, name=body.name, at=call.at))


def show_team(call: Call, team_id: str) -> TeamShown:
    if call.scope.user is not None or call.scope.team not in (None, team_id):
        raise NotFound("team", team_id)
    with reading(call.engine) as session:
        return team_shown(accounts.get_team(session, team_id=team_id))


ROUTES = (
    Route("GET", "/api/users", list_users, Permission.USERS_READ, "Users, newest first", UserPage, query=PageQuery),
    Route("POST", "/api/users", create_user, Permission.USERS_MANAGE, "Add a user", UserShown, 201, body=UserCreate),
    Route("GET", "/api/users/{user_id}", show_user, Permission.USERS_READ, "One user", UserShown),
    Route("GET", "/api/teams", list_teams, Permission.TEAMS_READ, "Teams, newest first", TeamPage, query=PageQuery),
    Route("POST", "/api/teams", create_team, Permission.TEAMS_MANAGE, "Add a team", TeamShown, 201, body=TeamCreate),
    Route("GET", "/api/teams/{team_id}", show_team, Permission.TEAMS_READ, "One team", TeamShown),
)
