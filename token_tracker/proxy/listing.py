"""GET /v1/models and /v1/models/{id}: the models that a key may use, in the shape of the client that asks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from token_tracker.proxy.upstreams import Upstreams

PATH = "/v1/models"


def model_list(upstreams: Upstreams, allowed: Callable[[str], bool], since_s: int, anthropic: bool) -> dict[str, Any]:
    """All names that can be listed; wildcards cannot, though names behind them are served."""
    names = [name for name in upstreams.names() if allowed(name)]
    if anthropic:
        entries = [_anthropic(name, since_s) for name in names]
        return {
            "data": entries,
            "has_more": False,
            "first_id": names[0] if names else None,
            "last_id": names[-1] if names else None,
        }
    return {"object": "list", "data": [_openai(upstreams, name, since_s) for name in names]}


def one_model(
    upstreams: Upstreams, name: str, allowed: Callable[[str], bool], since_s: int, anthropic: bool
) -> dict[str, Any] | None:
    """One model, also one behind a wildcard; None if it is not offered or the key may not use it."""
    if not allowed(name) or not upstreams.deployments(name):
        return None
    return _anthropic(name, since_s) if anthropic else _openai(upstreams, name, since_s)


def _openai(upstreams: Upstreams, name: str, since_s: int) -> dict[str, Any]:
    deployments = upstreams.deployments(name)
    owner = deployments[0].provider if deployments else ""
    return {"id": name, "object": "model", "created": since_s, "owned_by": owner}


def _anthropic(name: str, since_s: int) -> dict[str, Any]:
    created = datetime.fromtimestamp(since_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": "model", "id": name, "display_name": name, "created_at": created}
