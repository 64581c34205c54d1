"""`keys`: virtual keys. A change acts on the gateway within two seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import click
from sqlalchemy.orm import Session

from token_tracker.cli import shown
from token_tracker.cli.context import COMMAND_LINE, actor, books, now, say
from token_tracker.cli.meant import Candidate, by_id
from token_tracker.cli.options import AHEAD, Span, as_json, placed
from token_tracker.database.models import ApiKey
from token_tracker.database.session import reading, transaction
from token_tracker.services import audit, key_rules
from token_tracker.services import keys as service
from token_tracker.services.first_start import ADMIN
from token_tracker.services.pages import MAX_LIMIT, Page

_COLUMNS = ("id", "prefix", "name", "user", "team", "agent", "models", "expires_at", "revoked_at")


@click.group(no_args_is_help=True)
def keys() -> None:
    """Virtual keys: create, list, change, rotate, disable."""


@keys.command("list")
@click.option("--user", help="Only keys of this user.")
@click.option("--team", help="Only keys of this team.")
@click.option("--all", "with_dead", is_flag=True, help="Also those that are revoked or expired.")
@as_json
def list_(user: str | None, team: str | None, with_dead: bool, as_json: bool) -> None:
    """List keys that may be used, newest first."""
    at = now()
    with books() as engine, reading(engine) as session:
        found = every(lambda cursor: service.list_keys(session, user=user, team=team, limit=MAX_LIMIT, cursor=cursor))
        items = [service.public(key) for key in found if with_dead or service.is_live(key, at)]
    if as_json:
        shown.document(items)
    else:
        shown.table(_COLUMNS, ([item[name] for name in _COLUMNS] for item in items))


@keys.command()
@click.argument("name")
@click.option("--user", default=ADMIN, show_default=True, help="Whose key it is.")
@click.option("--team", help="Of which team; by default the user's own.")
@click.option("--agent", default="", help="Pin the agent that its calls are booked for.")
@click.option(
    "--model", "models", multiple=True, help="A model it may call, or a prefix with '*'; repeat. Default: all."
)
@click.option("--permission", "permissions", multiple=True, help="What else it may do, such as metrics; repeat.")
@click.option("--expires", type=AHEAD, help="When it ends: 30d, or 2026-12-31.")
@as_json
def create(
    name: str,
    user: str,
    team: str | None,
    agent: str,
    models: tuple[str, ...],
    permissions: tuple[str, ...],
    expires: datetime | None,
    as_json: bool,
) -> None:
    """Make a key; its text goes to stdout, this once."""
    fields: Any = {
        "name": name,
        "agent": agent,
        "models": list(models) or [service.ALL_MODELS],
        "permissions": list(permissions),
        "expires_at": placed(expires),
    }
    at = now()
    with books() as engine, transaction(engine) as session:
        key, text = service.create(session, user=user, team=team, created_by=COMMAND_LINE, at=at, **fields)
        document = service.public(key)
        audit.record(session, actor(), "key.create", key.id, at=at, after=document)
    _tell(document, text, as_json)


@keys.command()
@click.argument("key_id")
@click.option("--name")
@click.option("--agent", help="'' pins none.")
@click.option("--model", "models", multiple=True, help="All that it may call from now on; repeat.")
@click.option("--permission", "permissions", multiple=True, help="All that it may do from now on; repeat.")
@click.option("--expires", type=AHEAD, help="When it ends: 30d, or 2026-12-31.")
@as_json
def change(
    key_id: str,
    name: str | None,
    agent: str | None,
    models: tuple[str, ...],
    permissions: tuple[str, ...],
    expires: datetime | None,
    as_json: bool,
) -> None:
    """Change a key; what is not named stays."""
    given = {
        "name": name,
        "agent": agent,
        "models": list(models) or None,
        "permissions": list(permissions) or None,
        "expires_at": placed(expires),
    }
    changes: Any = {field: value for field, value in given.items() if value is not None}
    if not changes:
        raise click.UsageError("Say what to change: --name, --agent, --model, --permission or --expires.")
    document = _changed(
        key_id, "key.update", lambda session, at: service.update(session, key_id=key_id, at=at, **changes)
    )
    shown.document(document) if as_json else shown.fields(document)


@keys.command()
@click.argument("key_id")
@click.option("--overlap", type=Span(), default="0s", help="How long the old key works beside the new one: 1h.")
@as_json
def rotate(key_id: str, overlap: timedelta, as_json: bool) -> None:
    """Make a successor of a key with the same rights and limits; its text goes to stdout, this once."""
    at, overlap_s = now(), int(overlap.total_seconds())
    with books() as engine, transaction(engine) as session:
        with by_id("key", key_id, lambda: _called(session)):
            key, text = service.rotate(session, key_id=key_id, overlap_s=overlap_s, created_by=COMMAND_LINE, at=at)
        document = service.public(key)
        audit.record(session, actor(), "key.rotate", key_id, at=at, after=document)
        key_rules.hand_on(session, key_id=key_id, successor_id=key.id, actor=actor(), at=at)
    _tell(document, text, as_json)


@keys.command()
@click.argument("key_id")
def disable(key_id: str) -> None:
    """Revoke a key for good; calls that run end as they began."""
    _changed(key_id, "key.revoke", lambda session, at: service.revoke(session, key_id=key_id, at=at))
    say(f"The key {key_id} is revoked.")


keys.add_command(disable, "revoke")


def _changed(key_id: str, action: str, change: Callable[[Session, datetime], ApiKey]) -> dict[str, Any]:
    at = now()
    with books() as engine, transaction(engine) as session:
        with by_id("key", key_id, lambda: _called(session)):
            before = service.public(service.get(session, key_id=key_id))
        after = service.public(change(session, at))
        audit.record(session, actor(), action, key_id, at=at, before=before, after=after)
    return after


def _called(session: Session) -> Iterator[Candidate]:
    for each in every(lambda cursor: service.list_keys(session, limit=MAX_LIMIT, cursor=cursor)):
        yield each.id, f"of {each.user_id}" + (", revoked" if each.revoked_at else ""), (each.name, each.prefix)


def _tell(document: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        shown.document(document | {"key": text})
        return
    click.echo(text)
    whose = f"The key '{document['name']}' ({document['id']}) of {document['user']}"
    say(f"{whose}: shown this once, and kept nowhere; gateways follow within seconds.")


def every(page_at: Callable[[str | None], Page[Any]]) -> Iterator[Any]:
    """All items of a list that comes in pages."""
    cursor = None
    while True:
        page = page_at(cursor)
        yield from page.items
        if (cursor := page.next_cursor) is None:
            return
