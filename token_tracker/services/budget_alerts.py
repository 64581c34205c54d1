"""Which budgets passed a threshold or came back under it: found from the books, written to the outbox once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, selectinload

from token_tracker.database.models import AlertDelivery, Budget, BudgetAlert, CounterState
from token_tracker.domain.windows import NEVER_S, ROLLING_HOURS, Window, window_of
from token_tracker.services.alert_facts import Standing, facts_of
from token_tracker.services.outbox import Notice, enqueue

THRESHOLD, EXCEEDED, RECOVERED = "budget.threshold", "budget.exceeded", "budget.recovered"
FULL = Decimal(100)
# A rolling window moves each hour: it must fall this far below a threshold before it can pass it again.
_ROLLING_BACK = Decimal("0.95")
Member = tuple[str, str]  # budget id, member


@dataclass(slots=True)
class Findings:
    """`recovered`: ids of deliveries whose threshold was passed downwards."""

    notices: list[Notice] = field(default_factory=list)
    recovered: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.notices or self.recovered)


@dataclass(frozen=True, slots=True)
class _Wanted:
    rule: str
    threshold: Decimal
    channel: str
    recipient: str


def find(session: Session, *, at: datetime, notify: str, changed_since: datetime | None = None) -> Findings:
    """What is to be told now. `notify`: the address that hears of exceeded budgets and of their recovery, '' for
    nobody. `changed_since`: look only at counters and budgets changed since then (by their own clocks)."""
    found = Findings()
    statement = select(Budget).options(selectinload(Budget.alerts), selectinload(Budget.top_ups))
    budgets = {budget.id: budget for budget in session.scalars(statement) if notify or budget.alerts}
    members = _members(session, budgets, changed_since)
    open_rows = _open_exceeded(session) if changed_since is None else []
    for row in open_rows:
        budget_id, _, member = row.subject.partition("|")
        if budget_id in budgets:
            members[budget_id].add(member)
    for budget_id, names in members.items():
        _look_at(session, budgets[budget_id], sorted(names), at, notify, found)
    return found


def write(session: Session, found: Findings, *, at: datetime) -> int:
    """Into the outbox, in the caller's transaction; how many messages are new."""
    if found.recovered:
        session.execute(update(AlertDelivery).where(AlertDelivery.id.in_(found.recovered)).values(recovered_at=at))
    new = enqueue(session, found.notices, at=at)
    return sum(1 for notice in found.notices if notice.id in new and not notice.is_covered)


def _members(
    session: Session, budgets: dict[str, Budget], changed_since: datetime | None
) -> defaultdict[str, set[str]]:
    counters = select(CounterState.budget_id, CounterState.member).distinct()
    if changed_since is not None:
        fresh = [budget.id for budget in budgets.values() if _changed(budget) >= changed_since]
        counters = counters.where((CounterState.updated_at >= changed_since) | CounterState.budget_id.in_(fresh))
    members: defaultdict[str, set[str]] = defaultdict(set)
    for budget_id, member in session.execute(counters):
        if budget_id in budgets:
            members[budget_id].add(member)
    return members


def _changed(budget: Budget) -> datetime:
    return max(
        [budget.created_at, budget.updated_at or budget.created_at, *(each.created_at for each in budget.top_ups)]
    )


def _open_exceeded(session: Session) -> Sequence[AlertDelivery]:
    is_open = (AlertDelivery.rule == EXCEEDED, AlertDelivery.recovered_at.is_(None))
    return session.scalars(select(AlertDelivery).where(*is_open)).all()


def _look_at(
    session: Session, budget: Budget, members: Sequence[str], at: datetime, notify: str, found: Findings
) -> None:
    window = window_of(budget.period, budget.timezone, _us(at), _us(budget.starts_at))
    spent = _spent(session, budget, members, window)
    subjects = {f"{budget.id}|{member}" if member else budget.id: member for member in members}
    told: defaultdict[str, list[AlertDelivery]] = defaultdict(list)
    rules = (AlertDelivery.subject.in_(subjects), AlertDelivery.rule.in_((THRESHOLD, EXCEEDED)))
    for row in session.scalars(select(AlertDelivery).where(*rules)):
        told[row.subject].append(row)
    for subject, member in subjects.items():
        standing = _standing(budget, member, window, spent, at)
        if standing is not None:
            _compare(session, subject, standing, told[subject], notify, found)


