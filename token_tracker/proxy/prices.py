"""Which price a deployment's calls are booked at: chosen once for each target and version of the snapshot."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Protocol

from token_tracker.config.values import Deployment, PricingEntry
from token_tracker.domain.pricing import Choice, Price, PricingTable, choose, make_price
from token_tracker.domain.providers import PROVIDERS
from token_tracker.proxy.books.publication import PriceRecord
from token_tracker.proxy.upstreams import Target


class PublishedPrices(Protocol):
    """What the snapshot offers here."""

    @property
    def made_at_us(self) -> int: ...

    def price(self, source: str, name: str) -> PriceRecord | None: ...


class PriceBook:
    """Prices of the entries and of `pricing:` from the configuration, overrides and the price file by the snapshot."""

    def __init__(self, pricing: Iterable[PricingEntry], published: PublishedPrices) -> None:
        self._table = PricingTable((line.provider, line.pattern, line.rates) for line in pricing)
        self._published = published

    def choice(self, target: Target) -> Choice:
        """The price of a target's calls now; a change made through the API counts from the next snapshot on."""
        if target.price is None or target.price_from_us != self._published.made_at_us:
            target.price = self._choose(target.deployment)
            target.price_from_us = self._published.made_at_us
        return target.price

    def named(self, provider: str, model: str) -> Choice:
        """The price that holds now for a provider's model which no entry of ours served."""
        known = PROVIDERS.get(provider)
        return choose(
            (f"{provider}/{model}", model),
            is_local=known is not None and known.self_hosted,
            entry=None,
            override=lambda name: self._lookup("override", name),
            pricing=lambda names: self._table.find(provider, names),
            file=lambda name: self._lookup("file", name),
        )

    def _choose(self, deployment: Deployment) -> Choice:
        entry = None if deployment.rates is None else make_price("entry", deployment.name, deployment.rates)
        return choose(
            deployment.price_names,
            is_local=deployment.is_local,
            entry=entry,
            override=lambda name: self._lookup("override", name),
            pricing=lambda names: self._table.find(deployment.provider, names),
            file=lambda name: self._lookup("file", name),
        )

    def _lookup(self, source: str, name: str) -> Price | None:
        record = self._published.price(source, name)
        if record is None:
            return None
        return Price(record.version, source, {field: Decimal(rate) for field, rate in record.rates.items()})
