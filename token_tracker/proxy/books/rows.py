"""Journal records as ledger rows, held to what the columns can take."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import String

from token_tracker.database.models import TokenUsage, TokenUsageTag
from token_tracker.domain.pricing import CostSource
from token_tracker.domain.usage import TOKEN_CLASSES, EndReason, UsageSource
from token_tracker.proxy.books.records import End, Open, Refused
from token_tracker.services.booking import LedgerRow
from token_tracker.services.refusals import RefusalRow

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_BIGINT = 2**63 - 1
_MAX_INTEGER = 2**31 - 1
_LENGTHS = {
    column.name: column.type.length
    for column in TokenUsage.__table__.columns
    if isinstance(column.type, String) and column.type.length
}
_TAG_LENGTH: int = TokenUsageTag.__table__.c.tag.type.length  # type: ignore[attr-defined]


def refusal_row(refused: Refused) -> RefusalRow:
    """What is booked of a count; texts are cut to their columns."""
    return {
        "hour": datetime.fromtimestamp(refused.hour_us // 1_000_000, UTC),
        "code": refused.code[:64],
        "status": refused.status,
        "key_id": refused.key_id[:40],
        "user_id": refused.user[:64],
        "team_id": refused.team[:64],
        "model": refused.model[:255],
        "endpoint": refused.endpoint[:64],
        "calls": refused.calls,
        "writer": refused.writer[:64],
        "serial": refused.serial,
    }


def crashed(opened: Open) -> End:
    """How a call is booked whose worker died: nothing is known of its usage, so nothing of its cost either, and
    all that was held for it stays unproven."""
    return End(
        opened=opened,
        end_reason=EndReason.CRASH.value,
        status_code=0,
        tokens=(0,) * len(TOKEN_CLASSES),
        usage_source=UsageSource.NONE.value,
        cost_nano_usd=None,
        cost_source=CostSource.UNPRICED.value,
        price_version="",
        latency_ms=0.0,
        ttft_ms=None,
        upstream_id="",
        upstream_request_id="",
        unproven_nano_usd=opened.held_nano_usd,
        unproven_tokens=opened.held_tokens,
    )


def ledger_row(end: End) -> LedgerRow:
    """The row of an attempt. Whatever a client or provider sent, the database takes it: texts are cut to their
    columns, and a row is never refused (it would stop all that come after it)."""
    opened = end.opened
    subject = opened.subject
    row: dict[str, Any] = {
        "id": opened.id,
        "call_id": opened.call_id,
        "attempt": opened.attempt,
        "timestamp": _EPOCH + timedelta(microseconds=opened.timestamp_us),
        "endpoint": opened.endpoint,
        "lane": opened.lane,
        "stream": opened.stream,
        "requested_model": opened.requested_model,
        "model": opened.model,
        "model_group": opened.model_group,
        "provider": opened.provider,
        "upstream_id": end.upstream_id,
        "upstream_request_id": end.upstream_request_id,
        "status_code": min(end.status_code, _MAX_INTEGER),
        "end_reason": end.end_reason,
        "usage_source": end.usage_source,
        "cost_nano_usd": None if end.cost_nano_usd is None else min(end.cost_nano_usd, _MAX_BIGINT),
        "cost_source": end.cost_source,
        "price_version": end.price_version,
        "held_nano_usd": opened.held_nano_usd,
        "held_tokens": opened.held_tokens,
        "unproven_nano_usd": end.unproven_nano_usd,
        "unproven_tokens": end.unproven_tokens,
        "overrun_nano_usd": end.overrun_nano_usd,
        "request_bytes": end.request_bytes,
        "response_bytes": end.response_bytes,
        "latency_ms": end.latency_ms,
        "ttft_ms": end.ttft_ms,
        "user_id": subject.user,
        "team_id": subject.team,
        "key_id": subject.key_id,
        "agent": subject.agent,
        "session_id": subject.session,
        "end_user": subject.end_user,
        "request_metadata": subject.metadata.replace("\0", ""),
    }
    for name, count in zip(TOKEN_CLASSES, end.tokens, strict=True):
        row[name] = min(count, _MAX_BIGINT)
    for name, length in _LENGTHS.items():
        if len(row[name]) > length or "\0" in row[name]:
            row[name] = _fitting(row[name], length)
    row["tags"] = tuple(dict.fromkeys(_fitting(tag, _TAG_LENGTH) for tag in subject.tags)) if subject.tags else ()
    return row


def _fitting(text: str, length: int) -> str:
    return text.replace("\0", "")[:length]
