"""`tokens`: how programs use the API."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import click
from sqlalchemy.orm import Session

from token_tracker.cli import shown
from token_tracker.cli.context import actor, books, now, say
from token_tracker.cli.keys import every
from token_tracker.cli.meant import Candidate, by_id
from token_tracker.cli.options import AHEAD, as_json, placed
from token_tracker.database.session import reading, transaction
from token_tracker.services import accounts, audit
from token_tracker.services import service_tokens as service
from token_tracker.services.first_start import ADMIN
from token_tracker.services.pages import MAX_LIMIT

_COLUMNS = ("id", "prefix", "name", "user", "permissions", "expires_at", "revoked_at")


@click.group(no_args_is_help=True)
def tokens() -> None:
    """Service tokens: create, list, revoke."""


@tokens.command("list")
@click.option("--all", "with_dead", is_flag=True, help="Also those that are revoked or expired.")
@as_json
def list_(with_dead: bool, as_json: bool) -> None:
    """List tokens that may be used, newest first."""
    at = now()
    with books() as engine, reading(engine) as session:
        found = every(lambda cursor: service.list_tokens(session, limit=MAX_LIMIT, cursor=cursor))
        items = [service.public(token) for token in found if with_dead or service.is_live(token, at)]
    shown.listed(items, _COLUMNS, as_json)


@tokens.command()
@click.argument("name")
@click.option("--permission", "permissions", multiple=True, help="What it may do, such as usage:read; repeat.")
@click.option("--user", default=ADMIN, show_default=True, help="Whom it acts as.")
@click.option("--expires", type=AHEAD, help="When it ends: 30d, or 2026-12-31.")
@as_json
def create(name: str, permissions: tuple[str, ...], user: str, expires: datetime | None, as_json: bool) -> None:
    """Make a token; its text goes to stdout, this once: tokens create grafana --permission usage:read"""
    at = now()
    with books() as engine, transaction(engine) as session:
        owner = accounts.get_user(session, user_id=user)
        token, text = service.create(
            session, user=owner, name=name, permissions=list(permissions), expires_at=placed(expires), at=at
        )
        document = service.public(token)
        audit.record(session, actor(), "service_token.create", token.id, at=at, after=document)
    if as_json:
        shown.document(document | {"token": text})
        return
    click.echo(text)
    say(f"The token '{name}' ({document['id']}) of {user}: shown this once, and kept nowhere.")


@tokens.command()
@click.argument("token_id")
def revoke(token_id: str) -> None:
    """Revoke a token for good."""
    at = now()
    with books() as engine, transaction(engine) as session:
        with by_id("token", token_id, lambda: _called(session)):
            token = service.revoke(session, token_id=token_id, at=at)
        if token.revoked_at == at:
            audit.record(session, actor(), "service_token.revoke", token_id, at=at, after=service.public(token))
    say(f"The token {token_id} is revoked.")


def _called(session: Session) -> Iterator[Candidate]:
    for each in every(lambda cursor: service.list_tokens(session, limit=MAX_LIMIT, cursor=cursor)):
        yield each.id, f"of {each.user_id}" + (", revoked" if each.revoked_at else ""), (each.name, each.prefix)
