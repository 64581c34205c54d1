"""Tells what calls in flight hold: from the journal's open records, once a second where something changed; and reads
what other nodes told."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from msgspec import structs
from sqlalchemy import Engine

from token_tracker.database.session import reading, transaction
from token_tracker.domain.rules import BudgetRule, CallFacts, RuleBook, counter_key
from token_tracker.domain.windows import bucket_of, leaves_at_s
from token_tracker.proxy.books.records import End, Open
from token_tracker.proxy.books.rows import crashed, ledger_row
from token_tracker.proxy.gate.store import Left
from token_tracker.services import open_holds
from token_tracker.services.counters import CountingRules, facts_of, is_member
from token_tracker.services.open_holds import Held, Hold, NodeHolds
from token_tracker.services.outage import Attempts, Outage

PUBLISH_S = 1.0
HEARTBEAT_S = 5.0
MOST_HOLDS = 200  # named one by one; sums are of all

OpenRecords = Mapping[str, Mapping[str, Sequence[Open | End]]]  # by node and incarnation: what began and did not end


class HoldsTeller:
    """For the thread that reads the journal. `node`: the one that the recorder itself belongs to."""

    def __init__(self, engine: Engine, node: str = "") -> None:
        self._engine, self._node = engine, node
        self._away_since_us = 0
        self._rules = CountingRules()
        self._told: dict[str, NodeHolds] = {}
        self._due_s = self._heartbeat_s = 0.0

    def is_due(self) -> bool:
        return time.monotonic() >= self._due_s

    def tell(self, opens: OpenRecords, at: datetime, *, backlog_bytes: int = 0, is_store_away: bool = False) -> None:
        """`backlog_bytes` of the journal are not booked. Raises SQLAlchemyError."""
        self._away_since_us = (self._away_since_us or int(at.timestamp() * 1_000_000)) if is_store_away else 0
        now_s = time.monotonic()
        self._due_s = now_s + PUBLISH_S
        is_heartbeat = now_s >= self._heartbeat_s
        held = {
            node: [(life, known) for life, of_life in of_node.items() for known in of_life if _holds(known)]
            for node, of_node in opens.items()
        }
        if not is_heartbeat and not any(held.values()) and not any(told.calls for told in self._told.values()):
            return
        with transaction(self._engine) as session:
            self._rules.refresh(session)
            for node, of_node in held.items():
                content = _content(of_node, self._rules.book)
                if node == self._node:
                    mib, since_us = backlog_bytes >> 20, self._away_since_us
                    content = structs.replace(content, backlog_mib=mib, store_away_since_us=since_us)
                if is_heartbeat or content != self._told.get(node):
                    open_holds.publish(session, node=node, content=content, at=at)
                    self._told[node] = content
            if is_heartbeat:
                open_holds.forget_silent(session, at=at)
        if is_heartbeat:
            self._heartbeat_s = now_s + HEARTBEAT_S


class HoldsReader:
    """What all nodes said last that they hold, for the thread that tells the gateways' store; as it was while the
    database is away."""

    def __init__(
        self, engine: Engine, outage: Outage, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._engine, self._clock = engine, clock
        self._attempts = Attempts(outage, "reading of holds")
        self._nodes: list[tuple[NodeHolds, bool]] = []

    def __call__(self, everything: bool) -> dict[str, list[Left] | None]:
        """By incarnation: of every node, or only of those that fell silent; None for one that was given up."""
        at = self._clock()
        with self._attempts, reading(self._engine) as session:
            self._nodes = open_holds.load(session, at=at)
        found: dict[str, list[Left]] = {}
        for content, is_silent in self._nodes:
            for held in content.held if everything or is_silent else ():
                if held.incarnation and held.leaves_at_s > at.timestamp():
                    left = Left(held.counter, held.bucket, held.leaves_at_s, held.amount)
                    found.setdefault(held.incarnation, []).append(left)
        released = (incarnation for content, _ in self._nodes for incarnation in content.released)
        return {**found, **dict.fromkeys(released)}


def _holds(known: Open | End) -> bool:
    opened = known if isinstance(known, Open) else known.opened
    return opened.held_nano_usd > 0 or opened.held_tokens > 0


def _content(known: Sequence[tuple[str, Open | End]], book: RuleBook[BudgetRule]) -> NodeHolds:
    held: defaultdict[tuple[str, int, str, int], list[int]] = defaultdict(lambda: [0, 0])
    holds = []
    for incarnation, each in known:
        opened = each if isinstance(each, Open) else each.opened
        facts = _facts(opened)
        for counter, bucket, leaves_s, amount in _places(opened, facts, book):
            total = held[counter, bucket, incarnation, leaves_s]
            total[0] += amount
            total[1] += 1
        holds.append(_hold(opened, facts, "in_flight" if isinstance(each, Open) else "awaiting_usage"))
    holds.sort(key=lambda hold: (hold.since_us, hold.call_id))
    return NodeHolds(
        calls=len(holds),
        held=tuple(
            Held(counter, bucket, amount, calls, incarnation, leaves_s)
            for (counter, bucket, incarnation, leaves_s), (amount, calls) in sorted(held.items())
        ),
        holds=tuple(holds[:MOST_HOLDS]),
    )


def _places(opened: Open, facts: CallFacts, book: RuleBook[BudgetRule]) -> Iterable[tuple[str, int, int, int]]:
    """Counter, bucket, when that leaves its window, amount."""
    at_us = opened.timestamp_us
    for rule, member in book.matching(facts):
        if not is_member(rule, member) or (rule.period == "total" and at_us < rule.starts_at_us):
            continue
        bucket = bucket_of(rule.period, rule.timezone, at_us, rule.starts_at_us)
        leaves_s = leaves_at_s(rule.period, rule.timezone, bucket)
        if rule.limit_nano_usd is not None and opened.held_nano_usd:
            yield counter_key(rule.id, "usd", member), bucket, leaves_s, opened.held_nano_usd
        if rule.limit_tokens is not None and opened.held_tokens:
            yield counter_key(rule.id, "tokens", member), bucket, leaves_s, opened.held_tokens


def _facts(opened: Open) -> CallFacts:
    """As its row will say them."""
    return facts_of(ledger_row(crashed(opened)))


def _hold(opened: Open, facts: CallFacts, state: str) -> Hold:
    return Hold(
        call_id=opened.call_id,
        since_us=opened.timestamp_us,
        state=state,
        held_nano_usd=opened.held_nano_usd,
        held_tokens=opened.held_tokens,
        key=facts.key,
        user=facts.user,
        team=facts.team,
        agent=facts.agent,
        session=facts.session,
        end_user=facts.end_user,
        tags=facts.tags,
        models=tuple(sorted(facts.models)),
        provider=opened.provider,
    )
