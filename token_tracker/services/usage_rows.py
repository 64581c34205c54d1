"""The ledger row by row, newest first: a page at a time, or all of them in flat memory."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Row, and_, func, or_, select
from sqlalchemy.orm import Session

from token_tracker.database.models import TokenUsage
from token_tracker.domain.usage import TOKEN_CLASSES, Usage
from token_tracker.services.usage_filters import Filters, ledger_conditions

MAX_LIMIT = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_HELD = {"held_nano_usd", "held_tokens", "unproven_nano_usd", "unproven_tokens", "overrun_nano_usd"}
_NOT_SHOWN = {"booked_at", "model_group", "request_bytes", "response_bytes", *_HELD}


class InvalidCursor(ValueError):
    """A cursor that this product did not make."""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One attempt. `attempts`: rows of its call; `cost_nano_usd` None: unpriced; absent names are ''.

    `ttft_ms` is None where no byte of an answer came one by one (no stream, or it ended before the first).
    """

    id: str
    call_id: str
    attempt: int
    attempts: int
    timestamp: datetime
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
    usage: Usage
    usage_source: str
    cost_nano_usd: int | None
    cost_source: str
    price_version: str
    latency_ms: float
    ttft_ms: float | None
    user: str
    team: str
    key_id: str
    agent: str
    session: str
    end_user: str
    tags: tuple[str, ...]
    request_metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """`next_cursor` None: there is no more."""

    items: list[UsageRow]
    next_cursor: str | None


_COLUMNS = [attribute for attribute in TokenUsage.__mapper__.column_attrs if attribute.key not in _NOT_SHOWN]
_SELECTED = [getattr(TokenUsage, attribute.key).label(attribute.key) for attribute in _COLUMNS]
_PLAIN = [attribute.key for attribute in _COLUMNS if attribute.key not in {*TOKEN_CLASSES, "tags", "request_metadata"}]


def page(session: Session, filters: Filters, *, limit: int = 100, cursor: str | None = None) -> Page:
    """At most `limit` (1 to 1000) rows older than `cursor`; raises InvalidCursor."""
    if not 1 <= limit <= MAX_LIMIT:
        raise ValueError(f"limit is {limit}: it must be between 1 and {MAX_LIMIT}")
    found = _select(session, filters, decode_cursor(cursor) if cursor else None, limit + 1)
    rows = found[:limit]
    more = len(found) > limit
    return Page(_with_attempts(session, rows), encode_cursor(rows[-1].timestamp, rows[-1].id) if more else None)


def every_row(
    read: Callable[[], AbstractContextManager[Session]], filters: Filters, *, cursor: str | None = None
) -> Iterator[UsageRow]:
    """All rows, newest first, older than `cursor` if there is one, in flat memory; raises InvalidCursor.

    Each thousand is read in a short transaction of its own (`read()` opens one), so a slow reader holds none open.
    Rows booked meanwhile may or may not be among them; no row comes twice.
    """
    while True:
        with read() as session:
            found = page(session, filters, limit=MAX_LIMIT, cursor=cursor)
        yield from found.items
        cursor = found.next_cursor
        if cursor is None:
            return


def rows_of(session: Session, ids: Sequence[str]) -> list[UsageRow]:
    """Those of the ids that stand, in their order; some thousands at most."""
    found = session.execute(select(*_SELECTED).where(TokenUsage.id.in_(ids))).all()
    rows = {row.id: row for row in _with_attempts(session, found)}
    return [rows[id] for id in ids if id in rows]


def encode_cursor(timestamp: datetime, row_id: str) -> str:
    """The place after a row, as text without a meaning of its own."""
    text = f"{(timestamp - _EPOCH) // _MICROSECOND}:{row_id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[datetime, str]:
    """The inverse of `encode_cursor`; raises InvalidCursor for anything else."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        microseconds, separator, row_id = text.partition(":")
        timestamp = _EPOCH + int(microseconds) * _MICROSECOND
    except (binascii.Error, ValueError, OverflowError):
        raise InvalidCursor("not a cursor of this list; start without one") from None
    if not separator or not row_id.isprintable() or encode_cursor(timestamp, row_id) != cursor:
        raise InvalidCursor("not a cursor of this list; start without one")
    return timestamp, row_id


def _select(session: Session, filters: Filters, after: tuple[datetime, str] | None, limit: int) -> Sequence[Row[Any]]:
    statement = select(*_SELECTED).where(*ledger_conditions(filters))
    if after is not None:
        timestamp, row_id = after
        older = or_(TokenUsage.timestamp < timestamp, TokenUsage.id < row_id)
        statement = statement.where(and_(TokenUsage.timestamp <= timestamp, older))
    return session.execute(statement.order_by(TokenUsage.timestamp.desc(), TokenUsage.id.desc()).limit(limit)).all()


def _with_attempts(session: Session, rows: Sequence[Row[Any]]) -> list[UsageRow]:
    """A call's only attempt is known by itself (first and last); the others are counted in one query."""
    retried = {row.call_id for row in rows if row.attempt != 1 or row.id != row.call_id}
    counts = _attempt_counts(session, retried)
    return [_usage_row(row, counts.get(row.call_id, 1)) for row in rows]


def _attempt_counts(session: Session, call_ids: Iterable[str]) -> dict[str, int]:
    wanted = sorted(call_ids)
    if not wanted:
        return {}
    statement = select(TokenUsage.call_id, func.count()).where(TokenUsage.call_id.in_(wanted))
    return dict(session.execute(statement.group_by(TokenUsage.call_id)).all())


def _usage_row(row: Row[Any], attempts: int) -> UsageRow:
    values = row._mapping
    return UsageRow(
        **{name: values[name] for name in _PLAIN},
        attempts=attempts,
        usage=Usage(**{name: values[name] for name in TOKEN_CLASSES}),
        tags=tuple(msgspec.json.decode(values["tags"] or "[]")),
        request_metadata=msgspec.json.decode(values["request_metadata"] or "{}"),
    )
