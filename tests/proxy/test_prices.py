"""Which price a target's calls are booked at, and when a change of it counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tests.proxy.test_upstreams import deployment, upstreams
from token_tracker.config.values import PricingEntry
from token_tracker.domain.pricing import CostSource
from token_tracker.domain.providers import WireFormat
from token_tracker.proxy.books.publication import PriceRecord
from token_tracker.proxy.prices import PriceBook
from token_tracker.proxy.upstreams import Target

INPUT = "input_cost_per_token"


@dataclass
class Published:
    made_at_us: int = 1
    prices: dict[tuple[str, str], PriceRecord] = field(default_factory=dict)

    def price(self, source: str, name: str) -> PriceRecord | None:
        return self.prices.get((source, name))


def target(**more: Any) -> Target:
    choice = upstreams(exact={"m": (deployment(**more),)}).choice("m", WireFormat.CHAT)
    assert choice is not None
    return choice.only


def rate(book: PriceBook, at: Target) -> Decimal | None:
    price = book.choice(at).price
    return None if price is None else price.rates[INPUT]


def test_the_contracts_order_holds_entry_override_pricing_file() -> None:
    published = Published()
    line = PricingEntry("openai", "m", {INPUT: Decimal(3)})
    published.prices["file", "m"] = PriceRecord("file:m@1", {INPUT: "4"})
    without = PriceBook((), published)
    assert rate(without, target()) == 4
    assert without.choice(target()).price.version == "file:m@1"  # type: ignore[union-attr]
    book = PriceBook((line,), published)
    assert rate(book, target()) == 3
    published.prices["override", "m"] = PriceRecord("override:m@1", {INPUT: "2"})
    assert rate(book, target()) == 2
    assert rate(book, target(rates={INPUT: Decimal(1)})) == 1


def test_a_local_upstream_never_takes_the_files_price() -> None:
    published = Published(prices={("file", "m"): PriceRecord("file:m@1", {INPUT: "4"})})
    assert PriceBook((), published).choice(target(is_local=True)).cost_source is CostSource.LOCAL


def test_a_new_snapshot_brings_its_prices_to_targets_that_were_asked_before() -> None:
    published, at = Published(), target()
    book = PriceBook((), published)
    assert book.choice(at).cost_source is CostSource.UNPRICED
    published.prices["override", "openai/m"] = PriceRecord("override:m@1", {INPUT: "0.000000000000000001"})
    assert book.choice(at).cost_source is CostSource.UNPRICED
    published.made_at_us = 2
    assert rate(book, at) == Decimal("1e-18")
