"""What the models that are offered cost now, chosen from the database's rows as gateways choose from theirs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from token_tracker.domain.pricing import Choice, Price, PricingTable, choose, make_price
from token_tracker.services import price_list
from token_tracker.services.configured_prices import NAME_LENGTH, current_prices

Document = Mapping[str, Any]


def price_names(deployment: Document) -> tuple[str, ...]:
    """As `config.values.Deployment.price_names` has them."""
    provider, model = deployment["provider"], deployment["model"]
    return tuple(name for name in (deployment.get("base_model"), f"{provider}/{model}", model) if name)


class ModelPrices:
    """The prices that hold at `at` for `names`, and all of `pricing:`."""

    def __init__(self, session: Session, names: Collection[str], at: datetime) -> None:
        self._overrides, self._file = (_prices(session, source, names, at) for source in ("override", "file"))
        # A longer pattern was cut, and would match something else.
        lines = [row for row in current_prices(session).values() if len(row.name) < NAME_LENGTH]
        self._table = PricingTable(
            (*row.name.partition("/")[::2], {field: Decimal(rate) for field, rate in (row.rates or {}).items()})
            for row in lines
            if row.source == "pricing"
        )

    def choice(self, entry: str, deployment: Document) -> Choice | None:
        """None for a wildcard without a price of its own: each of its models has another."""
        rates = deployment.get("rates")
        if rates is None and "*" in deployment["model"]:
            return None
        return choose(
            price_names(deployment),
            is_local=deployment.get("is_local", False),
            entry=None if rates is None else make_price("entry", entry, rates),
            override=self._overrides.get,
            pricing=lambda names: self._table.find(deployment["provider"], names),
            file=self._file.get,
        )


def _prices(session: Session, source: str, names: Collection[str], at: datetime) -> dict[str, Price]:
    return {
        name: Price(held.version, source, {field: Decimal(rate) for field, rate in held.rates.items()})
        for name, held in price_list.holding(session, source=source, at=at, names=names).items()
    }
