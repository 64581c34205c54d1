"""From a counter's numbers to what its rule says: the same words whichever store counted."""

from __future__ import annotations

from token_tracker.domain.holds import Ask, fits, is_past_downgrade, largest_output
from token_tracker.domain.rules import BudgetRule
from token_tracker.proxy.gate.places import MEASURES, BudgetPlace, Placed, RatePlace
from token_tracker.proxy.gate.store import CounterState, Reason, Refused

HELD_RETRY_S = 1  # a call in flight may end at any moment
BUILDING_RETRY_S = 2
RECOVERING_RETRY_S = 5
_WAITS = {
    Reason.COUNTER_BUILDING: BUILDING_RETRY_S,
    Reason.STORE_RECOVERING: RECOVERING_RETRY_S,
    Reason.STORE_UNAVAILABLE: BUILDING_RETRY_S,
}


def refused_by_budget(ask: Ask, budget: BudgetPlace, state: CounterState, resets_at_s: int) -> Refused | None:
    """What the budget says to the ask on its own; None if it has room."""
    rule, is_usd = budget.rule, budget.place.measure == 0
    is_bounded = (ask.usd_fixed_nano if is_usd else ask.tokens_fixed) is not None
    largest = None
    retry_s = 0
    if rule.enforcement == "hard" and not (rule.allow_unbounded and not is_bounded):
        left = budget.limit - state.counted
        least = ask.output_max if ask.output_min >= ask.output_max else ask.output_min
        if not is_bounded:
            reason = Reason.COST_UNBOUNDED
        elif _fits(ask, least, left, is_usd):
            return None
        else:
            is_held = _fits(ask, least, left + state.held, is_usd)
            reason, retry_s = (Reason.BUDGET_HELD, HELD_RETRY_S) if is_held else (Reason.BUDGET_EXCEEDED, 0)
            largest = largest_output(ask, left, None) if is_usd else largest_output(ask, None, left)
    elif state.spent >= budget.limit:
        reason = Reason.BUDGET_EXCEEDED
    else:
        return None
    return Refused(
        reason,
        rule,
        budget.member,
        MEASURES[budget.place.measure],
        budget.limit,
        state.spent,
        state.held,
        state.unproven,
        resets_at_s,
        largest,
        retry_s,
    )


def _fits(ask: Ask, output: int, left: int, is_usd: bool) -> bool:
    return fits(ask, output, left, None) if is_usd else fits(ask, output, None, left)


def wants_downgrade(ask: Ask, budget: BudgetPlace, state: CounterState, refused: Refused | None) -> bool:
    """Whether the call should go to the budget's other model: past its percentage, or no room for this one."""
    rule = budget.rule
    if rule.action != "downgrade" or not ask.may_downgrade:
        return False
    if refused is not None:
        return refused.reason in (Reason.BUDGET_EXCEEDED, Reason.BUDGET_HELD)
    counted = state.counted if rule.enforcement == "hard" else state.spent
    return is_past_downgrade(rule, budget.limit, counted)


def refused_by_rate(rate: RatePlace, counted: int, retry_after_s: int) -> Refused:
    rule = rate.rule
    return Refused(
        Reason.RATE_LIMIT_EXCEEDED,
        rule,
        rate.member,
        rule.unit,
        rule.limit,
        counted,
        retry_after_s=retry_after_s,
    )


def waiting(rule: BudgetRule, member: str, reason: Reason) -> Refused:
    """A hard budget whose counter cannot be asked now."""
    return Refused(reason, rule, member, retry_after_s=_WAITS[reason])


def all_waiting(placed: Placed, reason: Reason) -> tuple[Refused, ...]:
    rules = dict.fromkeys((budget.rule, budget.member) for budget in placed.hard)
    return tuple(waiting(rule, member, reason) for rule, member in rules)
