"""`users` and `teams`: accounts, their roles and passwords, and what they belong to."""

from __future__ import annotations

import sys
from typing import Any

import click

from token_tracker.cli import shown
from token_tracker.cli.context import actor, books, now, say
from token_tracker.cli.keys import every
from token_tracker.cli.options import as_json
from token_tracker.database.session import reading, transaction
from token_tracker.domain.access import Role
from token_tracker.services import accounts, audit, passwords, refresh_tokens
from token_tracker.services.pages import MAX_LIMIT

_COLUMNS = ("id", "role", "team", "created_at", "disabled_at")
_TEAM_COLUMNS = ("id", "name", "created_at")
_ROLE = click.Choice([role.value for role in Role])


@click.group(no_args_is_help=True)
def users() -> None:
    """Accounts: create, list, change, disable, give a password."""


@users.command("list")
@as_json
def list_users(as_json: bool) -> None:
    """List accounts, newest first."""
    with books() as engine, reading(engine) as session:
        found = every(lambda cursor: accounts.list_users(session, limit=MAX_LIMIT, cursor=cursor))
        items = [accounts.public(user) for user in found]
    shown.document(items) if as_json else shown.table(_COLUMNS, ([item[name] for name in _COLUMNS] for item in items))


@users.command("create")
@click.argument("name")
@click.option("--role", type=_ROLE, default=Role.MEMBER.value, show_default=True)
@click.option("--team", help="The id of a team.")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin instead of making one.")
@as_json
def create_user(name: str, role: str, team: str | None, password_stdin: bool, as_json: bool) -> None:
    """Add an account; the password that is made for it goes to stdout, this once."""
    password, at = _password(password_stdin), now()
    with books() as engine, transaction(engine) as session:
        user = accounts.create_user(session, name=name, password=password, role=role, team=team, at=at)
        document = accounts.public(user)
        audit.record(session, actor(), "user.create", name, at=at, after=document)
    _tell(document, None if password_stdin else password, as_json)


@users.command("change")
@click.argument("name")
@click.option("--role", type=_ROLE)
@click.option("--team", help="The id of a team; '' for none.")
@as_json
def change_user(name: str, role: str | None, team: str | None, as_json: bool) -> None:
    """Change an account's role or team."""
    changes: dict[str, Any] = {} if role is None else {"role": role}
    if team is not None:
        changes["team"] = team or None
    if not changes:
        raise click.UsageError("Say what to change: --role or --team.")
    _tell(_changed(name, **changes), None, as_json)


@users.command("password")
@click.argument("name")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin instead of making one.")
@as_json
def set_password(name: str, password_stdin: bool, as_json: bool) -> None:
    """Give an account a new password, and end its logins; what is made goes to stdout, this once."""
    password = _password(password_stdin)
    _tell(_changed(name, password=password), None if password_stdin else password, as_json)


@users.command("disable")
@click.argument("name")
def disable_user(name: str) -> None:
    """Stop an account's keys and logins."""
    _changed(name, disabled=True)
    say(f"{name} is disabled; keys and logins stop at once.")


@users.command("enable")
@click.argument("name")
def enable_user(name: str) -> None:
    """Let a disabled account in again."""
    _changed(name, disabled=False)
    say(f"{name} is enabled.")


def _changed(name: str, **changes: Any) -> dict[str, Any]:
    """As the API does it."""
    at, who = now(), actor()
    with books() as engine, transaction(engine) as session:
        before = accounts.public(accounts.get_user(session, user_id=name))
        after = accounts.public(accounts.change_user(session, user_id=name, at=at, **changes))
        if changes.get("disabled") or "password" in changes:
            refresh_tokens.revoke_user(session, user_id=name, at=at)
        audit.record(session, who, "user.update", name, at=at, before=before, after=after)
        if "password" in changes:
            audit.record(session, who, "user.password", name, at=at)
    return after


def _password(from_stdin: bool) -> str:
    return sys.stdin.readline().rstrip("\n") if from_stdin else passwords.generate()


def _tell(document: dict[str, Any], password: str | None, as_json: bool) -> None:
    if as_json:
        shown.document(document if password is None else document | {"password": password})
        return
    if password is not None:
        click.echo(password)
    say(f"{document['id']}: {document['role']}" + (f" of {document['team']}" if document["team"] else ""))


@click.group(no_args_is_help=True)
def teams() -> None:
    """Teams: create, list, delete."""


@teams.command("list")
@as_json
def list_teams(as_json: bool) -> None:
    """List teams, newest first."""
    with books() as engine, reading(engine) as session:
        found = every(lambda cursor: accounts.list_teams(session, limit=MAX_LIMIT, cursor=cursor))
        items = [accounts.public_team(team) for team in found]
    if as_json:
        shown.document(items)
    else:
        shown.table(_TEAM_COLUMNS, ([item[name] for name in _TEAM_COLUMNS] for item in items))


@teams.command("create")
@click.argument("team_id")
@click.option("--name", help="For people; by default the id.")
def create_team(team_id: str, name: str | None) -> None:
    """Add a team; its id, used in rows and filters, stays for good."""
    at = now()
    with books() as engine, transaction(engine) as session:
        team = accounts.create_team(session, team_id=team_id, name=name or team_id, at=at)
        audit.record(session, actor(), "team.create", team_id, at=at, after=accounts.public_team(team))
    say(f"The team {team_id} is there.")


@teams.command("delete")
@click.argument("team_id")
def delete_team(team_id: str) -> None:
    """Delete an empty team."""
    at = now()
    with books() as engine, transaction(engine) as session:
        before = accounts.public_team(accounts.get_team(session, team_id=team_id))
        accounts.delete_team(session, team_id=team_id)
        audit.record(session, actor(), "team.delete", team_id, at=at, before=before)
    say(f"The team {team_id} is deleted; rows of the ledger keep its name.")
