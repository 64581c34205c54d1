"""Reading the books: rows with filters and cursor, sums by group, and export. Used by the API and the dashboard."""

from token_tracker.services.usage_export import (
    COLUMNS,
    TokenUsageRow,
    csv_lines,
    document,
    format_time,
    json_lines,
    text_cell,
)
from token_tracker.services.usage_filters import Filters
from token_tracker.services.usage_newcomers import Newcomers
from token_tracker.services.usage_rows import MAX_LIMIT, InvalidCursor, Page, UsageRow, every_row, page
from token_tracker.services.usage_summary import (
    GROUPS,
    MAX_GROUPS_AT_ONCE,
    Summary,
    SummaryItem,
    TooManyItems,
    summarize,
)
from token_tracker.services.usage_sums import Sums
from token_tracker.services.usage_totals import sums_document

__all__ = [
    "COLUMNS",
    "GROUPS",
    "MAX_GROUPS_AT_ONCE",
    "MAX_LIMIT",
    "Filters",
    "InvalidCursor",
    "Newcomers",
    "Page",
    "Summary",
    "SummaryItem",
    "Sums",
    "TokenUsageRow",
    "TooManyItems",
    "UsageRow",
    "csv_lines",
    "document",
    "every_row",
    "format_time",
    "json_lines",
    "page",
    "summarize",
    "sums_document",
    "text_cell",
]
