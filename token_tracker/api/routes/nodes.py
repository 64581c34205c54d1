"""Gateway nodes: who is there, what the calls of each hold, and giving up one that never comes back."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from token_tracker.api.routing import Call, Route
from token_tracker.api.schemas import Input
from token_tracker.database.session import reading, transaction
from token_tracker.domain.access import Permission
from token_tracker.domain.money import format_usd
from token_tracker.services import nodes as service
from token_tracker.services.usage import format_time

HELD_SHOWN = 1000


class NodeRelease(Input, frozen=True):
    """Why it is given up, for the audit log."""

    reason: Annotated[str, Meta(min_length=1, max_length=500)]


class NodeHeld(Struct, frozen=True):
    """What counts in one budget; of a budget for each, in a member's. One of the amounts is null."""

    budget: str
    member: str
    amount_usd: str | None
    amount_tokens: int | None


class NodeShown(Struct, frozen=True):
    """`state`: `alive`, `silent` (it said nothing for 15 s: what it held is unproven) or `released`. `calls`: in flight
    when it spoke last, as far as they hold something."""

    id: str
    state: str
    said_at: str
    calls: int
    held: list[NodeHeld]


class NodeList(Struct, frozen=True):
    items: list[NodeShown]


def list_nodes(call: Call) -> NodeList:
    with reading(call.engine) as session:
        return NodeList([_shown(node) for node in service.every_node(session, at=call.at)])


def release(call: Call, node_id: str, body: NodeRelease) -> NodeShown:
    with transaction(call.engine) as session:
        done = service.release(session, node_id=node_id, reason=body.reason, actor=call.actor, at=call.at)
        return _shown(done)


def _shown(node: service.Node) -> NodeShown:
    sums: dict[str, int] = {}
    for each in node.content.held:
        sums[each.counter] = sums.get(each.counter, 0) + each.amount
    held = []
    for counter, amount in list(sums.items())[:HELD_SHOWN]:
        budget, measure, member = counter.split("|", 2)
        is_usd = measure == "usd"
        held.append(NodeHeld(budget, member, format_usd(amount) if is_usd else None, None if is_usd else amount))
    return NodeShown(node.id, node.state, format_time(node.said_at), node.content.calls, held)


READ, MANAGE = Permission.AUDIT_READ, Permission.RULES_MANAGE  # the holds of everybody are seen by those who see all
ROUTES = (
    Route("GET", "/api/nodes", list_nodes, READ, "Gateway nodes and what the calls of each hold", NodeList),
    Route(
        "POST",
        "/api/nodes/{node_id}/release",
        release,
        MANAGE,
        "Give up what a node held that never comes back",
        NodeShown,
        body=NodeRelease,
        errors=(409,),
    ),
)
