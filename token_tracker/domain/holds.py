"""How much a budget holds for a call before it is made, and what of that stands once it has ended."""

from __future__ import annotations

from typing import NamedTuple

from token_tracker.domain.rules import BudgetRule, CallFacts

PICO_PER_NANO = 1000
LARGEST_HOLD = 2**52  # nano-dollars (4.5 million dollars) or tokens: no budget admits a single call that may take more


class Ask(NamedTuple):
    """A call as the gate sees it: its worst case is `fixed + per_output * (the output maximum that is sent)`.

    `id` names the call in the gate and must never come twice; `now_us` is its admission, to which it belongs for good.
    `usd_fixed_nano`, `usd_per_output_pico` (per token of the output maximum, times `n`; pico-dollars, rounded up):
    None in the first for a worst case in money that nothing bounds or prices; `tokens_fixed` likewise.
    `output_min`, `output_max`: equal for a maximum that stays as it is (see `output_bounds`); `is_own_maximum`: it is
    the client's, so all that remains may go to it, else half. `rate_tokens`: what rates of tokens count until the end.
    `may_downgrade` False: it already goes to the model that a budget downgrades to.
    """

    id: str
    now_us: int
    facts: CallFacts
    usd_fixed_nano: int | None = 0
    usd_per_output_pico: int = 0
    tokens_fixed: int | None = 0
    tokens_per_output: int = 1
    output_min: int = 0
    output_max: int = 0
    is_own_maximum: bool = True
    rate_tokens: int = 0
    may_downgrade: bool = True

    def usd(self, output: int) -> int:
        """Nano-dollars that the call costs at most with this output maximum; 0 where nothing bounds it."""
        return (self.usd_fixed_nano or 0) - (-self.usd_per_output_pico * output // PICO_PER_NANO)

    def tokens(self, output: int) -> int:
        return (self.tokens_fixed or 0) + self.tokens_per_output * output


def largest_output(ask: Ask, usd_left: int | None, tokens_left: int | None, share: int = 1) -> int:
    """The largest output maximum whose worst case fits into `1/share` of what is left beside the fixed part; negative
    if not even none does. None: no limit of that measure. At most `ask.output_max`."""
    largest = ask.output_max
    if usd_left is not None:
        largest = min(largest, _outputs(usd_left - (ask.usd_fixed_nano or 0), ask.usd_per_output_pico, share))
    if tokens_left is not None:
        beside = tokens_left - (ask.tokens_fixed or 0)
        largest = min(largest, _outputs(beside, ask.tokens_per_output * PICO_PER_NANO, share))
    return largest


def _outputs(left: int, per_output_pico: int, share: int) -> int:
    if left < 0:
        return -1
    return left // share * PICO_PER_NANO // per_output_pico if per_output_pico else LARGEST_HOLD


def grant(ask: Ask, usd_left: int | None, tokens_left: int | None) -> int:
    """The output maximum to send under hard budgets with so much left: at least `ask.output_min`, whose worst case need
    not fit: see `fits`."""
    if ask.output_min >= ask.output_max:
        return ask.output_max
    return max(ask.output_min, largest_output(ask, usd_left, tokens_left, 1 if ask.is_own_maximum else 2))


def fits(ask: Ask, output: int, usd_left: int | None, tokens_left: int | None) -> bool:
    """Whether the worst case with this output maximum is no more than what is left."""
    return (usd_left is None or ask.usd(output) <= min(usd_left, LARGEST_HOLD)) and (
        tokens_left is None or ask.tokens(output) <= min(tokens_left, LARGEST_HOLD)
    )


def output_bounds(rules: list[BudgetRule], client: int | None, model: int | None) -> tuple[int, int]:
    """(`output_min`, `output_max`) of an ask under hard budgets. `client`: the maximum in the request, `model`: the
    model's own; None for none. Without rules nothing is chosen: what is known is only shown as held."""
    if not rules:
        known = client if client is not None else model or 0
        return known, known
    if client is not None:
        least = min((rule.min_output_tokens for rule in rules if rule.clamp == "always"), default=client)
        return min(least, client), client
    most = min(rule.default_output_tokens for rule in rules)
    least = max(rule.min_output_tokens for rule in rules)
    if model is not None:
        most, least = min(most, model), min(least, model)
    return min(least, most), most


def is_past_downgrade(rule: BudgetRule, limit: int, counted: int) -> bool:
    """Whether the calls of a budget with `action: downgrade` go to its other model now."""
    return rule.action == "downgrade" and counted * 100 >= limit * rule.downgrade_at


def limit_at(rule: BudgetRule, measure: str, at_us: int, window_start_us: int) -> int | None:
    """The limit with the top-ups of that time: one without an end lasts to the end of the window it was made in."""
    if measure == "tokens":
        return rule.limit_tokens
    if rule.limit_nano_usd is None:
        return None
    raised = rule.limit_nano_usd
    for amount, until_us, from_us in rule.top_ups:
        if from_us <= at_us and (at_us < until_us if until_us else window_start_us <= from_us):
            raised += amount
    return raised


def unproven_of(held: int, booked: int, is_proven: bool) -> int:
    """What of a hold may have been spent beyond what is booked: nothing where the provider's own count proves it."""
    return 0 if is_proven else max(0, held - booked)


def overrun_of(held: int, booked: int) -> int:
    """What a provider billed beyond the bound that was sent; 0 where nothing was held."""
    return max(0, booked - held) if held else 0
