"""Budgets' counters: what the ledger holds for each of them, changed in the transaction that books the rows.

Every budget counts from the commit that makes it; `counter_build` adds what was there before. So at any commit the
difference between ledger and counters stays what it was, however many recorders book meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, NamedTuple, cast

from sqlalchemy import Table, select, text
from sqlalchemy.orm import Session

from token_tracker.database.models import ConfigVersion, CounterState
from token_tracker.domain.rules import EACH, BudgetRule, CallFacts, RuleBook
from token_tracker.domain.usage import TOKEN_CLASSES
from token_tracker.domain.windows import bucket_of, leaves_at_s
from token_tracker.services import bulk
from token_tracker.services.rule_rows import load_budgets, microseconds

MEASURES = ("usd", "tokens")
KEPT = timedelta(hours=48)  # a bucket is kept so long after it left its window; what comes later is not counted
MOST = 2**62  # nothing that a row says may grow beyond what 64 bits hold
_LOCK = 0x74745F626F6F6B  # 'tt_book': PostgreSQL's advisory lock between booking and what must not meet it
_STATES = cast(Table, CounterState.__table__)
_REMEMBERED = 10_000
_LOOKED_AT = {
    "global": (),
    "key": ("key_id",),
    "user": ("user_id",),
    "team": ("team_id",),
    "provider": ("provider",),
    "agent": ("agent",),
    "tag": ("tags",),
    "session": ("session_id",),
    "end_user": ("end_user",),
}
_KEYS = ("budget_id", "measure", "member", "bucket")


class CounterPlace(NamedTuple):
    """One counter's bucket; `member` '' unless the budget is for each."""

    budget_id: str
    measure: str
    member: str
    bucket: int


class Amount(NamedTuple):
    """Nano-dollars or tokens."""

    spent: int
    unproven: int


class CounterValue(NamedTuple):
    """What stands in `counter_states`, and `domain.windows.leaves_at_s` of the bucket."""

    spent: int
    unproven: int
    version: int
    leaves_at_s: int


Changed = dict[CounterPlace, CounterValue]


class CountingRules:
    """All budgets, read again when the configuration's version grew. For one thread."""

    def __init__(self) -> None:
        self.budgets: tuple[BudgetRule, ...] = ()
        self.book: RuleBook[BudgetRule] = RuleBook()
        self._version: int | None = None
        self._matching = Matching(self.budgets)

    def refresh(self, session: Session) -> bool:
        """Whether they were read again."""
        version = session.scalar(select(ConfigVersion.version)) or 0
        if version == self._version:
            return False
        self.budgets = load_budgets(session)
        self.book = RuleBook.of(self.budgets)
        self._matching = Matching(self.budgets)
        self._version = version
        return True

    def amounts(self, rows: Sequence[Mapping[str, Any]]) -> dict[CounterPlace, list[int]]:
        """[spent, unproven] of ledger rows, by column names, in each place that counts them."""
        return self._matching.amounts(rows)


class Matching:
    """Which budgets count a row, found once for all rows that are alike in what the budgets look at."""

    def __init__(self, budgets: Sequence[BudgetRule]) -> None:
        self._book = RuleBook.of(budgets)
        looked_at = {column for rule in budgets for column in _LOOKED_AT[rule.scope_type]}
        if any(rule.model for rule in budgets):
            looked_at |= {"requested_model", "model_group", "model"}
        self._alike = itemgetter(*sorted(looked_at or {"lane"}))
        self._known: dict[Any, tuple[tuple[BudgetRule, str], ...]] = {}

    def of(self, row: Mapping[str, Any]) -> tuple[tuple[BudgetRule, str], ...]:
        """Each rule with the member whose counter it is."""
        alike = self._alike(row)
        known = self._known.get(alike)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = tuple(each for each in self._book.matching(facts_of(row)) if is_member(*each))
            self._known[alike] = known
        return known

    def amounts(self, rows: Sequence[Mapping[str, Any]]) -> dict[CounterPlace, list[int]]:
        amounts: dict[CounterPlace, list[int]] = {}
        for row in rows:
            matching = self.of(row)
            if not matching:
                continue
            at_us = microseconds(row["timestamp"])
            for rule, member in matching:
                if rule.period == "total" and at_us < rule.starts_at_us:
                    continue
                bucket = bucket_of(rule.period, rule.timezone, at_us, rule.starts_at_us)
                if rule.limit_nano_usd is not None:
                    place = CounterPlace(rule.id, "usd", member, bucket)
                    _add(amounts, place, row["cost_nano_usd"] or 0, row["unproven_nano_usd"])
                if rule.limit_tokens is not None:
                    tokens = sum(row[name] for name in TOKEN_CLASSES)
                    _add(amounts, CounterPlace(rule.id, "tokens", member, bucket), tokens, row["unproven_tokens"])
        return amounts


