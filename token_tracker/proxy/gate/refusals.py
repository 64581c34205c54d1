"""From a counter's numbers to what its rule says: the same words whichever store counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from token_tracker.domain.holds import Ask, fits, is_past_downgrade, largest_output
from token_tracker.domain.limits import until_gone_s
from token_tracker.domain.rules import BudgetRule, RateRule
from token_tracker.proxy.gate.places import MEASURES, BudgetPlace, Placed, RatePlace
from token_tracker.proxy.gate.store import CounterState, RateState, Reason, Refused, Verdict

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
    reason = Reason.RATE_LIMIT_EXCEEDED
    return Refused(reason, rule, rate.member, rule.unit, rule.limit, counted, retry_after_s=retry_after_s)


def no_room(place: BudgetPlace | RatePlace) -> Refused:
    return Refused(Reason.TOO_MANY_MEMBERS, place.rule, place.member)


def all_waiting(budgets: Iterable[BudgetPlace], reason: Reason) -> tuple[Refused, ...]:
    """Hard budgets whose counters cannot be asked now."""
    rules = dict.fromkeys((budget.rule, budget.member) for budget in budgets)
    return tuple(Refused(reason, rule, member, retry_after_s=_WAITS[reason]) for rule, member in rules)


def unbounded(ask: Ask, rules: Iterable[BudgetRule]) -> tuple[Refused, ...]:
    """The hard budgets that such a call may never pass, whatever is counted: certain also while nothing can be."""
    return tuple(
        Refused(Reason.COST_UNBOUNDED, rule)
        for rule in rules
        if not rule.allow_unbounded
        and (
            (rule.limit_nano_usd is not None and ask.usd_fixed_nano is None)
            or (rule.limit_tokens is not None and ask.tokens_fixed is None)
        )
    )


def waiting(placed: Placed, ready: frozenset[str] | None) -> tuple[Refused, ...]:
    """The words of hard budgets that cannot count yet: by the books, or by the rule itself, whose counters are built
    anew when it limits something more. `ready` None: the store is being told all that it must know."""
    if ready is None:
        return all_waiting(placed.hard, Reason.STORE_RECOVERING)
    building = (each for each in placed.hard if each.rule.id not in ready or not each.rule.is_built)
    return all_waiting(building, Reason.COUNTER_BUILDING)


def judged(
    ask: Ask,
    budgets: Sequence[tuple[BudgetPlace, CounterState | None, int]],
    by_rates: Iterable[Refused],
    unasked: Sequence[Refused],
) -> Verdict | None:
    """Every rule's own word; None if none refuses. `budgets`: with what is counted (None: no room for the member) and
    when it resets. `unasked`: the words of those whose counters say nothing yet."""
    refused = list(unasked)
    silent = {each.rule.id for each in unasked}
    for budget, state, resets_at_s in budgets:
        if budget.rule.id in silent:
            continue
        if state is None:
            refused.append(no_room(budget))
            continue
        said = refused_by_budget(ask, budget, state, resets_at_s)
        if wants_downgrade(ask, budget, state, said):
            return Verdict(downgrade=budget.rule)
        if said is not None:
            refused.append(said)
    refused += by_rates
    return Verdict(tuple(refused)) if refused else None


def rate_states(verdict: Verdict, counted: Iterable[tuple[RateRule, int, int, int]], now_us: int) -> None:
    """Tell of the tightest rate of requests and of tokens: each with what it counts now, the length of its slices and
    the newest one, which leaves last."""
    for rule, amount, slice_length_us, number in counted:
        is_tokens = rule.unit == "tokens"
        known = verdict.tokens if is_tokens else verdict.requests
        remaining = max(0, rule.limit - amount)
        if known is None or remaining < known.remaining:
            state = RateState(rule.limit, remaining, until_gone_s(slice_length_us, number, now_us))
            if is_tokens:
                verdict.tokens = state
            else:
                verdict.requests = state


def away(ask: Ask, placed: Placed) -> Verdict:
    """What the rules say while the store cannot be asked: those with `on_store_error: deny` refuse."""
    found: tuple[BudgetPlace | RatePlace, ...] = (*placed.hard, *placed.soft, *placed.rates)
    denying = dict.fromkeys((each.rule, each.member) for each in found if each.rule.on_store_error == "deny")
    reason = Reason.STORE_UNAVAILABLE
    if denying:
        return Verdict(tuple(Refused(reason, rule, member, retry_after_s=_WAITS[reason]) for rule, member in denying))
    verdict = Verdict(output_tokens=ask.output_max, is_counted=False)
    if placed.hard:
        verdict.held_nano_usd, verdict.held_tokens = ask.usd(ask.output_max), ask.tokens(ask.output_max)
    return verdict
