"""Ledger rows for tests, and hourly sums of them that are added up here, in plain Python, not by the product."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, insert

from token_tracker.database.models import TokenUsage, TokenUsageTag, UsageHourly
from token_tracker.database.session import transaction

CLASSES = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "input_audio_tokens",
    "input_image_tokens",
    "output_tokens",
    "reasoning_tokens",
    "output_audio_tokens",
    "output_image_tokens",
)
ERRORS = {"upstream_error", "upstream_disconnect", "timeout", "crash"}
Row = dict[str, Any]


def ledger_row(row_id: str, **values: Any) -> Row:
    """A complete row; what is not given is the plainest there is."""
    row: Row = {
        "id": row_id,
        "call_id": row_id,
        "attempt": 1,
        "timestamp": datetime(2026, 3, 1, 12, tzinfo=UTC),
        "booked_at": datetime(2026, 3, 1, 13, tzinfo=UTC),
        "endpoint": "/v1/chat/completions",
        "lane": "direct",
        "stream": False,
        "requested_model": "gpt-4o",
        "model": "gpt-4o",
        "provider": "openai",
        "upstream_id": "chatcmpl-1",
        "upstream_request_id": "req-1",
        "status_code": 200,
        "end_reason": "complete",
        **dict.fromkeys(CLASSES, 0),
        "usage_source": "provider",
        "cost_nano_usd": 0,
        "cost_source": "priced",
        "price_version": "file:gpt-4o@1a2b3c4d",
        "latency_ms": 100.0,
        "ttft_ms": None,
        "user": "ann",
        "team": "",
        "key_id": "key1",
        "agent": "",
        "session": "",
        "end_user": "",
        "tags": [],
        "request_metadata": "",
    }
    return {**row, **values}


def write_rows(engine: Engine, rows: Iterable[Row]) -> None:
    """Into the ledger alone, without roll-ups."""
    stored = [{**row, "tags": json.dumps(row["tags"])} for row in rows]
    tags = [{"tag": tag, "usage_id": row["id"]} for row in rows for tag in row["tags"]]
    with transaction(engine) as session:
        session.execute(insert(TokenUsage), stored)
        if tags:
            session.execute(insert(TokenUsageTag), tags)


def write_hours(engine: Engine, rows: Iterable[Row]) -> None:
    """The hourly sums of `rows`."""
    hours: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        hour = row["timestamp"].replace(minute=0, second=0, microsecond=0)
        key = (hour, *(row[n] for n in ("key_id", "user", "team", "agent", "model", "provider", "end_reason")))
        sums = hours.setdefault(key, dict.fromkeys(_SUM_NAMES, 0))
        for name, value in _contribution(row).items():
            sums[name] += value
    names = ("hour", "key_id", "user_id", "team_id", "agent", "model", "provider", "outcome")
    with transaction(engine) as session:
        session.execute(
            insert(UsageHourly), [{**dict(zip(names, key, strict=True)), **sums} for key, sums in hours.items()]
        )


_LATENCIES = [f"latency_{number:02d}" for number in range(24)]
_SUM_NAMES = ("attempts", "calls", "errors", "unpriced_calls", *CLASSES, "cost_nano_usd", *_LATENCIES)


def _contribution(row: Row) -> dict[str, int]:
    last = int(row["id"] == row["call_id"])
    number = next((n for n in range(23) if row["latency_ms"] <= 2 * 1.75**n), 23)
    return {
        "attempts": 1,
        "calls": last,
        "errors": last * (row["end_reason"] in ERRORS),
        "unpriced_calls": last * (row["cost_source"] == "unpriced"),
        **{name: row[name] for name in CLASSES},
        "cost_nano_usd": row["cost_nano_usd"] or 0,
        _LATENCIES[number]: last,
    }


@pytest.fixture
def row() -> Callable[..., Row]:
    """`row(id, **values)`: a complete ledger row."""
    return ledger_row


@pytest.fixture
def write(engine: Engine) -> Callable[[list[Row]], None]:
    """Rows into the ledger and, summed up by the hour, into the roll-ups."""

    def both(rows: list[Row]) -> None:
        write_rows(engine, rows)
        write_hours(engine, rows)

    return both


@pytest.fixture
def contribution() -> Callable[[Row], dict[str, int]]:
    """What one row adds to the sums."""
    return _contribution
