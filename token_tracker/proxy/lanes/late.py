"""Usage that only LiteLLM's callback knows: it arrives after the answer's end and completes the row then."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Protocol

from msgspec import structs

from token_tracker.domain.money import to_nano_usd
from token_tracker.domain.pricing import Cost, CostSource
from token_tracker.domain.providers import WireFormat
from token_tracker.domain.usage import NO_USAGE, Usage, UsageSource
from token_tracker.proxy.books.journal import JournalUnavailable
from token_tracker.proxy.books.records import End
from token_tracker.proxy.call import Attempt, Journal, uncounted_cost

# Their answers count tokens, or nothing at all; speech and images have units that our prices do not know.
_COUNTED = frozenset((WireFormat.CHAT, WireFormat.EMBEDDINGS, WireFormat.RESPONSES, WireFormat.MESSAGES))
log = logging.getLogger("token_tracker.gateway")


class EvidenceLike(Protocol):
    """What LiteLLM measured of one call."""

    @property
    def usage(self) -> Usage | None: ...

    @property
    def cost_usd(self) -> Decimal | None: ...


class EvidenceSource(Protocol):
    async def wait(self, call_id: str, timeout_s: float) -> EvidenceLike | None: ...


async def complete_later(
    source: EvidenceSource, journal: Journal, attempt: Attempt, end: End, evidence_wait_s: float
) -> None:
    """Wait for the callback, at most `evidence_wait_s`, and write the end that replaces the awaiting one."""
    evidence = await source.wait(attempt.sent_id, evidence_wait_s)
    try:
        _write(journal, attempt, end, evidence)
    except JournalUnavailable:
        log.error("the evidence of call %s could not be written; its row stays without it", attempt.id)


def _write(journal: Journal, attempt: Attempt, end: End, evidence: EvidenceLike | None) -> None:
    """The completed end; the one there was if the evidence holds numbers that no record can."""
    try:
        journal.end(end if evidence is None else _completed(attempt, end, evidence))
    except (ArithmeticError, ValueError):
        log.exception("the evidence of call %s could not be used; its row stays without it", attempt.id)
        journal.end(end)


def _completed(attempt: Attempt, end: End, evidence: EvidenceLike) -> End:
    """The same end with what LiteLLM measured; as it was where that is nothing."""
    if evidence.usage is None and attempt.dialect.wire in _COUNTED:
        return end
    usage = evidence.usage or NO_USAGE
    cost = _cost(attempt, usage, evidence)
    return structs.replace(
        end,
        tokens=usage,
        usage_source=UsageSource.PROVIDER.value,
        cost_nano_usd=cost.nano_usd,
        cost_source=cost.source.value,
        price_version=cost.version,
    )


def _cost(attempt: Attempt, usage: Usage, evidence: EvidenceLike) -> Cost:
    """Ours where it can count what was consumed. LiteLLM's, from the same price file, where that lists other units
    (characters, images) or nothing; never against a price of the user's own, which LiteLLM does not know."""
    cost = attempt.cost(usage, UsageSource.PROVIDER)
    has_count = evidence.usage is not None or attempt.extras(UsageSource.PROVIDER).has_units
    if cost.source is CostSource.PRICED and not has_count:
        cost = uncounted_cost(attempt.price)
    price = attempt.price.price
    is_users_own = price is not None and price.source != "file"
    if cost.source is CostSource.UNPRICED and evidence.cost_usd is not None and not is_users_own:
        return Cost(to_nano_usd(evidence.cost_usd), CostSource.LITELLM)
    return cost
