"""What is to be told, before it takes the form of a channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Letter:
    """`id` stays the same over all attempts; `threshold` '' for none; `facts` as `services.alert_facts` makes them."""

    id: str
    event: str
    threshold: str
    recipient: str
    created_at: datetime
    facts: Mapping[str, Any]
