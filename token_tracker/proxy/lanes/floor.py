"""What all calls of a worker share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from token_tracker.config.values import GatewayOptions
from token_tracker.proxy.call import Journal
from token_tracker.proxy.lanes.late import EvidenceSource
from token_tracker.proxy.lanes.sending import Pool
from token_tracker.proxy.lanes.unreachable import Complaints

if TYPE_CHECKING:
    from token_tracker.proxy.lanes.exchange import Exchange


@dataclass(slots=True)
class Floor:
    """`in_flight`: every attempt that runs; `drains`: how many of them only read on for clients that left;
    `background`: rows whose usage is still awaited."""

    pool: Pool
    journal: Journal
    options: GatewayOptions
    evidence: EvidenceSource | None = None
    in_flight: set[Exchange] = field(default_factory=set)
    drains: int = 0
    complaints: Complaints = field(default_factory=Complaints)
    background: set[asyncio.Task[None]] = field(default_factory=set)
