"""Where calls ask the gate: freezes first, then every rule at once, for the dearest that the call may come to."""

from __future__ import annotations

from collections.abc import Iterable
from operator import is_not

from token_tracker.domain import pricing
from token_tracker.domain.bounds import NOTHING, Bound, Candidate, Dearest, Extent, dearest, is_plain, worst_case
from token_tracker.domain.holds import Ask, output_bounds
from token_tracker.domain.limits import estimated_tokens
from token_tracker.domain.providers import WireFormat
from token_tracker.domain.rules import BudgetRule, FreezeRule, RuleBook
from token_tracker.proxy.books.publication import RulesRecord
from token_tracker.proxy.books.records import Subject
from token_tracker.proxy.bounds import extent_of
from token_tracker.proxy.dialects.base import Request
from token_tracker.proxy.gate.gate import Gate
from token_tracker.proxy.gate.places import Rules
from token_tracker.proxy.gate.refusals import unbounded
from token_tracker.proxy.models import ModelFacts
from token_tracker.proxy.permits.permit import Permit
from token_tracker.proxy.permits.reach import Reach, facts_of
from token_tracker.proxy.permits.refusals import frozen, price_unknown, refusal_of
from token_tracker.proxy.plan import Group
from token_tracker.proxy.prices import PriceBook
from token_tracker.proxy.upstreams import Choice, Target

_REMEMBERED = 4096  # names whose dearest rates are kept ready
_UNBOUNDED = Bound(None, 0, None, 0)


