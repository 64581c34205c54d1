"""`freezes`: stop calls at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
from sqlalchemy.orm import Session

from token_tracker.cli import shown
from token_tracker.cli.context import actor, books, now, say
from token_tracker.cli.keys import every
from token_tracker.cli.meant import Candidate, by_id, scope_name, scope_names
from token_tracker.cli.options import as_json, scope
from token_tracker.database.models import Freeze
from token_tracker.database.session import reading, transaction
from token_tracker.services import freezes as service
from token_tracker.services.pages import MAX_LIMIT
from token_tracker.services.usage import format_time

_COLUMNS = ("id", "scope", "model", "reason", "created_by", "created_at")


@click.group(no_args_is_help=True)
def freezes() -> None:
    """Freezes: stop the calls of somebody, of a model, or all; list, end."""


@freezes.command("list")
@as_json
def list_(as_json: bool) -> None:
    """List what is frozen, newest first."""
    with books() as engine, reading(engine) as session:
        found = every(lambda cursor: service.list_freezes(session, limit=MAX_LIMIT, cursor=cursor))
        items = [_document(each) for each in found]
    if as_json:
        shown.document(items)
    else:
        scoped = [item | {"scope": scope_name(item["scope_type"], item["scope_id"])} for item in items]
        shown.listed(scoped, _COLUMNS, as_json)


@freezes.command()
@click.argument("of", metavar="SCOPE")
@click.argument("reason")
@click.option("--model", help="Only calls of this model.")
@as_json
def create(of: str, reason: str, model: str | None, as_json: bool) -> None:
    """Stop a SCOPE at once: freezes create key:key_… 'a runaway agent'

    SCOPE: global, team:ID, user:ID, key:ID or model:NAME. Calls in flight end as they began; others are refused with
    403 and the code frozen.
    """
    scope_type, scope_id = scope(of)
    with books() as engine, transaction(engine) as session:
        made, is_new = service.freeze(
            session, scope_type=scope_type, scope_id=scope_id, model=model, reason=reason, actor=actor(), at=now()
        )
        document = _document(made)
    if as_json:
        shown.document(document)
    elif is_new:
        say(f"{of} is frozen by {document['id']}; gateways follow within seconds.")
    else:
        say(f"{of} was frozen before by {document['id']}, which has the new reason now.")


@freezes.command()
@click.argument("freeze_id")
def delete(freeze_id: str) -> None:
    """Let the calls through again."""
    with books() as engine, transaction(engine) as session, by_id("freeze", freeze_id, lambda: _called(session)):
        service.unfreeze(session, freeze_id=freeze_id, actor=actor(), at=now())
    say(f"The freeze {freeze_id} has ended; gateways follow within seconds.")


def _document(found: Freeze) -> dict[str, Any]:
    made = {"created_at": format_time(found.created_at), "created_by": found.created_by}
    return {"id": found.id} | service.public(found) | made


def _called(session: Session) -> Iterator[Candidate]:
    for each in every(lambda cursor: service.list_freezes(session, limit=MAX_LIMIT, cursor=cursor)):
        yield each.id, each.reason, scope_names(each)
