"""What the API takes and answers about prices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

from token_tracker.api.schemas import Input, PageQuery, Time
from token_tracker.database.models import PriceRow
from token_tracker.services import price_list
from token_tracker.services.prices import Difference
from token_tracker.services.unpriced import UnpricedModel
from token_tracker.services.usage import format_time

ModelName = Annotated[str, Meta(min_length=1, max_length=255)]
Rates = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=100)], Annotated[str, Meta(max_length=64)]],
    Meta(min_length=1, max_length=100, description="USD per unit as decimal text, by LiteLLM's field names"),
]
SHOWN = 1000  # models of a difference that are listed; the counts are of all


class PriceQuery(PageQuery, frozen=True):
    name: ModelName | None = None
    source: Literal["entry", "override", "pricing", "file"] | None = None


class PriceOverride(Input, frozen=True):
    """`name`: a price name of a deployment: `base_model`, `provider/model` or `model`. `valid_from`: default now."""

    name: ModelName
    rates: Rates
    valid_from: Time | None = None


class PriceShown(Struct, frozen=True):
    """`rates` null: from `valid_from` on, this source has no price for the name. Of a name's rows of one source, the
    latest `valid_from` that has come holds. `version` is what ledger rows carry."""

    id: int
    source: str
    name: str
    version: str
    rates: dict[str, str] | None
    valid_from: str
    created_at: str


class PricePage(Struct, frozen=True):
    items: list[PriceShown]
    next_cursor: str | None


class ImportQuery(Input, frozen=True):
    """`dry_run`: answer what would change, and change nothing."""

    dry_run: bool = True


class PriceChange(Struct, frozen=True):
    """`before` null: the name is new."""

    name: str
    before: dict[str, str] | None
    after: dict[str, str]


class PriceImport(Struct, frozen=True):
    """`changes`: the first 1,000. `missing`: names that the file no longer has; they keep their price."""

    dry_run: bool
    added: int
    changed: int
    unchanged: int
    missing: int
    changes: list[PriceChange]


class Unpriced(Struct, frozen=True):
    model: str
    provider: str
    calls: int
    first_seen: str
    last_seen: str


class UnpricedList(Struct, frozen=True):
    """At most 1,000, those with the most calls first; whole hours. `next_cursor` is always null."""

    items: list[Unpriced]
    next_cursor: None = None


def price_shown(row: PriceRow) -> PriceShown:
    return PriceShown(**price_list.public(row))


def import_shown(difference: Difference, *, dry_run: bool) -> PriceImport:
    changes = [PriceChange(name, _plain(old), _plain(new)) for name, (old, new) in difference.changed.items()]
    changes += [PriceChange(name, None, _plain(new)) for name, new in difference.added.items()]
    counts = len(difference.added), len(difference.changed), difference.unchanged, len(difference.missing)
    return PriceImport(dry_run, *counts, changes[:SHOWN])


def unpriced_shown(models: list[UnpricedModel]) -> UnpricedList:
    return UnpricedList(
        [
            Unpriced(each.model, each.provider, each.calls, format_time(each.first_seen), format_time(each.last_seen))
            for each in models
        ]
    )


def _plain(rates: Mapping[str, str]) -> dict[str, str]:
    return dict(rates)
