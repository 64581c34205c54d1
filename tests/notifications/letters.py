"""Letters to send in tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from token_tracker.notifications.letter import Letter

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
FACTS: dict[str, Any] = {
    "budget_id": "budget_1",
    "budget": "Daily cap",
    "scope": {"type": "team", "id": "search"},
    "model": None,
    "enforcement": "hard",
    "period": "daily",
    "timezone": "Europe/Berlin",
    "unit": "usd",
    "spent": "8.400000000",
    "limit": "10.000000000",
    "percent": "84.0",
    "window_start": "2026-03-09T23:00:00Z",
    "window_end": "2026-03-10T23:00:00Z",
    "at": "2026-03-10T12:00:00Z",
    "forecast_ends_at": "2026-03-10T14:28:00Z",
    "top_models": [["gpt-4o", "6.100000000"], ["claude-sonnet-4-5", "2.000000000"]],
    "top_users": [["ann", "5.000000000"], ["ben", "3.400000000"]],
}


def a_letter(event: str = "budget.threshold", recipient: str = "ops@example.com", **facts: Any) -> Letter:
    known = {"asked_by": "admin"} if event == "test" else {**FACTS, **facts}
    return Letter("a1b2c3", event, "80" if event == "budget.threshold" else "", recipient, NOON, known)
