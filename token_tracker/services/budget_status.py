"""Where a budget stands: from its counters and from what nodes last said of their calls in flight, not the ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from token_tracker.database.models import Budget
from token_tracker.domain.access import EVERYTHING, Scope
from token_tracker.domain.holds import limit_at
from token_tracker.domain.problems import Invalid, NotFound
from token_tracker.domain.rules import EACH, BudgetRule, CallFacts, RuleBook
from token_tracker.domain.windows import NEVER_S, ROLLING_HOURS, Window, bucket_of, window_of
from token_tracker.services import checks, open_holds
from token_tracker.services.counters import measures_of
from token_tracker.services.open_holds import Hold, NodeHolds
from token_tracker.services.pages import DEFAULT_LIMIT, MAX_LIMIT
from token_tracker.services.rule_reach import members_within
from token_tracker.services.rule_rows import microseconds, rule_of
from token_tracker.services.window_counters import WindowCounters

_RECENT = timedelta(hours=24)  # what a rolling window's burn rate is measured over
_LEAST = timedelta(minutes=1)  # and any other's at least
_FARTHEST = timedelta(days=3_650)
Nodes = Sequence[tuple[NodeHolds, bool]]


@dataclass(frozen=True, slots=True)
class Measure:
    """Nano-dollars or tokens. `limit` with the top-ups of this moment; `remaining` is never below 0.

    `per_hour`: how fast it was spent over the last `measured_over_s`; `ends_at`: when nothing remains if that goes on,
    None where the window ends before, or nothing is spent; the moment asked for where nothing remains now.
    """

    limit: int
    spent: int
    held: int
    unproven: int
    per_hour: int
    measured_over_s: int
    ends_at: datetime | None

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.spent - self.held - self.unproven)


@dataclass(frozen=True, slots=True)
class LiveHold:
    """A call in flight that holds something. `state`: 'in_flight', 'awaiting_usage', or 'unproven' where its node has
    said nothing for 15 s: nobody knows what it came to until that node's journal is booked."""

    call_id: str
    nano_usd: int
    tokens: int
    age_s: float
    state: str
    member: str


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """`usd`, `tokens`: None for no limit of that measure. `window_end` None: `total` never ends. `holds`: the oldest
    ones, at most 200 of each node. `is_building`: the counters do not hold all of the window yet. `is_soft`: of a hard
    budget, calls that nothing bounds are let through (`allow_unbounded`)."""

    budget: Budget
    member_id: str
    usd: Measure | None
    tokens: Measure | None
    window_start: datetime
    window_end: datetime | None
    holds: tuple[LiveHold, ...]
    is_building: bool
    is_soft: bool


@dataclass(frozen=True, slots=True)
class MemberPage:
    """In the order of `member_id`; `next_cursor` None: there is no more."""

    items: tuple[BudgetStatus, ...]
    next_cursor: str | None


def status(
    session: Session, *, budget_id: str, at: datetime, member: str = "", scope: Scope = EVERYTHING
) -> BudgetStatus:
    """Of a budget, or of one `member` of a budget for each. Raises NotFound (also for a member outside `scope`),
    Invalid (`member` is needed, or not)."""
    look = _Look(session, budget_id, at, scope)
    if (look.rule.scope_id == EACH) != bool(member):
        raise Invalid([("member", "goes with a budget for each ('*'), and only with one")])
    if member and not look.may_see(member):
        raise NotFound(look.rule.scope_type, member)
    return look.status_of(member, look.amounts([member]))


def members(
    session: Session,
    *,
    budget_id: str,
    at: datetime,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
    scope: Scope = EVERYTHING,
) -> MemberPage:
    """Those of a budget for each, within `scope`, that spent or hold something in its window. Raises NotFound,
    Invalid."""
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid([("limit", f"must be between 1 and {MAX_LIMIT}")])
    if cursor is not None and not checks.may_be_stored(cursor):
        raise Invalid([("cursor", "is not one that this list gave out")])
    look = _Look(session, budget_id, at, scope)
    if look.rule.scope_id != EACH:
        raise Invalid([("budget", "is for one; only a budget for each ('*') has members")])
    names = look.member_names(cursor or "", limit + 1)
    page = names[:limit]
    amounts = look.amounts(page)
    items = tuple(look.status_of(name, amounts) for name in page)
    return MemberPage(items, page[-1] if len(names) > limit else None)


