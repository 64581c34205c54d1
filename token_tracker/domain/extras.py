"""What an answer is billed by beside its tokens: the service tier, units that are no tokens, the provider's own bill.

It travels beside a `Usage` from the dialect to the price and no further: the ledger keeps the cost that came of it, the
cost's source and the price's version.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum


class ServiceTier(StrEnum):
    """How fast, and where, a call was served, as far as prices tell it apart. The value ends the names of LiteLLM's
    rate fields; those of `SURCHARGED` are ours, see `config.price_file`."""

    STANDARD = ""
    BATCH = "batches"
    FLEX = "flex"
    BALANCED = "balanced"
    PRIORITY = "priority"
    ULTRAFAST = "ultrafast"
    FAST = "fast"
    US = "us"
    US_FAST = "us_fast"


SURCHARGED = (ServiceTier.FAST, ServiceTier.US, ServiceTier.US_FAST)  # Anthropic's fast mode, its region, or both
_TIERS = {
    "batch": ServiceTier.BATCH,
    "flex": ServiceTier.FLEX,
    "balanced": ServiceTier.BALANCED,
    "priority": ServiceTier.PRIORITY,
    "fast": ServiceTier.PRIORITY,
    "ultrafast": ServiceTier.ULTRAFAST,
}


def service_tier(name: str) -> ServiceTier:
    """The tier that an answer's `service_tier` names. 'default', 'standard', 'scale' and unknown ones are billed as
    the standard tier: no price has rates for them."""
    return _TIERS.get(name.lower(), ServiceTier.STANDARD)


def surcharged(*, is_fast: bool, is_us: bool) -> ServiceTier:
    """How Anthropic's standard tier was served."""
    if is_fast:
        return ServiceTier.US_FAST if is_us else ServiceTier.FAST
    return ServiceTier.US if is_us else ServiceTier.STANDARD


@dataclass(frozen=True, slots=True)
class Extras:
    """`characters`: of the text to be spoken; `images`: made; `seconds`: of audio heard; `queries`: of a rerank or a
    search, as its provider counts them; `searches`: of the web by the model, each at `search_size`.

    `cost_usd`: what the provider says it charges for all of the call; None where it says nothing.
    """

    tier: ServiceTier = ServiceTier.STANDARD
    characters: int = 0
    images: int = 0
    seconds: Decimal = Decimal(0)
    queries: int = 0
    searches: int = 0
    search_size: str = "medium"  # 'low' | 'medium' | 'high'
    cost_usd: Decimal | None = None

    @property
    def has_units(self) -> bool:
        """Whether something was counted that a call can be billed by without any tokens."""
        return bool(self.characters or self.images or self.seconds or self.queries)


NO_EXTRAS = Extras()
