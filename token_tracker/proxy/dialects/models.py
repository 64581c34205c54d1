"""The list of models, and one of them, in OpenAI's shape and in Anthropic's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

_UNKNOWN_DATE = "1970-01-01T00:00:00Z"  # what Anthropic's API itself says where it does not know


def models_body(family: str, models: Iterable[tuple[str, str]]) -> bytes:
    """`GET /v1/models` for `family` 'openai' or 'anthropic' (who sends `anthropic-version`): all on one page.
    `models`: names and their providers, in the order to show."""
    data = [_one(family, name, provider) for name, provider in models]
    if family != "anthropic":
        return msgspec.json.encode({"object": "list", "data": data})
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return msgspec.json.encode({"data": data, "has_more": False, **ends})


def model_body(family: str, name: str, provider: str) -> bytes:
    """`GET /v1/models/{id}`."""
    return msgspec.json.encode(_one(family, name, provider))


def _one(family: str, name: str, provider: str) -> dict[str, Any]:
    if family == "anthropic":
        return {
            "type": "model",
            "id": name,
            "display_name": name,
            "created_at": _UNKNOWN_DATE,
            "lifecycle": "active",
            "deprecated_at": None,
            "retires_at": None,
        }
    return {"id": name, "object": "model", "created": 0, "owned_by": provider}