def _spent(session: Session, budget: Budget, members: Sequence[str], window: Window) -> dict[tuple[str, str], int]:
    statement = (
        select(CounterState.measure, CounterState.member, func.sum(CounterState.spent))
        .where(
            CounterState.budget_id == budget.id,
            CounterState.member.in_(members),
            CounterState.bucket >= window.start_s,
            CounterState.bucket < window.end_s,
        )
        .group_by(CounterState.measure, CounterState.member)
    )
    return {(measure, member): int(amount) for measure, member, amount in session.execute(statement)}


def _standing(
    budget: Budget, member: str, window: Window, spent: dict[tuple[str, str], int], at: datetime
) -> Standing | None:
    """Of the measure that is nearer to its limit."""
    limits = {"usd": _limit_nano_usd(budget, window, at), "tokens": budget.limit_tokens}
    standings = [
        Standing(budget, member, measure, spent.get((measure, member), 0), limit, window, at)
        for measure, limit in limits.items()
        if limit is not None
    ]
    return max(standings, key=lambda each: each.percent, default=None)


def _limit_nano_usd(budget: Budget, window: Window, at: datetime) -> int | None:
    if budget.limit_nano_usd is None:
        return None
    limit = budget.limit_nano_usd
    for top_up in budget.top_ups:
        made_in_window = top_up.created_at.timestamp() >= window.start_s
        if top_up.created_at <= at and (at < top_up.until if top_up.until else made_in_window):
            limit += top_up.amount_nano_usd
    return limit


def _compare(
    session: Session,
    subject: str,
    standing: Standing,
    told: Sequence[AlertDelivery],
    notify: str,
    found: Findings,
) -> None:
    budget = standing.budget
    key = "rolling" if budget.period in ROLLING_HOURS else _iso(standing.window.start_s)
    back = _ROLLING_BACK if budget.period in ROLLING_HOURS else Decimal(1)
    gone: set[str] = set()
    for row in told:
        is_over = row.window.partition("#")[0] != key
        is_back = standing.percent < Decimal(row.threshold) * back
        if row.recovered_at is None and budget.counter_built_at is not None and (is_over or is_back):
            gone.add(row.id)
            if row.rule == EXCEEDED and is_back:
                found.notices.append(_recovery(session, row, standing))
    found.recovered.extend(gone)
    here = [row for row in told if row.window.partition("#")[0] == key]
    is_open = {_of(row) for row in here if row.recovered_at is None and row.id not in gone}
    new = [each for each in _passed(budget, standing.percent, notify) if each not in is_open]
    highest: dict[tuple[str, str, str], Decimal] = {}
    for each in [*is_open, *new]:
        to = (each.rule, each.channel, each.recipient)
        highest[to] = max(highest.get(to, Decimal(0)), each.threshold)
    for each in new:
        episode = 1 + sum(1 for row in here if _of(row) == each)
        is_covered = each.threshold < highest[each.rule, each.channel, each.recipient]
        facts = {} if is_covered else facts_of(session, standing)
        found.notices.append(
            Notice(
                rule=each.rule,
                event=each.rule,
                subject=subject,
                window=f"{key}#{episode}",
                threshold=percent_text(each.threshold),
                channel=each.channel,
                recipient=each.recipient,
                facts=facts,
                is_covered=is_covered,
            )
        )


def _recovery(session: Session, row: AlertDelivery, standing: Standing) -> Notice:
    return Notice(
        rule=RECOVERED,
        event=RECOVERED,
        subject=row.subject,
        window=row.window,
        threshold=row.threshold,
        channel=row.channel,
        recipient=row.recipient,
        facts=facts_of(session, standing),
    )


def _passed(budget: Budget, percent: Decimal, notify: str) -> Iterable[_Wanted]:
    wanted = {_Wanted(THRESHOLD, each.threshold_percent.normalize(), *_recipient(each)) for each in budget.alerts}
    if notify:
        wanted.add(_Wanted(EXCEEDED, FULL.normalize(), "email", notify))
    return sorted((each for each in wanted if percent >= each.threshold), key=lambda each: each.threshold)


def _recipient(alert: BudgetAlert) -> tuple[str, str]:
    if alert.email:
        return "email", alert.email
    return ("slack", alert.slack_webhook) if alert.slack_webhook else ("webhook", alert.webhook or "")


def _of(row: AlertDelivery) -> _Wanted:
    return _Wanted(row.rule, Decimal(row.threshold).normalize(), row.channel, row.recipient)


def percent_text(percent: Decimal) -> str:
    """`'80'`, `'99.5'`."""
    return f"{percent.normalize():f}"


def _us(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000 + at.microsecond


def _iso(at_s: int) -> str:
    return "never" if at_s >= NEVER_S else datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