class _Look:
    """One budget at one moment."""

    def __init__(self, session: Session, budget_id: str, at: datetime, scope: Scope) -> None:
        budget = session.get(Budget, budget_id) if checks.may_be_stored(budget_id) else None
        if budget is None:
            raise NotFound("budget", budget_id)
        self.budget, self.rule, self._at = budget, rule_of(budget, budget.top_ups), at
        rule = self.rule
        seen = members_within(scope, rule.scope_type) if rule.scope_id == EACH else None
        self._seen = None if seen is None else sorted(session.scalars(seen))  # None: all members
        self._window = window_of(rule.period, rule.timezone, microseconds(at), rule.starts_at_us)
        self._counters = WindowCounters(session, rule.id, self._window)
        self._nodes: Nodes = open_holds.load(session, at=at)
        self._held = {
            measure: open_holds.held_by_member(self._nodes, rule.id, measure, self._window.start_s, self._window.end_s)
            for measure in measures_of(rule)
        }
        self._holds = self._holds_by_member()
        self._in_order: dict[str, list[str]] = {}  # members by measure, as the database orders them

    def member_names(self, after: str, limit: int) -> list[str]:
        """Of the window, in order."""
        names = {name for both in self._held.values() for held in both for name in held if name > after}
        if self._seen is not None:
            names &= set(self._seen)
        for measure in measures_of(self.rule):
            self._in_order[measure] = self._counters.names(measure, after, limit, self._seen)
            names.update(self._in_order[measure])
        return sorted(names)[:limit]

    def may_see(self, member: str) -> bool:
        return self._seen is None or member in self._seen

    def amounts(self, names: Sequence[str]) -> dict[tuple[str, str], tuple[int, int, int]]:
        """(spent, unproven, spent lately) by measure and member."""
        found: dict[tuple[str, str], tuple[int, int, int]] = {}
        recent_s, wanted = int((self._at - _RECENT).timestamp()), set(names)
        for measure in measures_of(self.rule):
            counted = [name for name in self._in_order.get(measure, names) if name in wanted]
            if not counted:
                continue
            for member, spent, unproven, lately in self._counters.sums(measure, counted, recent_s):
                found[measure, member] = spent, unproven, lately
        return found

    def status_of(self, member: str, amounts: dict[tuple[str, str], tuple[int, int, int]]) -> BudgetStatus:
        limited = {
            measure: self._measure(measure, member, amounts.get((measure, member), (0, 0, 0)))
            for measure in measures_of(self.rule)
        }
        window, budget = self._window, self.budget
        return BudgetStatus(
            budget=budget,
            member_id=member,
            usd=limited.get("usd"),
            tokens=limited.get("tokens"),
            window_start=datetime.fromtimestamp(window.start_s, UTC),
            window_end=None if window.end_s >= NEVER_S else datetime.fromtimestamp(window.end_s, UTC),
            holds=tuple(self._holds.get(member, ())),
            is_building=budget.counter_built_at is None,
            is_soft=budget.enforcement == "hard" and budget.allow_unbounded,
        )

    def _measure(self, measure: str, member: str, amounts: tuple[int, int, int]) -> Measure:
        spent, unproven, lately = amounts
        held, left_by_silent = (found.get(member, 0) for found in self._held[measure])
        unproven += left_by_silent
        limit = limit_at(self.rule, measure, microseconds(self._at), self._window.start_s * 1_000_000) or 0
        over, burnt = self._burnt(spent, lately)
        left = limit - spent - unproven - held
        return Measure(
            limit=limit,
            spent=spent,
            held=held,
            unproven=unproven,
            per_hour=burnt * 3600 // int(over.total_seconds()),
            measured_over_s=int(over.total_seconds()),
            ends_at=self._ends_at(left, burnt, over),
        )

    def _burnt(self, spent: int, lately: int) -> tuple[timedelta, int]:
        """Over the window so far; of a rolling window, over its last 24 hours."""
        if self.rule.period in ROLLING_HOURS:
            return _RECENT, lately
        since = datetime.fromtimestamp(self._window.start_s, UTC)
        return max(_LEAST, self._at - since), spent

    def _ends_at(self, left: int, burnt: int, over: timedelta) -> datetime | None:
        if left <= 0:
            return self._at
        if burnt <= 0:
            return None
        until = min(left / burnt * over.total_seconds(), _FARTHEST.total_seconds())
        ends_at = self._at + timedelta(seconds=until)
        is_later = self.rule.period not in ROLLING_HOURS and ends_at.timestamp() >= self._window.end_s
        return None if is_later or until >= _FARTHEST.total_seconds() else ends_at

    def _holds_by_member(self) -> dict[str, list[LiveHold]]:
        found: defaultdict[str, list[LiveHold]] = defaultdict(list)
        for content, is_silent in self._nodes:
            for hold in content.holds:
                for member in _members_of(self.rule, self._window, hold):
                    found[member].append(self._live(hold, member, is_silent))
        for holds in found.values():
            holds.sort(key=lambda hold: -hold.age_s)
        return found

    def _live(self, hold: Hold, member: str, is_silent: bool) -> LiveHold:
        return LiveHold(
            call_id=hold.call_id,
            nano_usd=hold.held_nano_usd,
            tokens=hold.held_tokens,
            age_s=round(max(0.0, (microseconds(self._at) - hold.since_us) / 1_000_000), 3),
            state="unproven" if is_silent else hold.state,
            member=member,
        )


def _members_of(rule: BudgetRule, window: Window, hold: Hold) -> Iterator[str]:
    if rule.period == "total" and hold.since_us < rule.starts_at_us:
        return
    bucket = bucket_of(rule.period, rule.timezone, hold.since_us, rule.starts_at_us)
    if not window.start_s <= bucket < window.end_s:
        return
    facts = CallFacts(
        key=hold.key,
        user=hold.user,
        team=hold.team,
        agent=hold.agent,
        session=hold.session,
        end_user=hold.end_user,
        tags=hold.tags,
        models=frozenset(hold.models),
        providers=frozenset((hold.provider,)),
    )
    for _, member in RuleBook.of([rule]).matching(facts):
        yield member
