"""What the models that are offered cost now, chosen from the database's rows as gateways choose from theirs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from token_tracker.database.models import PriceRow
from token_tracker.domain.pricing import Choice, Price, PricingTable, choose, make_price
from token_tracker.services.configured_prices import NAME_LENGTH, current_prices

Document = Mapping[str, Any]


def price_names(deployment: Document) -> tuple[str, ...]:
    """As `config.values.Deployment.price_names` has them."""
    provider, model = deployment["provider"], deployment["model"]
    return tuple(name for name in (deployment.get("base_model"), f"{provider}/{model}", model) if name)


class ModelPrices:
    """The prices that hold at `at` for `names`, and all of `pricing:`."""

    def __init__(self, session: Session, names: Collection[str], at: datetime) -> None:
        self._held = _held(session, names, at)
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
            override=lambda name: self._held.get(("override", name)),
            pricing=lambda names: self._table.find(deployment["provider"], names),
            file=lambda name: self._held.get(("file", name)),
        )


def _held(session: Session, names: Collection[str], at: datetime) -> dict[tuple[str, str], Price]:
    columns = (PriceRow.source, PriceRow.name, PriceRow.version, PriceRow.rates)
    statement = select(*columns).where(
        PriceRow.source.in_(("override", "file")), PriceRow.name.in_(names), PriceRow.valid_from <= at
    )
    held: dict[tuple[str, str], Price] = {}
    for source, name, version, rates in session.execute(statement.order_by(PriceRow.valid_from, PriceRow.id)):
        held.pop((source, name), None)
        if rates is not None:
            held[source, name] = Price(version, source, {field: Decimal(rate) for field, rate in rates.items()})
    return held
