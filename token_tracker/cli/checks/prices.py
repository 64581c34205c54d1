"""Whether every configured model has a price, and which calls of late had none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.orm import Session

from token_tracker.cli.checks.findings import Finding, Ground, ok, problem, skipped, warning
from token_tracker.cli.shown import counted
from token_tracker.config.values import Configuration, Deployment
from token_tracker.database.models import Budget
from token_tracker.database.session import reading
from token_tracker.domain.pricing import CostSource, Price, PricingTable, choose, make_price
from token_tracker.services import price_list
from token_tracker.services.price_list import Held
from token_tracker.services.unpriced import unpriced_models
from token_tracker.services.usage import Filters

LATELY = timedelta(days=7)
_NAME = "prices"


def prices(ground: Ground) -> Iterator[Finding]:
    """Models behind a wildcard are named by clients: they show only once they were called."""
    if ground.configuration is None or ground.engine is None:
        yield skipped(_NAME, "the configuration or the database cannot be used")
        return
    named = _named(ground.configuration)
    with reading(ground.engine) as session:
        book = _book(session, ground.configuration, ground.at)
        unpriced = [each for each in named if not book.knows(each)]
        capped = session.scalar(select(Budget.id).where(Budget.enforcement == "hard").limit(1)) is not None
        called = unpriced_models(session, Filters(start=ground.at - LATELY))
    for each in unpriced:
        yield _missing(each.name, each.price_names[0], capped)
    for model in called:
        calls = counted(model.calls, "call")
        said = f"{calls} of '{model.model}' ({model.provider}) in the last {LATELY.days} days without a cost"
        yield warning(_NAME, said, _remedy(model.model))
    if not unpriced and not called:
        yield ok(_NAME, f"{counted(len(named), 'configured model')}: all have one")


def _missing(name: str, price_name: str, capped: bool) -> Finding:
    if capped:
        said = f"nobody knows what '{name}' costs: where a hard budget applies, its calls are refused with 402"
        return problem(_NAME, said, _remedy(price_name))
    return warning(_NAME, f"nobody knows what '{name}' costs: its calls are booked as unpriced", _remedy(price_name))


def _remedy(price_name: str) -> str:
    return f"token-tracker prices set {price_name} --input … --output … (USD per million), or pricing: in proxy.yaml"


def _named(configuration: Configuration) -> list[Deployment]:
    exact = [deployment for group in configuration.models.exact.values() for deployment in group]
    return [*exact, *configuration.models.env_offers.values()]


@dataclass(frozen=True, slots=True)
class _Book:
    """What prices there are now."""

    table: PricingTable
    overrides: Mapping[str, Held]
    file: Mapping[str, Held]

    def knows(self, deployment: Deployment) -> bool:
        entry = None if deployment.rates is None else make_price("entry", deployment.name, deployment.rates)
        choice = choose(
            deployment.price_names,
            is_local=deployment.is_local,
            entry=entry,
            override=_lookup(self.overrides, "override"),
            pricing=lambda names: self.table.find(deployment.provider, names),
            file=_lookup(self.file, "file"),
        )
        return choice.cost_source is not CostSource.UNPRICED


def _book(session: Session, configuration: Configuration, at: datetime) -> _Book:
    table = PricingTable((line.provider, line.pattern, line.rates) for line in configuration.pricing)
    overrides, file = (price_list.holding(session, source=source, at=at) for source in ("override", "file"))
    return _Book(table, overrides, file)


def _lookup(held: Mapping[str, Held], source: str) -> Callable[[str], Price | None]:
    def look_up(name: str) -> Price | None:
        found = held.get(name)
        if found is None:
            return None
        return Price(found.version, source, {field: Decimal(rate) for field, rate in found.rates.items()})

    return look_up
