"""Tells what calls in flight hold: from the journal's open records, once a second where something changed."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Engine

from token_tracker.database.session import transaction
from token_tracker.domain.rules import BudgetRule, CallFacts, RuleBook, counter_key
from token_tracker.domain.windows import bucket_of
from token_tracker.proxy.books.records import End, Open
from token_tracker.proxy.books.rows import crashed, ledger_row
from token_tracker.services import open_holds
from token_tracker.services.counters import CountingRules, facts_of, is_member
from token_tracker.services.open_holds import Held, Hold, NodeHolds

PUBLISH_S = 1.0
HEARTBEAT_S = 5.0
MOST_HOLDS = 200  # named one by one; sums are of all


class HoldsTeller:
    """For the thread that reads the journal."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._rules = CountingRules()
        self._told: dict[str, NodeHolds] = {}
        self._due_s = self._heartbeat_s = 0.0

    def is_due(self) -> bool:
        return time.monotonic() >= self._due_s

    def tell(self, opens: Mapping[str, Sequence[Open | End]], at: datetime) -> None:
        """`opens`: of each node, what began and did not end. Raises SQLAlchemyError."""
        now_s = time.monotonic()
        self._due_s = now_s + PUBLISH_S
        is_heartbeat = now_s >= self._heartbeat_s
        held = {node: [known for known in of_node if _holds(known)] for node, of_node in opens.items()}
        if not is_heartbeat and not any(held.values()) and not any(told.calls for told in self._told.values()):
            return
        with transaction(self._engine) as session:
            self._rules.refresh(session)
            for node, of_node in held.items():
                content = _content(of_node, self._rules.book)
                if is_heartbeat or content != self._told.get(node):
                    open_holds.publish(session, node=node, content=content, at=at)
                    self._told[node] = content
            if is_heartbeat:
                open_holds.forget_silent(session, at=at)
        if is_heartbeat:
            self._heartbeat_s = now_s + HEARTBEAT_S


def _holds(known: Open | End) -> bool:
    opened = known if isinstance(known, Open) else known.opened
    return opened.held_nano_usd > 0 or opened.held_tokens > 0


def _content(known: Sequence[Open | End], book: RuleBook[BudgetRule]) -> NodeHolds:
    held: defaultdict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
    holds = []
    for each in known:
        opened = each if isinstance(each, Open) else each.opened
        facts = _facts(opened)
        for counter, bucket, amount in _places(opened, facts, book):
            total = held[counter, bucket]
            total[0] += amount
            total[1] += 1
        holds.append(_hold(opened, facts, "in_flight" if isinstance(each, Open) else "awaiting_usage"))
    holds.sort(key=lambda hold: (hold.since_us, hold.call_id))
    return NodeHolds(
        calls=len(holds),
        held=tuple(Held(*place, *total) for place, total in sorted(held.items())),
        holds=tuple(holds[:MOST_HOLDS]),
    )


def _places(opened: Open, facts: CallFacts, book: RuleBook[BudgetRule]) -> Iterable[tuple[str, int, int]]:
    at_us = opened.timestamp_us
    for rule, member in book.matching(facts):
        if not is_member(rule, member) or (rule.period == "total" and at_us < rule.starts_at_us):
            continue
        bucket = bucket_of(rule.period, rule.timezone, at_us, rule.starts_at_us)
        if rule.limit_nano_usd is not None and opened.held_nano_usd:
            yield counter_key(rule.id, "usd", member), bucket, opened.held_nano_usd
        if rule.limit_tokens is not None and opened.held_tokens:
            yield counter_key(rule.id, "tokens", member), bucket, opened.held_tokens


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
