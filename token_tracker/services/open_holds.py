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
FORGOTTEN = timedelta(days=7)  # a node that never came back


class Hold(msgspec.Struct, frozen=True):
    """A call in flight. `state`: 'in_flight', 'awaiting_usage', or 'stale' where its node fell silent."""

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
    """What is held in one bucket of a counter (`domain.rules.counter_key`), by how many calls."""

    counter: str
    bucket: int
    amount: int
    calls: int


class NodeHolds(msgspec.Struct, frozen=True):
    """`held` is complete; `holds` are the oldest of `calls`."""

    calls: int = 0
    held: tuple[Held, ...] = ()
    holds: tuple[Hold, ...] = ()


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(NodeHolds)


def publish(session: Session, *, node: str, content: NodeHolds, at: datetime) -> None:
    row = {"node": node, "published_at": at, "content": _encoder.encode(content).decode()}
    bulk.replace(session, cast(Table, OpenHolds.__table__), [row], ("published_at", "content"))


def forget_silent(session: Session, *, at: datetime) -> None:
    session.execute(delete(OpenHolds).where(OpenHolds.published_at < at - FORGOTTEN))


def load(session: Session, *, at: datetime) -> list[tuple[NodeHolds, bool]]:
    """Of each node, and whether it fell silent: its calls may have ended meanwhile."""
    columns = (OpenHolds.content, OpenHolds.published_at)
    return [
        (_decoder.decode(content), published_at < at - STALE)
        for content, published_at in session.execute(select(*columns).order_by(OpenHolds.node))
    ]


def held_by_member(
    nodes: Iterable[tuple[NodeHolds, bool]], budget_id: str, measure: str, start_s: int, end_s: int
) -> dict[str, int]:
    """Of the buckets in [start_s, end_s)."""
    prefix = f"{budget_id}|{measure}|"
    found: dict[str, int] = {}
    for content, _ in nodes:
        for held in content.held:
            if held.counter.startswith(prefix) and start_s <= held.bucket < end_s:
                member = held.counter[len(prefix) :]
                found[member] = found.get(member, 0) + held.amount
    return found
