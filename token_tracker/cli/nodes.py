"""`nodes`: gateway nodes, and giving up one that never comes back."""

from __future__ import annotations

import click

from token_tracker.cli import shown
from token_tracker.cli.context import actor, books, now, say
from token_tracker.cli.options import as_json
from token_tracker.database.session import reading, transaction
from token_tracker.services import nodes as service
from token_tracker.services.usage import format_time

_COLUMNS = ("id", "state", "said_at", "calls")


@click.group(no_args_is_help=True)
def nodes() -> None:
    """Gateway nodes: list, give one up."""


@nodes.command("list")
@as_json
def list_(as_json: bool) -> None:
    """List all, with how many calls each held when it spoke last.

    alive; silent: it said nothing for 15 s, and what it held is unproven; released: it was given up.
    """
    with books() as engine, reading(engine) as session:
        items = [_document(each) for each in service.every_node(session, at=now())]
    shown.listed(items, _COLUMNS, as_json)


@nodes.command()
@click.argument("node_id")
@click.argument("reason")
@as_json
def release(node_id: str, reason: str, as_json: bool) -> None:
    """Give up a node that never comes back: nodes release NODE 'its disk is lost'

    No budget counts what it held any more. It is your word that its calls cost nothing beyond what is booked: look at
    the provider's own figures first.
    """
    with books() as engine, transaction(engine) as session:
        done = service.release(session, node_id=node_id, reason=reason, actor=actor(), at=now())
        document = _document(done)
    if as_json:
        shown.document(document)
    else:
        say(f"The node {node_id} is given up; budgets stop counting what it held within seconds.")


def _document(node: service.Node) -> dict[str, object]:
    return {"id": node.id, "state": node.state, "said_at": format_time(node.said_at), "calls": node.content.calls}
