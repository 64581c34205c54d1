"""Books attempts: ledger rows, their tags and the hourly sums, together or not at all, and each attempt once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

import msgspec
from sqlalchemy import Table
from sqlalchemy.orm import Session

from token_tracker.database.models import (
    LATENCY_COLUMNS,
    ROLLUP_KEYS,
    ROLLUP_SUMS,
    TokenUsage,
    TokenUsageTag,
    UsageHourly,
)
from token_tracker.domain.latency import bucket_of
from token_tracker.domain.pricing import CostSource
from token_tracker.domain.usage import ERROR_REASONS, TOKEN_CLASSES
from token_tracker.services import bulk, closed_sums, counters

# One attempt by the column names of `token_usage`, without `booked_at`; `tags` is a sequence of different strings.
LedgerRow = dict[str, Any]

_MOST = 2**63 - 1
_LEDGER, _TAGS, _HOURLY = (cast(Table, model.__table__) for model in (TokenUsage, TokenUsageTag, UsageHourly))


@dataclass(frozen=True, slots=True)
class Booked:
    """The ids of the rows that were new, and the budgets' counters that grew by them."""

    new: set[str] = field(default_factory=set)
    counters: counters.Changed = field(default_factory=dict)


def book(
    session: Session, rows: Sequence[LedgerRow], *, at: datetime, rules: counters.CountingRules | None = None
) -> Booked:
    """Write what is not in the ledger yet, in the caller's transaction: rows, tags, sums and budgets' counters.

    Rows whose id is known change nothing at all: neither themselves nor the sums. For speed at most 500 at a time, and
    with the same `rules` each time.
    """
    given: dict[str, LedgerRow] = {}
    for row in rows:
        given.setdefault(row["id"], row)
    if not given:
        return Booked()
    rules = rules or counters.CountingRules()
    counters.lock_shared(session)
    rules.refresh(session)
    ledger = [row | {"booked_at": at, "tags": _as_json(row["tags"])} for row in given.values()]
    inserted = bulk.claim(session, _LEDGER, ledger)
    new = [row for row in given.values() if row["id"] in inserted]
    tags = [{"tag": tag, "usage_id": row["id"]} for row in new for tag in row["tags"]]
    if tags:
        bulk.insert_missing(session, _TAGS, tags)
    if not new:
        return Booked()
    hourly = hourly_sums(new)
    bulk.add_up(session, _HOURLY, hourly, ROLLUP_SUMS)
    closed_sums.add(session, hourly)
    return Booked(inserted, counters.count(session, rules, new, at=at))


def hourly_sums(rows: Sequence[LedgerRow]) -> list[dict[str, Any]]:
    """What the rows add to `usage_hourly`; ordered by key, so that two recorders never deadlock."""
    sums: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = (
            row["timestamp"].replace(minute=0, second=0, microsecond=0),
            row["key_id"],
            row["user_id"],
            row["team_id"],
            row["agent"],
            row["model"],
            row["provider"],
            row["end_reason"],
        )
        total = sums.get(key)
        if total is None:
            total = sums[key] = dict.fromkeys(ROLLUP_SUMS, 0)
        _add(total, row)
    return [
        dict(zip(ROLLUP_KEYS, key, strict=True)) | {name: min(value, _MOST) for name, value in sums[key].items()}
        for key in sorted(sums)
    ]


def _add(total: dict[str, Any], row: LedgerRow) -> None:
    total["attempts"] += 1
    total["cost_nano_usd"] += row["cost_nano_usd"] or 0
    for name in TOKEN_CLASSES:
        total[name] += row[name]
    if row["id"] == row["call_id"]:  # a call's last attempt
        total["calls"] += 1
        total["errors"] += row["end_reason"] in ERROR_REASONS
        total["unpriced_calls"] += row["cost_source"] == CostSource.UNPRICED
        total[LATENCY_COLUMNS[bucket_of(row["latency_ms"])]] += 1


def _as_json(tags: Sequence[str]) -> str:
    return msgspec.json.encode(tags).decode() if tags else "[]"
