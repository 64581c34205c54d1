"""The separate model that judges the gate: what each call counts, by the plainest reading of the rules."""

from __future__ import annotations

from dataclasses import dataclass, field

from token_tracker.domain.rules import BudgetRule

HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000


@dataclass
class Counted:
    """A call that was admitted. `row`: (spent, unproven) once the gate can know it. `is_missed`: its gateway says
    nothing any more."""

    at_us: int
    user: str
    models: frozenset[str]
    held: int
    row: tuple[int, int] | None = None
    row_models: frozenset[str] = frozenset()
    gateway: str = ""
    is_missed: bool = False


@dataclass
class Judge:
    calls: dict[str, Counted] = field(default_factory=dict)

    def counts(self, rule: BudgetRule, call: Counted, user: str, now_us: int) -> bool:
        models = call.models if call.row is None else call.row_models
        if (rule.model and rule.model not in models) or (rule.scope_type == "user" and call.user != user):
            return False
        if rule.period == "daily":
            return call.at_us // DAY_US == now_us // DAY_US
        if rule.period == "rolling_24h":
            return call.at_us // HOUR_US >= now_us // HOUR_US - 24
        return call.at_us >= rule.starts_at_us

    def state(self, rule: BudgetRule, user: str, now_us: int) -> tuple[int, int, int]:
        """(spent, held, unproven) in the window of `now_us`."""
        calls = [call for call in self.calls.values() if self.counts(rule, call, user, now_us)]
        rows = [call.row for call in calls if call.row is not None]
        open_calls = [call for call in calls if call.row is None]
        missed = sum(call.held for call in open_calls if call.is_missed)
        held = sum(call.held for call in open_calls) - missed
        return sum(row[0] for row in rows), held, sum(row[1] for row in rows) + missed
