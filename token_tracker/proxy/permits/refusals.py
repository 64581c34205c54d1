"""From what the gate says to what the client reads: the contract's codes, in its order, with the numbers of the rule
that refuses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from token_tracker.domain.errors import Refusal
from token_tracker.domain.money import format_usd
from token_tracker.domain.rules import BudgetRule, FreezeRule, RateRule
from token_tracker.domain.windows import NEVER_S
from token_tracker.proxy.gate.store import Reason, Refused

_ORDER = (
    Reason.COST_UNBOUNDED,
    Reason.BUDGET_EXCEEDED,
    Reason.BUDGET_HELD,
    Reason.RATE_LIMIT_EXCEEDED,
    Reason.TOO_MANY_MEMBERS,
    Reason.COUNTER_BUILDING,
    Reason.STORE_RECOVERING,
    Reason.STORE_UNAVAILABLE,
)
_NOTHING_SENT = "Nothing was forwarded and nothing was spent."


def frozen(rule: FreezeRule) -> Refusal:
    what = rule.model and f"the model '{rule.model}'"
    if rule.scope_type not in ("global", "model"):
        what = f"this {rule.scope_type.replace('_', ' ')}" + (f" with {what}" if what else "")
    elif rule.scope_type == "model":
        what = f"the model '{rule.scope_id}'"
    reason = f" ({rule.reason})" if rule.reason else ""
    return Refusal(
        403,
        "frozen",
        f"Calls of {what or 'everybody'} are stopped by an admin{reason}. {_NOTHING_SENT} Ask whoever froze them.",
        details={"freeze": rule.id, "reason": rule.reason},
    )


def price_unknown(model: str, rule: BudgetRule) -> Refusal:
    return Refusal(
        402,
        "price_unknown",
        f"A hard budget ({_name(rule)}) applies, and '{model[:256]}', or what it may fall back on, has no price that "
        f"covers this call. {_NOTHING_SENT} Give it one (POST /api/prices, or 'pricing' in proxy.yaml).",
        param="model",
        details={"budget": rule.id},
    )


def cost_unbounded(rule: BudgetRule, why: str) -> Refusal:
    return Refusal(
        402,
        "cost_unbounded",
        f"A hard budget ({_name(rule)}) applies, and nothing bounds what this call may cost: it asks for {why}. "
        f"{_NOTHING_SENT} Leave that out, or set allow_unbounded on the budget.",
        details={"budget": rule.id},
    )


def refusal_of(refused: tuple[Refused, ...], why_unbounded: str) -> Refusal:
    """The one that the contract names first; of rates, with the longest time to wait; of budgets, the tightest."""
    first = min(refused, key=lambda each: (_ORDER.index(each.reason), -each.retry_after_s, *_room(each)))
    same = [each for each in refused if each.reason is first.reason]
    match first.reason:
        case Reason.COST_UNBOUNDED:
            assert isinstance(first.rule, BudgetRule)
            return cost_unbounded(first.rule, why_unbounded or "more than its bytes tell")
        case Reason.BUDGET_EXCEEDED | Reason.BUDGET_HELD:
            return _of_budget(first, same)
        case Reason.RATE_LIMIT_EXCEEDED:
            return _of_rate(first)
        case _:
            return _not_ready(first)


def _room(refused: Refused) -> tuple[int, int]:
    """Less is tighter: the output that would fit (none of a spent soft budget), then how soon it begins anew."""
    output = -1 if refused.largest_output is None else refused.largest_output
    return output, -(refused.resets_at_s or NEVER_S)


def _of_budget(first: Refused, same: list[Refused]) -> Refusal:
    fitting = [each.largest_output for each in same if each.largest_output is not None]
    largest = max(0, min(fitting)) if fitting else None
    details: dict[str, Any] = {
        "budget": first.rule.id,
        "limit": _amount(first, first.limit),
        "spent": _amount(first, first.spent),
        "held": _amount(first, first.held),
        "unproven": _amount(first, first.unproven),
        "resets_at": _time(first.resets_at_s),
        "max_output_tokens": largest,
    }
    if first.member:
        details["member"] = first.member
    left = max(0, first.limit - first.spent - first.held - first.unproven)
    numbers = (
        f"{_said(first, left)} of {_said(first, first.limit)} left (spent {_said(first, first.spent)}, held by calls "
        f"in flight {_said(first, first.held)}, unproven {_said(first, first.unproven)})"
    )
    smaller = f" A maximum of {largest} output tokens would fit." if largest else ""
    budget = _name(first.rule)
    if first.reason is Reason.BUDGET_HELD:
        return Refusal(
            429,
            "budget_held",
            f"The budget ({budget}) has {numbers}: this call waits for those in flight. {_NOTHING_SENT} Try again "
            f"shortly.{smaller}",
            retry_after_s=max(1, first.retry_after_s),
            details=details,
        )
    resets = f" It begins anew at {details['resets_at']}." if details["resets_at"] else ""
    return Refusal(
        402,
        "budget_exceeded",
        f"The budget ({budget}) has {numbers}: too little for what this call may cost. "
        f"{_NOTHING_SENT}{smaller}{resets}",
        details=details,
    )


def _of_rate(first: Refused) -> Refusal:
    rule = first.rule
    assert isinstance(rule, RateRule)
    what = "calls in flight" if rule.unit == "concurrent" else f"{rule.unit} a {rule.period}"
    wait_s = max(1, first.retry_after_s)
    return Refusal(
        429,
        "rate_limit_exceeded",
        f"The limit of {rule.limit} {what}{_of_whom(rule)} is reached. {_NOTHING_SENT} Try again in {wait_s} s.",
        retry_after_s=wait_s,
        details={"rate_limit": rule.id, "limit": rule.limit, "unit": rule.unit, "period": rule.period or None},
    )


def _not_ready(first: Refused) -> Refusal:
    wait_s = max(1, first.retry_after_s)
    details = {"budget" if isinstance(first.rule, BudgetRule) else "rate_limit": first.rule.id}
    match first.reason:
        case Reason.COUNTER_BUILDING:
            code = "counter_building"
            why = f"what was spent under the budget ({_name(first.rule)}) is still being added up"
        case Reason.TOO_MANY_MEMBERS:
            code = "counter_building"
            why = "a rule for each member counts as many members as it can; the oldest leave with their window"
        case Reason.STORE_RECOVERING:
            code = "store_recovering"
            why = "what was spent and what is in flight is being put together again"
        case _:
            code = "store_recovering"
            why = "the store that all gateways count in (REDIS_URL) does not answer"
    return Refusal(503, code, f"{why[0].upper()}{why[1:]}. {_NOTHING_SENT} Try again shortly.", wait_s, details=details)


def _name(rule: BudgetRule | RateRule) -> str:
    name = f"'{rule.name}', " if isinstance(rule, BudgetRule) and rule.name else ""
    period = f"{rule.period.replace('_', ' ')}, " if rule.period else ""
    return f"{name}{period}{rule.id}{_of_whom(rule)}"


def _of_whom(rule: BudgetRule | RateRule) -> str:
    whom = "" if rule.scope_type == "global" else f" for this {rule.scope_type.replace('_', ' ')}"
    return whom + (f" with '{rule.model}'" if rule.model else "")


def _amount(refused: Refused, amount: int) -> str | int:
    return format_usd(amount) if refused.measure == "usd" else amount


def _said(refused: Refused, amount: int) -> str:
    if refused.measure != "usd":
        return f"{amount} tokens"
    whole, _, places = format_usd(amount).partition(".")
    return f"${whole}.{places.rstrip('0').ljust(2, '0')}"


def _time(at_s: int) -> str | None:
    """None for never, or where nobody knows."""
    if not 0 < at_s < 2**37:
        return None
    return datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")