def lock_shared(session: Session) -> None:
    """For a transaction that books rows. On SQLite the writing transaction itself is the lock."""
    _lock(session, "pg_advisory_xact_lock_shared")


def lock_exclusive(session: Session) -> None:
    """Wait until no transaction books that began before, and keep others from beginning until this one ends."""
    _lock(session, "pg_advisory_xact_lock")


def measures_of(rule: BudgetRule) -> tuple[str, ...]:
    """The measures that a budget limits: those it has counters of."""
    limits = {"usd": rule.limit_nano_usd, "tokens": rule.limit_tokens}
    return tuple(measure for measure in MEASURES if limits[measure] is not None)


def facts_of(row: Mapping[str, Any]) -> CallFacts:
    """Who a ledger row was for, by its column names; `tags` as a sequence."""
    return CallFacts(
        key=row["key_id"],
        user=row["user_id"],
        team=row["team_id"],
        agent=row["agent"],
        session=row["session_id"],
        end_user=row["end_user"],
        tags=row["tags"],
        models=frozenset((row["requested_model"], row["model_group"], row["model"])),
        providers=frozenset((row["provider"],)),
    )


def count(session: Session, rules: CountingRules, rows: Sequence[Mapping[str, Any]], *, at: datetime) -> Changed:
    """Add new ledger rows to the counters of every budget that counts them; what stands there now."""
    return add(session, rules.amounts(rows), budgets=rules.budgets, at=at) if rules.budgets else {}


def add(
    session: Session, amounts: Mapping[CounterPlace, Sequence[int]], *, budgets: Iterable[BudgetRule], at: datetime
) -> Changed:
    """Add (spent, unproven), which may be negative, and make each version grow; places long out of their window are
    left alone."""
    leaving_s = _Leaving(budgets)
    kept_s = (at - KEPT).timestamp()
    rows = [
        {
            **dict(zip(_KEYS, place, strict=True)),
            "spent": max(-MOST, min(spent, MOST)),
            "unproven": max(-MOST, min(unproven, MOST)),
            "version": 1,
            "updated_at": at,
        }
        for place, (spent, unproven) in sorted(amounts.items())
        if leaving_s.of(place.budget_id, place.bucket) > kept_s
    ]
    if not rows:
        return {}
    stand = bulk.add_up_returning(session, _STATES, rows, ("spent", "unproven", "version"), ("updated_at",))
    return {CounterPlace(*row[:4]): CounterValue(row[4], row[5], row[6], leaving_s.of(row[0], row[3])) for row in stand}


def load(session: Session, budgets: Iterable[BudgetRule], *, at: datetime) -> Changed:
    """All counters whose bucket still counts at `at`."""
    leaving_s = _Leaving(budgets)
    now_s = at.timestamp()
    found: Changed = {}
    for row in session.execute(select(*list(_STATES.columns)[:7])):
        leaves_at = leaving_s.of(row[0], row[3])
        if leaves_at > now_s:
            found[CounterPlace(*row[:4])] = CounterValue(row[4], row[5], row[6], leaves_at)
    return found


class _Leaving:
    """When buckets leave their windows; 0 for a budget that is gone."""

    def __init__(self, budgets: Iterable[BudgetRule]) -> None:
        self._rules = {rule.id: rule for rule in budgets}
        self._known: dict[tuple[str, int], int] = {}

    def of(self, budget_id: str, bucket: int) -> int:
        known = self._known.get((budget_id, bucket))
        if known is None:
            rule = self._rules.get(budget_id)
            known = leaves_at_s(rule.period, rule.timezone, bucket) if rule else 0
            self._known[budget_id, bucket] = known
        return known


def is_member(rule: BudgetRule, member: str) -> bool:
    """Nobody has no counter of his own."""
    return bool(member) or rule.scope_id != EACH


def _add(amounts: dict[CounterPlace, list[int]], place: CounterPlace, spent: int, unproven: int) -> None:
    amount = amounts.get(place)
    if amount is None:
        amounts[place] = [spent, unproven]
    else:
        amount[0] += spent
        amount[1] += unproven


def _lock(session: Session, function: str) -> None:
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(f"SELECT {function}(:lock)"), {"lock": _LOCK})
