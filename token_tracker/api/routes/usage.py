"""The books: rows, export and sums."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice
from typing import Any

from flask import Response

from token_tracker.api.routing import Call, Route
from token_tracker.api.usage_schemas import Summary, SummaryQuery, UsagePage, UsageQuery, summary_item, totals
from token_tracker.database.deadlines import within
from token_tracker.database.session import reading
from token_tracker.domain.access import Permission
from token_tracker.domain.problems import Invalid
from token_tracker.services import usage

CSV, JSON_LINES = "text/csv", "application/x-ndjson"


def rows(call: Call, query: UsageQuery) -> Any:
    filters = query.within(call.scope)
    if query.format != "json":
        return _export(call, query, filters)
    with reading(call.engine) as session:
        try:
            page = usage.page(session, filters, limit=query.limit or 100, cursor=query.cursor)
        except usage.InvalidCursor as error:
            raise Invalid([("cursor", f"is {error}")]) from None
    return UsagePage([usage.document(row) for row in page.items], page.next_cursor)


def summary(call: Call, query: SummaryQuery) -> Summary:
    groups, zone, filters = query.groups(), query.zone(), query.within(call.scope)
    with reading(call.engine) as session:
        try:
            found = usage.summarize(session, filters, groups=groups, zone=zone)
        except usage.TooManyItems as error:
            raise Invalid([("group_by", f"gives {error}")]) from None
    items = [summary_item(groups, item) for item in found.items]
    missing = None if found.missing_before is None else usage.format_time(found.missing_before)
    return Summary(items, totals(found.totals), missing)


def _export(call: Call, query: UsageQuery, filters: usage.Filters) -> Response:
    read = partial(reading, within(call.engine, None))  # it takes as long as it takes, in flat memory
    try:
        all_rows = _begun(usage.every_row(read, filters, cursor=query.cursor))
    except usage.InvalidCursor as error:
        raise Invalid([("cursor", f"is {error}")]) from None
    chosen = islice(all_rows, query.limit)
    name = f"token-usage.{query.format}"
    lines, media = (usage.csv_lines(chosen), CSV) if query.format == "csv" else (usage.json_lines(chosen), JSON_LINES)
    return Response(lines, mimetype=media, headers={"Content-Disposition": f'attachment; filename="{name}"'})


def _begun(rows: Iterator[usage.UsageRow]) -> Iterable[usage.UsageRow]:
    """Read the first page now, while an error can still be an answer and not a broken stream."""
    return chain(list(islice(rows, 1)), rows)


ROUTES = (
    Route(
        "GET",
        "/api/token-usage",
        rows,
        Permission.USAGE_READ,
        "Rows, newest first, or all of them as CSV or JSON lines",
        UsagePage,
        query=UsageQuery,
        also=(CSV, JSON_LINES),
    ),
    Route(
        "GET",
        "/api/token-usage/summary",
        summary,
        Permission.USAGE_READ,
        "Sums by up to three groups",
        Summary,
        query=SummaryQuery,
    ),
)
