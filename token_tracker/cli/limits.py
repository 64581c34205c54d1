"""`limits`: how much at a time."""

from __future__ import annotations

from collections.abc import Iterator

import click
from sqlalchemy.orm import Session

from token_tracker.cli import shown
from token_tracker.cli.context import actor, books, now, say
from token_tracker.cli.keys import every
from token_tracker.cli.meant import Candidate, by_id, scope_name, scope_names
from token_tracker.cli.options import as_json, scope
from token_tracker.database.session import reading, transaction
from token_tracker.services import rate_limit_fields, rate_limits
from token_tracker.services.pages import MAX_LIMIT

_COLUMNS = ("model", "limit", "unit", "period", "on_store_error", "source")


@click.group(no_args_is_help=True)
def limits() -> None:
    """Rate limits: set, list, delete."""


@limits.command("list")
@as_json
def list_(as_json: bool) -> None:
    """List rate limits, newest first."""
    with books() as engine, reading(engine) as session:
        found = every(lambda cursor: rate_limits.list_rate_limits(session, limit=MAX_LIMIT, cursor=cursor))
        items = [{"id": limit.id, "source": limit.source} | rate_limit_fields.public(limit) for limit in found]
    if as_json:
        shown.document(items)
    else:
        rows = (
            [item["id"], scope_name(item["scope_type"], item["scope_id"]), *(item[name] for name in _COLUMNS)]
            for item in items
        )
        shown.table(("id", "scope", *_COLUMNS), rows, right=("limit",))


@limits.command("set")
@click.argument("of", metavar="SCOPE")
@click.argument("rate", metavar="LIMIT[/PERIOD]")
@click.option("--unit", type=click.Choice(rate_limits.UNITS), default="requests", show_default=True)
@click.option("--model", help="Only calls of this model.")
@click.option("--on-store-error", type=click.Choice(rate_limits.ON_STORE_ERROR), help="While Redis is away.")
@as_json
def set_(of: str, rate: str, unit: str, model: str | None, on_store_error: str | None, as_json: bool) -> None:
    """Make the limit of a SCOPE, or change it: limits set key:key_… 60/minute; limits set user:ana 5 --unit concurrent

    SCOPE: as `budgets set` has it. PERIOD: second, minute, hour or day; none for concurrent calls.
    """
    number, _, period = rate.partition("/")
    if not number.isascii() or not number.isdigit():
        raise click.UsageError(f"'{rate}' is not like 60/minute.")
    scope_type, scope_id = scope(of)
    with books() as engine, transaction(engine) as session:
        limit, is_new = rate_limits.save(
            session,
            scope_type=scope_type,
            scope_id=scope_id,
            model=model,
            unit=unit,
            period=period or None,
            limit=int(number),
            actor=actor(),
            at=now(),
            **({} if on_store_error is None else {"on_store_error": on_store_error}),
        )
        document = {"id": limit.id, "source": limit.source} | rate_limit_fields.public(limit)
    if as_json:
        shown.document(document)
    else:
        say(f"The limit {document['id']} is {'made' if is_new else 'set'}; gateways follow within seconds.")


@limits.command()
@click.argument("limit_id")
def delete(limit_id: str) -> None:
    """Delete a rate limit."""
    with books() as engine, transaction(engine) as session, by_id("rate limit", limit_id, lambda: _called(session)):
        rate_limits.delete(session, limit_id=limit_id, actor=actor(), at=now())
    say(f"The limit {limit_id} is deleted.")


def _called(session: Session) -> Iterator[Candidate]:
    for each in every(lambda cursor: rate_limits.list_rate_limits(session, limit=MAX_LIMIT, cursor=cursor)):
        rate = f"{each.limit} {each.unit}" + (f" a {each.period}" if each.period else "")
        yield each.id, rate, scope_names(each)
