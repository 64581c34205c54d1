"""Which counters count a call, in which window and under which limit: what rules, facts and time make of each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from token_tracker.domain.holds import limit_at
from token_tracker.domain.rules import BudgetRule, CallFacts, RateRule, RuleBook, counter_key
from token_tracker.domain.windows import ROLLING_HOURS, bucket_of, leaves_at_s, window_of

MEASURES = ("usd", "tokens")  # a place's `measure` is an index into it
_REMEMBERED = 4096  # different callers whose rules are kept ready


class Place(NamedTuple):
    """Where an entry counts. `hours`: of a rolling window, else 0. `leaves_at_s`: when that bucket counts no more."""

    counter: str
    bucket: int
    measure: int
    hours: int
    leaves_at_s: int
    rule_id: str


Places = tuple[Place, ...]


class BudgetPlace(NamedTuple):
    """One measure of a budget that counts a call, at the time of its admission."""

    rule: BudgetRule
    member: str
    place: Place
    first_bucket: int
    limit: int


class RatePlace(NamedTuple):
    rule: RateRule
    member: str
    counter: str


class Placed:
    """All that counts a call admitted at a time within [`from_us`, `until_us`). `resolved` belongs to the store."""

    __slots__ = ("from_us", "hard", "places", "rates", "resolved", "soft", "until_us")

    def __init__(
        self,
        hard: tuple[BudgetPlace, ...],
        soft: tuple[BudgetPlace, ...],
        rates: tuple[RatePlace, ...],
        from_us: int,
        until_us: int,
    ) -> None:
        self.hard, self.soft, self.rates = hard, soft, rates
        self.from_us, self.until_us = from_us, until_us
        self.places: Places = tuple(budget.place for budget in (*hard, *soft))  # where the call's entry counts
        self.resolved: object = None


class Demands:
    """The rules that count a call, found once for all calls with the same facts."""

    __slots__ = ("_budgets", "_placed", "_rates", "hard_rules")

    def __init__(self, budgets: Sequence[tuple[BudgetRule, str]], rates: Sequence[tuple[RateRule, str]]) -> None:
        self._budgets = tuple(each for each in budgets if each[0].enforcement != "alert")
        self._rates = tuple(
            RatePlace(rule, member, counter_key(rule.id, rule.unit, member))
            for rule, member in dict.fromkeys(rates)  # a tag named twice is one tag
        )
        self._placed: Placed | None = None
        self.hard_rules = [rule for rule, _ in self._budgets if rule.enforcement == "hard"]

    def __bool__(self) -> bool:
        return bool(self._budgets or self._rates)

    def placed(self, at_us: int) -> Placed:
        placed = self._placed
        if placed is None or not placed.from_us <= at_us < placed.until_us:
            placed = self._placed = self._place(at_us)
        return placed

    def places(self, at_us: int) -> Places:
        """Where the entry of a call admitted then counts."""
        return self.placed(at_us).places

    def _place(self, at_us: int) -> Placed:
        from_us, until_us = 0, 2**62
        found: list[BudgetPlace] = []
        for rule, member in dict.fromkeys(self._budgets):
            edges = [edge for _, *times in rule.top_ups for edge in times]
            if rule.period == "total":
                edges.append(rule.starts_at_us)
            window = window_of(rule.period, rule.timezone, at_us, rule.starts_at_us)
            if rule.period in ROLLING_HOURS:  # looked at anew when its hour ends
                edges.append(bucket_of(rule.period, rule.timezone, at_us) * 1_000_000)
            edges += [window.start_s * 1_000_000, window.end_s * 1_000_000]
            from_us = max([from_us, *(edge for edge in edges if edge <= at_us)])
            until_us = min([until_us, *(edge for edge in edges if edge > at_us)])
            if rule.period == "total" and at_us < rule.starts_at_us:
                continue
            found += _budget_places(rule, member, at_us, window.start_s)
        hard = tuple(each for each in found if each.rule.enforcement == "hard")
        soft = tuple(each for each in found if each.rule.enforcement != "hard")
        return Placed(hard, soft, self._rates, from_us, until_us)


def _budget_places(rule: BudgetRule, member: str, at_us: int, window_start_s: int) -> Iterable[BudgetPlace]:
    bucket = bucket_of(rule.period, rule.timezone, at_us, rule.starts_at_us)
    leaves_s = leaves_at_s(rule.period, rule.timezone, bucket)
    hours = ROLLING_HOURS.get(rule.period, 0)
    for measure, name in enumerate(MEASURES):
        limit = limit_at(rule, name, at_us, window_start_s * 1_000_000)
        if limit is not None:
            place = Place(counter_key(rule.id, name, member), bucket, measure, hours, leaves_s, rule.id)
            yield BudgetPlace(rule, member, place, window_start_s, limit)


class Rules:
    """All budgets and rate limits at one version of the configuration."""

    def __init__(self, budgets: Sequence[BudgetRule] = (), rates: Sequence[RateRule] = ()) -> None:
        self.budgets, self.rates = tuple(budgets), tuple(rates)
        # What decides where a call counts; limits, top-ups and actions do not.
        self.counted = frozenset(
            (each.id, each.enforcement == "alert", each.limit_nano_usd is None, each.limit_tokens is None)
            for each in self.budgets
        )
        self._budget_book, self._rate_book = RuleBook.of(self.budgets), RuleBook.of(self.rates)
        self._demands: dict[CallFacts, Demands] = {}

    def demands(self, facts: CallFacts) -> Demands:
        """Of a call that may reach all that `facts` names."""
        demands = self._demands.get(facts)
        if demands is None:
            if len(self._demands) >= _REMEMBERED:
                self._demands.pop(next(iter(self._demands)))
            matching = tuple(self._budget_book.matching(facts)), tuple(self._rate_book.matching(facts))
            demands = self._demands[facts] = Demands(*matching)
        return demands
