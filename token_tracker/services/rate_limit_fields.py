"""What the audit log says of a rate limit."""

from __future__ import annotations

from typing import Any

from token_tracker.database.models import RateLimit


def public(limit: RateLimit) -> dict[str, Any]:
    """JSON, as the API has it."""
    names = ("scope_type", "scope_id", "model", "unit", "period", "limit", "on_store_error")
    return {name: getattr(limit, name) for name in names}
