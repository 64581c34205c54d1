"""Sums as the outside sees them."""

from __future__ import annotations

from typing import Any

from token_tracker.domain.money import format_usd
from token_tracker.domain.usage import TOKEN_CLASSES
from token_tracker.services.usage_sums import Sums

_COUNTS = ("calls", "attempts", "errors", "unpriced_calls")
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def sums_document(sums: Sums) -> dict[str, Any]:
    """Counts, tokens, cost and latencies by the names of the API's summary."""
    usage = sums.usage
    return {
        **{name: getattr(sums, name) for name in _COUNTS},
        **dict(zip(TOKEN_CLASSES, usage, strict=True)),
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "cost_usd": format_usd(sums.cost_nano_usd),
        "latency_ms": {name: round(sums.latency_ms(q), 3) for name, q in _QUANTILES.items()},
    }
