"""A row as the outside sees it, and all rows as CSV or JSON lines."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import msgspec

from token_tracker.domain.money import format_usd
from token_tracker.services.usage_rows import UsageRow

_ROWS_A_PIECE = 200
# What a spreadsheet takes for the beginning of a formula; an apostrophe before it makes the cell text.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


class TokenUsageRow(msgspec.Struct, frozen=True):
    """A row of `token-usage`, in the contract's order. Only the costs of an unpriced row are null."""

    id: str
    call_id: str
    attempt: int
    attempts: int
    timestamp: str
    endpoint: str
    lane: str
    stream: bool
    requested_model: str
    model: str
    provider: str
    upstream_id: str
    upstream_request_id: str
    status_code: int
    end_reason: str
    input_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    input_audio_tokens: int
    input_image_tokens: int
    output_tokens: int
    reasoning_tokens: int
    output_audio_tokens: int
    output_image_tokens: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    usage_source: str
    cost_usd: str | None
    booked_cost_usd: str | None
    cost_source: str
    price_version: str
    latency_ms: float
    ttft_ms: float
    user: str
    team: str
    key_id: str
    agent: str
    session: str
    end_user: str
    tags: list[str]
    request_metadata: dict[str, Any]


COLUMNS = TokenUsageRow.__struct_fields__
_TEXT_COLUMNS = frozenset(
    field.name for field in msgspec.structs.fields(TokenUsageRow) if field.type is str and field.name != "timestamp"
)
_encode = msgspec.json.Encoder().encode


def format_time(at: datetime) -> str:
    """RFC 3339 in UTC, with microseconds only where there are some."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def document(row: UsageRow) -> TokenUsageRow:
    """`row` in the outside form. `ttft_ms` of an answer that did not come piece by piece is its `latency_ms`."""
    cost = None if row.cost_nano_usd is None else format_usd(row.cost_nano_usd)
    usage = row.usage
    own = {name: getattr(row, name) for name in COLUMNS if hasattr(row, name)}
    tokens = {name: getattr(usage, name) for name in COLUMNS if hasattr(usage, name)}
    shaped = {
        "timestamp": format_time(row.timestamp),
        "cost_usd": cost,
        "booked_cost_usd": cost,
        "latency_ms": round(row.latency_ms, 3),
        "ttft_ms": round(row.latency_ms if row.ttft_ms is None else row.ttft_ms, 3),
        "tags": list(row.tags),
    }
    return TokenUsageRow(**{**own, **tokens, **shaped})


def json_lines(rows: Iterable[UsageRow]) -> Iterator[bytes]:
    """One JSON object a line, in pieces of some hundred lines."""
    for piece in _pieces(rows):
        yield b"".join(_encode(document(row)) + b"\n" for row in piece)


def csv_lines(rows: Iterable[UsageRow]) -> Iterator[bytes]:
    """RFC 4180 with a header; tags and metadata as JSON text, and no text cell that a spreadsheet would compute."""
    yield _csv_text([COLUMNS])
    for piece in _pieces(rows):
        yield _csv_text([_cell(name, getattr(shown, name)) for name in COLUMNS] for shown in map(document, piece))


def _cell(name: str, value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        return _encode(value).decode()
    return text_cell(value) if name in _TEXT_COLUMNS else value


def text_cell(text: str) -> str:
    """`text` as a cell that no spreadsheet computes."""
    return "'" + text if text.startswith(_FORMULA_STARTS) else text


def _csv_text(lines: Iterable[Iterable[Any]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(lines)
    return buffer.getvalue().encode()


def _pieces(rows: Iterable[UsageRow]) -> Iterator[list[UsageRow]]:
    remaining = iter(rows)
    while piece := list(islice(remaining, _ROWS_A_PIECE)):
        yield piece
