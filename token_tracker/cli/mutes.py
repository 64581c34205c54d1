"""`mutes`: silence of alerts until a time."""

from __future__ import annotations

from datetime import datetime

import click

from token_tracker.cli import shown
from token_tracker.cli.context import actor, books, now, say
from token_tracker.cli.keys import every
from token_tracker.cli.options import AHEAD, as_json, placed
from token_tracker.database.models import AlertMute
from token_tracker.database.session import reading, transaction
from token_tracker.services import alert_mutes as service
from token_tracker.services.pages import MAX_LIMIT

_COLUMNS = ("id", "rule_id", "subject", "until", "reason", "created_by")


@click.group(no_args_is_help=True)
def mutes() -> None:
    """Silence of alerts: create, list, end."""


@mutes.command("list")
@as_json
def list_(as_json: bool) -> None:
    """List mutes that still hold, newest first."""
    at = now()
    with books() as engine, reading(engine) as session:
        found = every(lambda cursor: service.list_mutes(session, at=at, limit=MAX_LIMIT, cursor=cursor))
        items = [_document(each) for each in found]
    shown.listed(items, _COLUMNS, as_json)


@mutes.command()
@click.argument("until", type=AHEAD)
@click.option("--rule", help="Only this alert rule, by its name or id; default: all, and budgets' thresholds.")
@click.option("--subject", help="Only what is told of this: a budget's id, a model, a key, as alerts name it.")
@click.option("--reason", default="", help="For those who wonder.")
@as_json
def create(until: datetime, rule: str | None, subject: str | None, reason: str, as_json: bool) -> None:
    """Tell nothing UNTIL then, a time or a span: mutes create 4h --rule 'Upstream errors' --subject gpt-4o"""
    with books() as engine, transaction(engine) as session:
        made = service.mute(
            session, until=placed(until), rule=rule, subject=subject, reason=reason, actor=actor(), at=now()
        )
        document = _document(made)
    if as_json:
        shown.document(document)
    else:
        say(f"The mute {made.id} holds until {document['until']}.")


@mutes.command()
@click.argument("mute_id")
def delete(mute_id: str) -> None:
    """End a mute; what still holds is told at the next look."""
    with books() as engine, transaction(engine) as session:
        service.unmute(session, mute_id=mute_id, actor=actor(), at=now())
    say(f"The mute {mute_id} has ended.")


def _document(found: AlertMute) -> dict[str, object]:
    return {"id": found.id, "created_by": found.created_by} | service.public(found)
