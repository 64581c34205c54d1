"""Where budgets stand at one moment, from their counters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session, selectinload

from token_tracker.database.models import Budget, CounterState
from token_tracker.domain.windows import ROLLING_HOURS, Window, window_of
from token_tracker.services.alert_facts import Standing, iso

Standings = Mapping[str, Standing]  # by measure: 'usd', 'tokens'


def all_budgets(session: Session) -> dict[str, Budget]:
    statement = select(Budget).options(selectinload(Budget.alerts), selectinload(Budget.top_ups))
    return {budget.id: budget for budget in session.scalars(statement)}


def members(
    session: Session, budgets: Mapping[str, Budget], changed_since: datetime | None = None
) -> defaultdict[str, set[str]]:
    """The members of each budget that has counters ('' unless it is for each); with `changed_since` of those that
    changed since then."""
    counters = select(CounterState.budget_id, CounterState.member).distinct()
    if changed_since is not None:
        fresh = [budget.id for budget in budgets.values() if _changed(budget) >= changed_since]
        counters = counters.where((CounterState.updated_at >= changed_since) | CounterState.budget_id.in_(fresh))
    found: defaultdict[str, set[str]] = defaultdict(set)
    for budget_id, member in session.execute(counters):
        if budget_id in budgets:
            found[budget_id].add(member)
    return found


def standings(session: Session, budget: Budget, members: Collection[str], at: datetime) -> dict[str, Standings]:
    """By member; none for a budget without any limit."""
    window = window_of(budget.period, budget.timezone, _us(at), _us(budget.starts_at))
    limits = {"usd": _limit_nano_usd(budget, window, at), "tokens": budget.limit_tokens}
    amounts = _amounts(session, budget, sorted(members), window)
    return {
        member: {
            measure: Standing(budget, member, measure, *amounts.get((measure, member), (0, 0)), limit, window, at)
            for measure, limit in limits.items()
            if limit is not None
        }
        for member in members
        if any(limit is not None for limit in limits.values())
    }


def fullest(found: Standings) -> Standing:
    """Of the measure that is nearer to its limit."""
    return max(found.values(), key=lambda each: each.percent)


def window_key(standing: Standing) -> str:
    """What a window is called in messages' ids; a rolling one has no border, so it is always the same."""
    return "rolling" if standing.budget.period in ROLLING_HOURS else iso(standing.window.start_s)


def subject_of(standing: Standing) -> str:
    return f"{standing.budget.id}|{standing.member}" if standing.member else standing.budget.id


def _amounts(
    session: Session, budget: Budget, members: Sequence[str], window: Window
) -> dict[tuple[str, str], tuple[int, int]]:
    """(spent, unproven) by measure and member."""
    statement = (
        select(
            CounterState.measure,
            CounterState.member,
            func.sum(CounterState.spent),
            func.sum(CounterState.unproven),
        )
        .where(
            CounterState.budget_id == budget.id,
            CounterState.member.in_(members),
            CounterState.bucket >= window.start_s,
            CounterState.bucket < window.end_s,
        )
        .group_by(CounterState.measure, CounterState.member)
    )
    rows = session.execute(statement)
    return {(measure, member): (int(spent), int(unproven)) for measure, member, spent, unproven in rows}


def _limit_nano_usd(budget: Budget, window: Window, at: datetime) -> int | None:
    if budget.limit_nano_usd is None:
        return None
    limit = budget.limit_nano_usd
    for top_up in budget.top_ups:
        made_in_window = top_up.created_at.timestamp() >= window.start_s
        if top_up.created_at <= at and (at < top_up.until if top_up.until else made_in_window):
            limit += top_up.amount_nano_usd
    return limit


def _changed(budget: Budget) -> datetime:
    return max(
        [budget.created_at, budget.updated_at or budget.created_at, *(each.created_at for each in budget.top_ups)]
    )


def _us(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000 + at.microsecond
