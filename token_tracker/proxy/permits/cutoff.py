"""When a stream has cost more than was held for it, on the least that can be said of its cost."""

from __future__ import annotations

from fractions import Fraction

from token_tracker.domain.extras import ServiceTier
from token_tracker.domain.usage import Usage, UsageSource
from token_tracker.proxy.call import Attempt
from token_tracker.proxy.dialects.base import Reading

_NANO_PER_USD = 10**9
_CHEAP = (ServiceTier.STANDARD, ServiceTier.FLEX)
_SAID = ("output_tokens", "reasoning_tokens")


class Watch:
    """Of one stream whose call holds something. An event with text in it is at least one token."""

    __slots__ = ("_attempt", "_events_most", "_seen")

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._seen: Usage | None = None
        self._events_most = _events_most(attempt)

    def is_past(self, reading: Reading) -> bool:
        if reading.output_events > self._events_most:
            return True
        if reading.usage is None or reading.usage is self._seen:
            return False
        self._seen = reading.usage
        opened = self._attempt.opened
        cost = self._attempt.cost(reading.usage, UsageSource.PROVIDER_PARTIAL).nano_usd
        return (cost is not None and 0 < opened.held_nano_usd < cost) or (
            0 < opened.held_tokens < reading.usage.total_tokens
        )


def watch(attempt: Attempt) -> Watch | None:
    opened = attempt.opened
    return Watch(attempt) if opened.held_nano_usd or opened.held_tokens else None


def _events_most(attempt: Attempt) -> float:
    """So many tokens of output may come before the hold is used up by them alone."""
    opened, price = attempt.opened, attempt.price.price
    most = float(opened.held_tokens or "inf")
    if price is None or not opened.held_nano_usd:
        return most
    rates = [price.table.rate(each, 0, tier) for each in _SAID for tier in _CHEAP]
    least = min((rate for rate in rates if rate is not None), default=None)
    return min(most, float(Fraction(opened.held_nano_usd, _NANO_PER_USD) / Fraction(least))) if least else most
