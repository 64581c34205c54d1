"""Which thresholds budgets passed, and which budgets are spent: from the books, written to the outbox once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from token_tracker.config.recipients import CHANNELS
from token_tracker.database.models import AlertDelivery, AlertEpisode, AlertRule, Budget, BudgetAlert
from token_tracker.domain.alert_flow import Observation
from token_tracker.domain.alert_kinds import EXCEEDED
from token_tracker.domain.windows import ROLLING_HOURS
from token_tracker.services import alert_book
from token_tracker.services.alert_facts import Standing, facts_of
from token_tracker.services.alert_mutes import Silence, silence
from token_tracker.services.budget_standings import (
    Standings,
    all_budgets,
    fullest,
    members,
    standings,
    subject_of,
    window_key,
)
from token_tracker.services.budget_thresholds import Threshold, parse, threshold_of
from token_tracker.services.outbox import COVERED, PENDING, Notice, enqueue

THRESHOLD = "budget.threshold"
# A rolling window moves each hour: it must fall this far below a threshold before it can pass it again.
_ROLLING_BACK = Decimal("0.95")


@dataclass(slots=True)
class Findings:
    """`recovered`: ids of deliveries whose threshold was passed downwards. `seen`: budgets that were looked at, by
    subject; `has_steps`: a rule about spent budgets has something to say of them."""

    notices: list[Notice] = field(default_factory=list)
    recovered: list[str] = field(default_factory=list)
    seen: dict[str, Standing] = field(default_factory=dict)
    rules: list[AlertRule] = field(default_factory=list)
    is_complete: bool = True
    has_steps: bool = False

    def __bool__(self) -> bool:
        return bool(self.notices or self.recovered or self.has_steps)

    def of(self, rule: AlertRule) -> list[Observation]:
        """What a rule about spent budgets sees."""
        return [
            Observation(subject, each.percent, window=window_key(each), back=_back(each.budget))
            for subject, each in self.seen.items()
            if rule.subject in ("", each.budget.id)
        ]


@dataclass(frozen=True, slots=True)
class _Wanted:
    threshold: Threshold
    channel: str
    recipient: str


def find(session: Session, *, at: datetime, changed_since: datetime | None = None) -> Findings:
    """What is to be told now. `changed_since`: look only at counters and budgets changed since then (by their own
    clocks)."""
    found = Findings(is_complete=changed_since is None)
    is_exceeded = (AlertRule.kind == EXCEEDED, AlertRule.enabled)
    found.rules = list(session.scalars(select(AlertRule).where(*is_exceeded).order_by(AlertRule.id)))
    budgets, mutes = all_budgets(session), silence(session, at=at)
    names = members(session, budgets, changed_since)
    if found.is_complete:
        for budget_id, member in _open(session, found.rules):
            if budget_id in budgets:
                names[budget_id].add(member)
    for budget_id, of_budget in names.items():
        _look_at(session, budgets[budget_id], of_budget, at, mutes, found)
    found.has_steps = any(
        alert_book.steps(session, rule, found.of(rule), at=at, is_complete=found.is_complete, mutes=mutes)
        for rule in found.rules
    )
    return found


def write(session: Session, found: Findings, *, at: datetime) -> int:
    """Into the outbox, in the caller's transaction; how many messages are new."""
    if found.recovered:
        session.execute(update(AlertDelivery).where(AlertDelivery.id.in_(found.recovered)).values(recovered_at=at))
    new = enqueue(session, found.notices, at=at)
    told = sum(1 for notice in found.notices if notice.id in new and notice.state == PENDING)
    for rule in found.rules if found.has_steps else ():
        told += alert_book.advance(
            session,
            rule,
            found.of(rule),
            at=at,
            facts=lambda seen: facts_of(session, found.seen[seen.subject]) if seen.subject in found.seen else {},
            is_complete=found.is_complete,
        )
    return told


def _open(session: Session, rules: Sequence[AlertRule]) -> Iterable[tuple[str, str]]:
    """(budget, member) of budgets that were spent when they were last looked at."""
    is_open = (AlertEpisode.rule_id.in_([rule.id for rule in rules]), AlertEpisode.threshold != "")
    for subject in session.scalars(select(AlertEpisode.subject).where(*is_open)):
        budget_id, _, member = subject.partition("|")
        yield budget_id, member


def _look_at(
    session: Session, budget: Budget, names: Iterable[str], at: datetime, mutes: Silence, found: Findings
) -> None:
    looked = standings(session, budget, sorted(names), at)
    subjects = {subject_of(fullest(each)): each for each in looked.values()}
    told: defaultdict[str, list[AlertDelivery]] = defaultdict(list)
    if budget.alerts:
        rows = (AlertDelivery.subject.in_(subjects), AlertDelivery.rule == THRESHOLD)
        for row in session.scalars(select(AlertDelivery).where(*rows)):
            told[row.subject].append(row)
    for subject, each in subjects.items():
        if budget.counter_built_at is not None or fullest(each).percent >= 100:
            found.seen[subject] = fullest(each)
        is_muted = mutes.covers(None, subject)
        _compare(session, budget, subject, each, told[subject], found, is_muted=is_muted)


def _compare(
    session: Session,
    budget: Budget,
    subject: str,
    now: Standings,
    told: Sequence[AlertDelivery],
    found: Findings,
    *,
    is_muted: bool,
) -> None:
    key, back = window_key(fullest(now)), _back(budget)
    gone: set[str] = set()
    for row in told:
        is_over = row.window.partition("#")[0] != key
        is_back = not parse(row.threshold).is_passed(now, back)
        if row.recovered_at is None and budget.counter_built_at is not None and (is_over or is_back):
            gone.add(row.id)
    found.recovered.extend(gone)
    here = [row for row in told if row.window.partition("#")[0] == key]
    is_open = {_of(row) for row in here if row.recovered_at is None and row.id not in gone}
    new = [] if is_muted else [each for each in _passed(budget, now) if each not in is_open]
    highest: dict[tuple[str, str], Decimal] = {}
    for each in [*is_open, *new]:
        to = (each.channel, each.recipient)
        highest[to] = max(highest.get(to, Decimal(0)), each.threshold.rank(now))
    for each in new:
        is_covered = each.threshold.rank(now) < highest[each.channel, each.recipient]
        notice = Notice(
            rule=THRESHOLD,
            event=THRESHOLD,
            subject=subject,
            window=f"{key}#{1 + sum(1 for row in here if _of(row) == each)}",
            threshold=each.threshold.text,
            channel=each.channel,
            recipient=each.recipient,
            facts={} if is_covered else facts_of(session, _shown(each.threshold, now)),
            state=COVERED if is_covered else PENDING,
        )
        found.notices.append(notice)


def _passed(budget: Budget, now: Standings) -> list[_Wanted]:
    wanted = {_Wanted(threshold_of(each), *_recipient(each)) for each in budget.alerts}
    passed = [each for each in wanted if each.threshold.is_passed(now)]
    return sorted(passed, key=lambda each: each.threshold.rank(now))


def _shown(threshold: Threshold, now: Standings) -> Standing:
    return fullest(now) if threshold.percent is not None else now["usd"]


def _recipient(alert: BudgetAlert) -> tuple[str, str]:
    return next((channel, address) for field, channel in CHANNELS.items() if (address := getattr(alert, field)))


def _of(row: AlertDelivery) -> _Wanted:
    return _Wanted(parse(row.threshold), row.channel, row.recipient)


def _back(budget: Budget) -> Decimal:
    return _ROLLING_BACK if budget.period in ROLLING_HOURS else Decimal(1)
