"""`refusals`: calls that were refused before anything was sent."""

from __future__ import annotations

from datetime import datetime, timedelta

import click

from token_tracker.cli import shown
from token_tracker.cli.context import books
from token_tracker.cli.options import AGO, as_json, placed
from token_tracker.database.session import reading
from token_tracker.services import refusals as service

_COLUMNS = ("code", "status", "model", "user", "key_id", "calls", "last_hour")


@click.command()
@click.option("--code", help="Only those with this code: budget_exceeded, invalid_api_key, …")
@click.option("--model", help="Only calls that asked for this model.")
@click.option("--user", help="Only calls of this user's keys.")
@click.option("--team", help="Only calls of this team's keys.")
@click.option("--key", help="Only calls of the key with this id.")
@click.option("--since", type=AGO, default="24h", show_default=True, help="A day or time, or 24h, 7d ago; whole hours.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="So many lines.")
@as_json
def refusals(since: datetime, limit: int, as_json: bool, **which: str | None) -> None:
    """Count what was refused before anything was sent, the most frequent first.

    Of calls without a valid key neither user nor key is known; a model that is not configured is 'other'.
    """
    start = placed(since)
    assert start is not None
    start -= timedelta(minutes=start.minute, seconds=start.second, microseconds=start.microsecond)
    filters = service.RefusalFilters(start=start, **which)  # type: ignore[arg-type]  # all of them are texts
    with books() as engine, reading(engine) as session:
        found = [service.public(each) for each in service.refusals(session, filters, limit=limit)]
    if found or as_json:
        shown.listed(found, _COLUMNS, as_json)
    else:
        click.echo("Nothing was refused.")
