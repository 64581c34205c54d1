"""Ledger rows for tests of the books' services."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from token_tracker.services.booking import LedgerRow

NOON = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)


def a_row(number: int, timestamp: datetime = NOON, **fields: Any) -> LedgerRow:
    """A call of 10 + 3 tokens for 40 nano-dollars that took 100 ms."""
    row: dict[str, Any] = {
        "id": f"{number:032x}",
        "call_id": f"{number:032x}",
        "attempt": 1,
        "timestamp": timestamp,
        "endpoint": "/v1/chat/completions",
        "lane": "direct",
        "stream": False,
        "requested_model": "fast",
        "model": "gpt-4o",
        "model_group": "fast",
        "provider": "openai",
        "upstream_id": "",
        "upstream_request_id": "",
        "status_code": 200,
        "end_reason": "complete",
        "input_tokens": 10,
        "cache_read_tokens": 0,
        "cache_write_5m_tokens": 0,
        "cache_write_1h_tokens": 0,
        "input_audio_tokens": 0,
        "input_image_tokens": 0,
        "output_tokens": 3,
        "reasoning_tokens": 0,
        "output_audio_tokens": 0,
        "output_image_tokens": 0,
        "usage_source": "provider",
        "cost_nano_usd": 40,
        "cost_source": "priced",
        "price_version": "",
        "held_nano_usd": 0,
        "held_tokens": 0,
        "unproven_nano_usd": 0,
        "unproven_tokens": 0,
        "overrun_nano_usd": 0,
        "request_bytes": 0,
        "response_bytes": 0,
        "latency_ms": 100.0,
        "ttft_ms": None,
        "user_id": "ann",
        "team_id": "",
        "key_id": "k",
        "agent": "",
        "session_id": "",
        "end_user": "",
        "tags": (),
        "request_metadata": "",
    }
    assert fields.keys() <= row.keys()
    return row | fields
