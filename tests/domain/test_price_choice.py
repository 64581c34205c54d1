"""Which price applies: the contract's order, by whole names only."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from token_tracker.domain.pricing import (
    Choice,
    CostSource,
    Price,
    PricingTable,
    choose,
    cost_of,
    make_price,
)
from token_tracker.domain.usage import Usage

NAMES = ("base", "openai/gpt-4.1", "gpt-4.1")


def rates(nano_usd: int) -> dict[str, Decimal]:
    """A price that is recognised by its input rate."""
    return {"input_cost_per_token": Decimal(nano_usd).scaleb(-9)}


def chosen(
    names: tuple[str, ...] = NAMES,
    *,
    is_local: bool = False,
    entry: int | None = None,
    override: dict[str, int] | None = None,
    pricing: dict[str, int] | None = None,
    file: dict[str, int] | None = None,
) -> int | str:
    """The nano-dollars of one input token, or why there are none."""
    prices = {
        source: {name: make_price(source, name, rates(nano)) for name, nano in (table or {}).items()}
        for source, table in (("override", override), ("file", file))
    }
    table = PricingTable(("openai", pattern, rates(nano)) for pattern, nano in (pricing or {}).items())
    choice = choose(
        names,
        is_local=is_local,
        entry=None if entry is None else make_price("entry", names[-1], rates(entry)),
        override=prices["override"].get,
        pricing=lambda names: table.find("openai", names),
        file=prices["file"].get,
    )
    cost = cost_of(Usage(input_tokens=1), choice)
    return cost.nano_usd if cost.source is CostSource.PRICED and cost.nano_usd is not None else cost.source.value


def test_the_entry_then_the_override_then_pricing_then_the_file() -> None:
    override, pricing, file = {"gpt-4.1": 2}, {"gpt-4.1": 3}, {"gpt-4.1": 4}
    assert chosen(entry=1, override=override, pricing=pricing, file=file) == 1
    assert chosen(override=override, pricing=pricing, file=file) == 2
    assert chosen(pricing=pricing, file=file) == 3
    assert chosen(file=file) == 4


def test_the_base_model_goes_before_the_provider_name_and_that_before_the_bare_name() -> None:
    assert chosen(file={"gpt-4.1": 3, "openai/gpt-4.1": 2, "base": 1}) == 1
    assert chosen(file={"gpt-4.1": 3, "openai/gpt-4.1": 2}) == 2
    assert chosen(override={"gpt-4.1": 3, "openai/gpt-4.1": 2}) == 2
    assert chosen(pricing={"gpt-4.1": 3, "openai/gpt-4.1": 2}) == 2


def test_an_exact_pattern_goes_before_a_regex_and_that_before_the_star() -> None:
    assert chosen(pricing={"*": 3, "regex:gpt-4.*": 2, "gpt-4.1": 1}) == 1
    assert chosen(pricing={"*": 3, "regex:gpt-4.*": 2}) == 2
    assert chosen(pricing={"*": 3, "regex:o1.*": 2}) == 3


def test_the_longest_regex_wins_whatever_their_order() -> None:
    assert chosen(pricing={"regex:gpt-.*": 1, "regex:gpt-4\\..*": 2, "regex:.*": 3}) == 2
    assert chosen(pricing={"regex:.*": 3, "regex:gpt-4\\..*": 2, "regex:gpt-.*": 1}) == 2


def test_pricing_of_another_provider_is_not_asked() -> None:
    table = PricingTable([("groq", "*", rates(1)), ("groq", "regex:.*", rates(1)), ("groq", "m", rates(1))])
    assert table.find("openai", ("m",)) is None


@pytest.mark.parametrize("name", ["gpt-4", "gpt", "gpt-4.1-mini", "4.1", "GPT-4.1", "penai/gpt-4.1"])
def test_no_part_of_a_name_and_no_longer_name_prices_a_model(name: str) -> None:
    assert chosen(override={name: 1}, pricing={name: 1, f"regex:{re.escape(name)}": 1}, file={name: 1}) == "unpriced"


def test_a_dated_model_is_not_sold_at_the_price_of_its_short_cousin() -> None:
    names = ("openai/gpt-4o-mini-2024-07-18", "gpt-4o-mini-2024-07-18")
    assert chosen(names, file={"gpt-4": 30_000, "gpt-4o": 2_500, "gpt-4o-mini-2024-07-18": 150}) == 150


def test_a_model_called_star_does_not_take_the_star_for_its_exact_name() -> None:
    assert chosen(("*",), pricing={"*": 2, "regex:\\*": 1}) == 1


def test_an_unknown_model_is_unpriced_and_its_cost_is_not_zero() -> None:
    cost = cost_of(Usage(input_tokens=1000), Choice(CostSource.UNPRICED))
    assert (cost.nano_usd, cost.source, cost.version) == (None, CostSource.UNPRICED, "")


def test_a_local_upstream_is_never_priced_by_the_file() -> None:
    assert chosen(is_local=True, file={"gpt-4.1": 1}) == "local"
    cost = cost_of(Usage(input_tokens=1000), Choice(CostSource.LOCAL))
    assert (cost.nano_usd, cost.source, cost.version) == (0, CostSource.LOCAL, "")


@pytest.mark.parametrize("source", ["entry", "override", "pricing"])
def test_a_local_upstream_takes_a_price_that_somebody_gave_it(source: str) -> None:
    given = {"entry": {"entry": 7}, "override": {"override": {"base": 7}}, "pricing": {"pricing": {"*": 7}}}[source]
    assert chosen(is_local=True, **given) == 7  # type: ignore[arg-type]


def test_a_price_that_lacks_a_unit_leaves_the_call_unpriced_without_a_version() -> None:
    input_only = Price("v", "file", rates(1))
    cost = cost_of(Usage(output_tokens=1), Choice(CostSource.PRICED, input_only))
    assert (cost.nano_usd, cost.source, cost.version) == (None, CostSource.UNPRICED, "")


def test_a_priced_call_names_its_price() -> None:
    price = make_price("pricing", "openai/*", rates(3))
    cost = cost_of(Usage(input_tokens=2), Choice(CostSource.PRICED, price))
    assert (cost.nano_usd, cost.source, cost.version) == (6, CostSource.PRICED, price.version)
    assert cost.version.startswith("pricing:openai/*@")
