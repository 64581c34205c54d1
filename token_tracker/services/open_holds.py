"""What calls in flight hold, as each node's recorder last saw it in its journal."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import cast

import msgspec
from sqlalchemy import Table, delete, select
from sqlalchemy.orm import Session

from token_tracker.database.models import OpenHolds
from token_tracker.services import bulk

STALE = timedelta(seconds=15)  # a node that said nothing for so long; it says something every 5 s
FORGOTTEN = timedelta(days=7)  # a node that held nothing and never came back


class Hold(msgspec.Struct, frozen=True):
    """A call in flight. `state`: 'in_flight' or 'awaiting_usage'."""

    call_id: str
    since_us: int
    state: str
    held_nano_usd: int
    held_tokens: int
    key: str
    user: str
    team: str
    agent: str
    session: str
    end_user: str
    tags: tuple[str, ...]
    models: tuple[str, ...]
    provider: str


class Held(msgspec.Struct, frozen=True, array_like=True):
    """What an incarnation's calls hold in one bucket of a counter (`domain.rules.counter_key`), and how many they are.
    `leaves_at_s`: `domain.windows.leaves_at_s` of the bucket."""

    counter: str
    bucket: int
    amount: int
    calls: int
    incarnation: str = ""
    leaves_at_s: int = 0


class NodeHolds(msgspec.Struct, frozen=True):
    """`held` is complete; `holds` are the oldest of `calls`. Of the node's recorder: how much of the journal is not
    booked, and since when Redis is away for it (0: it is not). `released`: incarnations whose holds an admin gave up.
    """

    calls: int = 0
    held: tuple[Held, ...] = ()
    holds: tuple[Hold, ...] = ()
    backlog_mib: int = 0
    store_away_since_us: int = 0
    released: tuple[str, ...] = ()


_encoder = msgspec.json.Encoder()
decode = msgspec.json.Decoder(NodeHolds).decode


def encode(content: NodeHolds) -> str:
    return _encoder.encode(content).decode()


def released(content: NodeHolds) -> NodeHolds:
    """The same node, with nothing that counts: only whose it was, for those that were told of it."""
    lives = dict.fromkeys((*content.released, *(held.incarnation for held in content.held if held.incarnation)))
    return NodeHolds(released=tuple(lives))


def publish(session: Session, *, node: str, content: NodeHolds, at: datetime) -> None:
    row = {"node": node, "published_at": at, "content": encode(content)}
    bulk.replace(session, cast(Table, OpenHolds.__table__), [row], ("published_at", "content"))


def forget_silent(session: Session, *, at: datetime) -> None:
    """Nodes that never came back: at once when nothing that they held counts any more, as time alone ends no hold. One
    that was given up stays, for a store that must still be told."""
    silent = select(OpenHolds.node, OpenHolds.content).where(OpenHolds.published_at < at - FORGOTTEN)
    now_s = at.timestamp()
    said = [(node, decode(content)) for node, content in session.execute(silent)]
    gone = [
        node
        for node, content in said
        if not content.released and all(held.leaves_at_s <= now_s for held in content.held)
    ]
    if gone:
        session.execute(delete(OpenHolds).where(OpenHolds.node.in_(gone)))


def load(session: Session, *, at: datetime) -> list[tuple[NodeHolds, bool]]:
    """Of each node, and whether it fell silent: nobody knows what its calls came to, so they are unproven."""
    columns = (OpenHolds.content, OpenHolds.published_at)
    return [
        (decode(content), published_at < at - STALE)
        for content, published_at in session.execute(select(*columns).order_by(OpenHolds.node))
    ]


def by_node(session: Session) -> list[tuple[str, NodeHolds]]:
    """What each node said last."""
    rows = session.execute(select(OpenHolds.node, OpenHolds.content).order_by(OpenHolds.node))
    return [(node, decode(content)) for node, content in rows]


def held_by_member(
    nodes: Iterable[tuple[NodeHolds, bool]], budget_id: str, measure: str, start_s: int, end_s: int
) -> tuple[dict[str, int], dict[str, int]]:
    """Of the buckets in [start_s, end_s): what is held, and what silent nodes held last."""
    prefix = f"{budget_id}|{measure}|"
    held: dict[str, int] = {}
    left: dict[str, int] = {}
    for content, is_silent in nodes:
        found = left if is_silent else held
        for each in content.held:
            if each.counter.startswith(prefix) and start_s <= each.bucket < end_s:
                member = each.counter[len(prefix) :]
                found[member] = found.get(member, 0) + each.amount
    return held, left