class Desk:
    """One worker's. `has_rules` False: no call need ask."""

    def __init__(self, gate: Gate, prices: PriceBook, facts: ModelFacts) -> None:
        self.gate = gate
        self.has_rules = False
        self.prices, self._facts = prices, facts
        self._freezes: RuleBook[FreezeRule] = RuleBook()
        self._record = RulesRecord()
        # By the identity of a name's targets, which are kept here: the prices it was made of, and what it is.
        self._dearest: dict[int, tuple[tuple[Target, ...], list[pricing.Choice], Dearest | None]] = {}

    def take_rules(self, record: RulesRecord) -> None:
        """The rules of a snapshot; nothing happens if they are those that apply already."""
        if record is self._record or record == self._record:
            return
        self._record = record
        self._freezes = RuleBook.of([_placed(rule) for rule in record.freezes])
        self.gate.set_rules(Rules(record.budgets, record.rates))
        self.has_rules = bool(record.budgets or record.rates or record.freezes)

    def check_freezes(self, subject: Subject, asked: str, targets: Iterable[Target]) -> None:
        """Raises the refusal (403) of a freeze that any of it falls under."""
        if self._freezes.types:
            for rule, _ in self._freezes.matching(facts_of(subject, (asked,), targets)):
                raise frozen(rule)

    def is_frozen(self, subject: Subject, asked: str, choice: Choice) -> bool:
        """Whether a name may not be gone on to."""
        if not self._freezes.types:
            return False
        return any(True for _ in self._freezes.matching(facts_of(subject, (asked,), choice.group.targets)))

    async def ask(
        self,
        call_id: str,
        now_us: int,
        subject: Subject,
        request: Request,
        wire: WireFormat,
        reach: Reach,
        *,
        may_downgrade: bool = True,
        known: Extent | None = None,
    ) -> Permit | BudgetRule | None:
        """The permit; the budget by whose word another model is to be asked for; None where no rule counts the call.
        `known`: what the request may consume, where its bytes do not tell.

        Raises Refusal: then nothing was taken.
        """
        names = (request.model, *(name for name, _ in reach.fallbacks))
        facts = facts_of(subject, names, reach.targets)
        demands = self.gate.demands(facts)
        if not demands:
            return None
        hard = demands.hard_rules
        extent = (known or extent_of(wire, request)) if hard else known
        bound = self._bound(extent, reach) if hard and extent is not None else _UNBOUNDED
        if not bound.is_priced and (limiting := [rule for rule in hard if rule.limit_nano_usd is not None]):
            raise price_unknown(request.model, limiting[0])
        least, most, own = _outputs(hard, extent, bound, request)
        ask = Ask(
            id=call_id,
            now_us=now_us,
            facts=facts,
            usd_fixed_nano=bound.usd_fixed_nano if hard else 0,
            usd_per_output_pico=bound.usd_per_output_pico,
            tokens_fixed=bound.tokens_fixed if hard else 0,
            tokens_per_output=bound.tokens_per_output,
            output_min=least,
            output_max=most,
            is_own_maximum=own is not None,
            rate_tokens=0 if extent is NOTHING else estimated_tokens(len(request.original), most or None),
            may_downgrade=may_downgrade,
        )
        verdict = await self.gate.admit(ask, demands)
        if verdict.downgrade is not None:
            return verdict.downgrade
        if verdict.refused:
            raise refusal_of((*verdict.refused, *unbounded(ask, hard)), bound.why)
        sets_maximum = bool(hard) and extent is not None and extent.outputs > 0
        return Permit(ask, demands, verdict, wire, own, sets_maximum, self._facts)

    async def ask_unread(
        self, call_id: str, now_us: int, subject: Subject, request: Request, target: Target, why: str
    ) -> Permit | None:
        """The permit of a request that is passed on as it is. `why` nothing bounds it; '' where nobody bills it.

        Raises Refusal: then nothing was taken.
        """
        self.check_freezes(subject, request.model, (target,))
        known = Extent(unbounded=why, outputs=0) if why else NOTHING
        reach = Reach(Choice(Group(request.model, (target,), 0), (), target))
        wire = WireFormat.RESPONSES
        answer = await self.ask(call_id, now_us, subject, request, wire, reach, may_downgrade=False, known=known)
        assert not isinstance(answer, BudgetRule)
        return answer

    def _bound(self, extent: Extent, reach: Reach) -> Bound:
        if not reach.fallbacks and is_plain(extent):
            known = self._dearest_of(reach.targets)
            if known is not None and extent.text_tokens < known.below_tokens:
                return known.bound(extent.text_tokens)
        prices = [self.prices.choice(target) for target in reach.targets]
        return worst_case(extent, self._candidates(reach.targets, prices))

    def _dearest_of(self, targets: tuple[Target, ...]) -> Dearest | None:
        """Found once for each name and its prices."""
        prices = [self.prices.choice(target) for target in targets]
        known = self._dearest.get(id(targets))
        if known is None or known[0] is not targets or any(map(is_not, known[1], prices)):
            if len(self._dearest) >= _REMEMBERED:
                self._dearest.clear()
            known = targets, prices, dearest(self._candidates(targets, prices))
            self._dearest[id(targets)] = known
        return known[2]

    def _candidates(self, targets: tuple[Target, ...], prices: list[pricing.Choice]) -> list[Candidate]:
        return [
            Candidate(target.deployment.provider, target.deployment.model, price, self._facts.of(target))
            for target, price in zip(targets, prices, strict=True)
        ]


def _outputs(
    hard: list[BudgetRule], extent: Extent | None, bound: Bound, request: Request
) -> tuple[int, int, int | None]:
    """(`output_min`, `output_max`) of the ask, and the client's own maximum."""
    if extent is None or not hard:
        own = request.output_bound
        return (own, own, own) if own is not None else (0, 0, None)
    if not extent.outputs:
        return 0, 0, None
    least, most = output_bounds(hard, extent.own_maximum, bound.model_maximum)
    return least, most, extent.own_maximum


def _placed(rule: FreezeRule) -> FreezeRule:
    """A freeze of a model may be written as a scope of its own."""
    if rule.scope_type != "model":
        return rule
    return FreezeRule(rule.id, "global", "", rule.scope_id or rule.model, rule.reason)
