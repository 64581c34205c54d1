"""Gateway nodes, by what each said last that its calls hold; and giving up one that will never come back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from token_tracker.database.models import OpenHolds
from token_tracker.domain.problems import Conflict, Invalid, NotFound
from token_tracker.services import audit, checks, open_holds
from token_tracker.services.audit import Actor
from token_tracker.services.open_holds import NodeHolds

CALLS_NAMED = 200


@dataclass(frozen=True, slots=True)
class Node:
    """A data directory with a recorder. `is_silent`: it said nothing for 15 s, so what it held is unproven.
    `is_released`: an admin gave it up, and nothing that it held counts any more."""

    id: str
    said_at: datetime
    content: NodeHolds
    is_silent: bool
    is_released: bool

    @property
    def state(self) -> str:
        """'alive', 'silent' or 'released'."""
        if not self.is_silent:
            return "alive"
        return "released" if self.is_released else "silent"


def every_node(session: Session, *, at: datetime) -> list[Node]:
    """By their ids. Those that held nothing are forgotten after seven days of silence."""
    return [_node(row, at) for row in session.scalars(select(OpenHolds).order_by(OpenHolds.node))]


def release(session: Session, *, node_id: str, reason: str, actor: Actor, at: datetime) -> Node:
    """No longer count what a silent node held: an admin's word that its journal is lost, and that its calls cost
    nothing beyond what is booked. Safe to repeat. If it comes back all the same, its journal is booked as ever.

    Raises NotFound, Invalid (a reason is needed), Conflict (it is alive).
    """
    row = session.get(OpenHolds, node_id, with_for_update=True) if checks.may_be_stored(node_id) else None
    if row is None:
        raise NotFound("node", node_id)
    if problems := checks.text("reason", reason, at_most=500):
        raise Invalid(problems)
    node = _node(row, at)
    if not node.is_silent:
        raise Conflict(
            f"The node '{node_id}' has spoken within {open_holds.STALE.seconds} s: what its calls hold ends with them. "
            "Nothing was changed; stop it first if it shall be given up."
        )
    if node.content.held:
        row.content = open_holds.encode(open_holds.released(node.content))
        said = {
            "calls": [hold.call_id for hold in node.content.holds[:CALLS_NAMED]],
            "count": node.content.calls,
            "held": {f"{each.counter}@{each.bucket}": each.amount for each in node.content.held[:CALLS_NAMED]},
        }
        audit.record(session, actor, "node.release", node_id, at=at, before=said, after={"reason": reason})
        session.flush()
    return _node(row, at)


def _node(row: OpenHolds, at: datetime) -> Node:
    content = open_holds.decode(row.content)
    is_silent = row.published_at < at - open_holds.STALE
    return Node(row.node, row.published_at, content, is_silent, bool(content.released))
