"""Ends what stays unproven: an admin's word that calls cost a budget no more than what was booked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from token_tracker.database.models import Budget, TokenUsage, TokenUsageTag, UnprovenRelease
from token_tracker.domain.money import format_usd
from token_tracker.domain.problems import Invalid, NotFound
from token_tracker.domain.rules import EACH, BudgetRule
from token_tracker.domain.windows import NEVER_S, window_of
from token_tracker.services import audit, checks, counters
from token_tracker.services.audit import Actor
from token_tracker.services.ledger_amounts import UNPROVEN, of_rule
from token_tracker.services.rule_rows import microseconds, rule_of

AT_ONCE = 5_000
ALL: Literal["all"] = "all"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Released:
    """`calls`: ids of the calls released now; `already`: those asked for that were released before. The amounts are
    no longer counted. `is_complete` False: of all, only the oldest thousands were taken; ask again."""

    calls: tuple[str, ...]
    already: tuple[str, ...]
    nano_usd: int
    tokens: int
    is_complete: bool = True


def release(
    session: Session,
    *,
    budget_id: str,
    calls: Sequence[str] | Literal["all"],
    reason: str,
    actor: Actor,
    at: datetime,
) -> Released:
    """End what these calls leave unproven in the budget's current window, or all calls. Safe to repeat.

    Raises NotFound, Invalid (a call that left nothing unproven there; a reason is needed).
    """
    # Not the whole row: booking counters of the budget need not wait, and cannot deadlock with this.
    lock = {"key_share": True}
    budget = session.get(Budget, budget_id, with_for_update=lock) if checks.may_be_stored(budget_id) else None
    if budget is None:
        raise NotFound("budget", budget_id)
    if problems := [*checks.text("reason", reason, at_most=500), *_call_problems(calls)]:
        raise Invalid(problems)
    rule = rule_of(budget, ())
    rows = _unproven_rows(session, rule, calls, at)
    known = set(
        session.scalars(
            select(UnprovenRelease.usage_id).where(
                UnprovenRelease.budget_id == budget_id, UnprovenRelease.usage_id.in_([row["id"] for row in rows])
            )
        )
    )
    new = [row for row in rows if row["id"] not in known]
    if calls != ALL and (strange := sorted(set(calls) - {row["call_id"] for row in rows})):
        message = f"left nothing unproven in this budget's window: {', '.join(strange[:20])}"
        raise Invalid([("call_ids", message)])
    at_once = new[:AT_ONCE]
    _release(session, rule, at_once, reason, actor, at)
    done = Released(
        calls=tuple(dict.fromkeys(row["call_id"] for row in at_once)),
        already=tuple(dict.fromkeys(row["call_id"] for row in rows if row["id"] in known)) if calls != ALL else (),
        nano_usd=sum(row["unproven_nano_usd"] for row in at_once),
        tokens=sum(row["unproven_tokens"] for row in at_once),
        is_complete=len(at_once) == len(new),
    )
    if at_once:
        said = {
            "calls": list(done.calls[:1_000]),
            "count": len(done.calls),
            "unproven_usd": format_usd(done.nano_usd),
            "unproven_tokens": done.tokens,
            "reason": reason,
        }
        audit.record(session, actor, "budget.release", budget_id, at=at, after=said)
    return done


def _release(
    session: Session, rule: BudgetRule, rows: Sequence[dict[str, Any]], reason: str, actor: Actor, at: datetime
) -> None:
    fields = {"released_at": at, "released_by": actor.user[:64], "reason": reason}
    session.add_all(UnprovenRelease(budget_id=rule.id, usage_id=row["id"], **fields) for row in rows)
    session.flush()
    amounts = {
        place: (0, -unproven) for place, (_, unproven) in counters.Matching([rule]).amounts(rows).items() if unproven
    }
    counters.add(session, amounts, budgets=[rule], at=at)


def _unproven_rows(
    session: Session, rule: BudgetRule, calls: Sequence[str] | Literal["all"], at: datetime
) -> list[dict[str, Any]]:
    """Of the current window, the oldest first; one more than can be released at once where all are asked for."""
    window = window_of(rule.period, rule.timezone, microseconds(at), rule.starts_at_us)
    start_us = max(window.start_s * 1_000_000, rule.starts_at_us if rule.period == "total" else 0)
    statement = select(TokenUsage.__table__).where(
        UNPROVEN, TokenUsage.timestamp >= _EPOCH + timedelta(microseconds=start_us), *_of_rule(rule)
    )
    if window.end_s < NEVER_S:
        statement = statement.where(TokenUsage.timestamp < _EPOCH + timedelta(seconds=window.end_s))
    if calls == ALL:
        released = select(UnprovenRelease.usage_id).where(UnprovenRelease.budget_id == rule.id)
        statement = statement.where(TokenUsage.id.not_in(released)).limit(AT_ONCE + 1)
    else:
        statement = statement.where(TokenUsage.call_id.in_(calls))
    found = session.execute(statement.order_by(TokenUsage.timestamp, TokenUsage.id)).mappings()
    return [{**row, "tags": tuple(msgspec.json.decode(row["tags"]))} for row in found]


def _of_rule(rule: BudgetRule) -> list[Any]:
    """Each row once, however many of its tags have a counter."""
    if rule.scope_type != "tag":
        return of_rule(rule)
    tagged = select(TokenUsageTag.usage_id)
    if rule.scope_id != EACH:
        tagged = tagged.where(TokenUsageTag.tag == rule.scope_id)
    return [TokenUsage.id.in_(tagged), *of_rule(rule)[1:]]


def _call_problems(calls: object) -> checks.Problems:
    if calls == ALL:
        return []
    if not isinstance(calls, (list, tuple)) or len(calls) > AT_ONCE:
        return [("call_ids", f"must be 'all', or a list of at most {AT_ONCE} ids")]
    return checks.texts("call_ids", list(calls), each_at_most=40, at_most=AT_ONCE)
