"""What models cost: history, overrides, a newer price file, and what was called without a price."""

from __future__ import annotations

from flask import request
from msgspec.structs import replace

from token_tracker.api.errors import ApiError
from token_tracker.api.price_schemas import (
    ImportQuery,
    PriceImport,
    PriceOverride,
    PricePage,
    PriceQuery,
    PriceShown,
    UnpricedList,
    import_shown,
    price_shown,
    unpriced_shown,
)
from token_tracker.api.routing import Call, Route
from token_tracker.api.usage_schemas import RollupQuery
from token_tracker.database.session import reading, transaction
from token_tracker.domain.access import Permission
from token_tracker.domain.problems import NotFound
from token_tracker.services import price_list, prices
from token_tracker.services.unpriced import unpriced_models

MAX_FILE_BYTES = 16 * 1024 * 1024


def list_prices(call: Call, query: PriceQuery) -> PricePage:
    with reading(call.engine) as session:
        page = price_list.list_prices(
            session, name=query.name, source=query.source, limit=query.limit, cursor=query.cursor
        )
        return PricePage([price_shown(row) for row in page.items], page.next_cursor)


def create(call: Call, body: PriceOverride) -> PriceShown:
    with transaction(call.engine) as session:
        row = price_list.override(session, name=body.name, rates=body.rates, valid_from=body.valid_from, at=call.at)
        call.record(session, "price.override", row.name, after=price_shown(row))
        return price_shown(row)


def end(call: Call, price_id: str) -> None:
    number = int(price_id) if price_id.isascii() and price_id.isdigit() and len(price_id) < 18 else 0
    if not number:
        raise NotFound("price override", price_id)
    with transaction(call.engine) as session:
        row = price_list.end_override(session, price_id=number, at=call.at)
        call.record(session, "price.end_override", row.name, after=price_shown(row))


def import_file(call: Call, query: ImportQuery) -> PriceImport:
    if request.mimetype != "application/json":
        raise ApiError(415, "unsupported_media_type", "Send the file as it is, with 'Content-Type: application/json'.")
    rates = prices.read_upload(request.get_data(cache=False))
    if query.dry_run:
        with reading(call.engine) as session:
            return import_shown(prices.preview(session, rates), dry_run=True)
    with transaction(call.engine) as session:
        shown = import_shown(prices.import_rates(session, rates, at=call.at), dry_run=False)
        call.record(session, "price.import", "file", after=replace(shown, changes=[]))
        return shown


def list_unpriced(call: Call, query: RollupQuery) -> UnpricedList:
    with reading(call.engine) as session:
        return unpriced_shown(unpriced_models(session, query.within(call.scope)))


READ, MANAGE = Permission.PRICES_READ, Permission.PRICES_MANAGE
ROUTES = (
    Route(
        "GET", "/api/prices", list_prices, READ, "Prices with their history, newest first", PricePage, query=PriceQuery
    ),
    Route(
        "POST",
        "/api/prices",
        create,
        MANAGE,
        "Override the price of a model",
        PriceShown,
        201,
        body=PriceOverride,
        errors=(409,),
    ),
    Route(
        "DELETE",
        "/api/prices/{price_id}",
        end,
        MANAGE,
        "End an override; it stays in the history",
        status=204,
        errors=(409,),
    ),
    Route(
        "POST",
        "/api/prices/import",
        import_file,
        MANAGE,
        "Compare with a newer price file of LiteLLM, or with dry_run=false take it over",
        PriceImport,
        query=ImportQuery,
        max_body_bytes=MAX_FILE_BYTES,
        reads="a price file as LiteLLM publishes it",
    ),
    Route(
        "GET",
        "/api/unpriced",
        list_unpriced,
        Permission.USAGE_READ,
        "Models that were called without a known price",
        UnpricedList,
        query=RollupQuery,
    ),
)
