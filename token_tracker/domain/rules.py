"""Budgets, rate limits and freezes as values, and which of them count a call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

EACH = "*"  # a scope id: every member of the scope has a counter of its own
# Scopes whose members are what clients say of themselves (an agent unless its key pins it): rules on them bind the
# honest.
SELF_DECLARED = frozenset({"agent", "tag", "session", "end_user"})


class CallFacts(NamedTuple):
    """Who a call is for and what it may reach: at admission all candidates, in a ledger row what it was.

    Absent names are ''. `models`: the name asked for, names of `model_list` entries that may serve it, and upstream
    models. `providers`: those of the deployments.
    """

    key: str = ""
    user: str = ""
    team: str = ""
    agent: str = ""
    session: str = ""
    end_user: str = ""
    tags: tuple[str, ...] = ()
    models: frozenset[str] = frozenset()
    providers: frozenset[str] = frozenset()

    def values(self, scope_type: str) -> Iterable[str]:
        """The members of a scope type that this call belongs to; `global` has the one member ''."""
        match scope_type:
            case "global":
                return ("",)
            case "tag":
                return self.tags
            case "provider":
                return self.providers
            case _:
                value: str = getattr(self, scope_type)
                return (value,) if value else ()


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """A budget as the gate applies it. Times in Unix microseconds; `scope_id`, `model`, `downgrade_model`: '' for none.

    `limit_nano_usd` and `limit_tokens`: None for no limit of that measure. `top_ups`: (nano-US-dollars, until or 0 for
    the window's end, from) raise the limit for a while. `is_built`: its counters stand for the whole window.
    """

    id: str
    scope_type: str
    scope_id: str
    model: str
    period: str
    timezone: str
    starts_at_us: int
    limit_nano_usd: int | None
    limit_tokens: int | None = None
    enforcement: str = "hard"  # hard | soft | alert
    action: str = "block"  # block | downgrade
    downgrade_model: str = ""
    downgrade_at: int = 100  # percent of the limit
    clamp: str = "missing"  # missing | always
    default_output_tokens: int = 8192
    min_output_tokens: int = 256
    allow_unbounded: bool = False
    on_store_error: str = "deny"
    top_ups: tuple[tuple[int, int, int], ...] = ()
    is_built: bool = False
    name: str = ""  # for people


@dataclass(frozen=True, slots=True)
class RateRule:
    """A rate limit. `period` '' for `concurrent`."""

    id: str
    scope_type: str
    scope_id: str
    model: str
    unit: str  # requests | tokens | concurrent
    limit: int
    period: str  # second | minute | hour | day
    on_store_error: str = "allow"


@dataclass(frozen=True, slots=True)
class FreezeRule:
    """Stops calls: of a key, user, team, model (scope `global` with `model`) or everything."""

    id: str
    scope_type: str
    scope_id: str
    model: str
    reason: str = ""


Rule = TypeVar("Rule", BudgetRule, RateRule, FreezeRule)


@dataclass(frozen=True, slots=True)
class RuleBook(Generic[Rule]):
    """Rules of one kind, found by who a call is for: the more rules there are, a call costs the same."""

    by_member: dict[tuple[str, str], tuple[Rule, ...]] = field(default_factory=dict)
    types: tuple[str, ...] = ()

    @classmethod
    def of(cls, rules: Sequence[Rule]) -> RuleBook[Rule]:
        found: dict[tuple[str, str], list[Rule]] = {}
        for rule in rules:
            found.setdefault((rule.scope_type, rule.scope_id), []).append(rule)
        by_member = {place: tuple(of_place) for place, of_place in found.items()}
        return cls(by_member, tuple(dict.fromkeys(rule.scope_type for rule in rules)))

    def matching(self, facts: CallFacts) -> Iterator[tuple[Rule, str]]:
        """The rules that count the call, each with the member whose counter it is: '' unless the rule is for each."""
        for scope_type in self.types:
            for value in facts.values(scope_type):
                if value != EACH:  # a call may name itself so; it is no member of a rule that names it
                    for rule in self.by_member.get((scope_type, value), ()):
                        if not rule.model or rule.model in facts.models:
                            yield rule, ""
                if scope_type != "global":
                    for rule in self.by_member.get((scope_type, EACH), ()):
                        if not rule.model or rule.model in facts.models:
                            yield rule, value


def counter_key(rule_id: str, measure: str, member: str) -> str:
    """The name of a budget's counter; `measure`: 'usd' or 'tokens'."""
    return f"{rule_id}|{measure}|{member}"
