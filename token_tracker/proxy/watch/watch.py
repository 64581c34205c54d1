"""The one place where a worker hears of its calls' ends and refusals, and what it tells of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from token_tracker.domain.errors import Refusal
from token_tracker.proxy.books.records import End, Refused
from token_tracker.proxy.books.status import STALE_S, read_recorder_status
from token_tracker.proxy.dialects import ROUTES
from token_tracker.proxy.gate.gate import Gate
from token_tracker.proxy.objects.operations import OPERATIONS
from token_tracker.proxy.subject import clean
from token_tracker.proxy.watch.call_log import CallLog
from token_tracker.proxy.watch.comparison import Comparison
from token_tracker.proxy.watch.exposition import State, exposition
from token_tracker.proxy.watch.figures import OTHER, Figures
from token_tracker.proxy.watch.refusal_counts import HOUR_US, RefusalCounts

log = logging.getLogger("token_tracker.gateway")
PATH_CHARACTERS = 128
ENDPOINTS = frozenset((*ROUTES, *(f"{each.method} {each.path}" for each in OPERATIONS)))


@dataclass(frozen=True, slots=True)
class RefusedTo:
    """Who was refused what; '' where nobody knows."""

    key_id: str = ""
    user: str = ""
    team: str = ""
    model: str = ""


@dataclass(slots=True)
class Watch:
    """`in_flight`: what runs now; `snapshot_made_at_us`: when keys and prices were published, 0: never.
    `status`: the file where the recorder says how it is."""

    in_flight: Callable[[], Collection[Any]]
    snapshot_made_at_us: Callable[[], int]
    status: Path
    reloads: Callable[[], tuple[int, bool]] = lambda: (0, True)  # how often, and whether the last one could be used
    calls: CallLog | None = None
    refusals: RefusalCounts | None = None
    gate: Gate | None = None
    figures: Figures = field(default_factory=lambda: Figures(ENDPOINTS))
    comparison: Comparison = field(default_factory=Comparison)

    def ended(self, end: End) -> None:
        """A call's row is in the journal. Never raises: the call goes on, whatever is wrong here."""
        try:
            self.figures.add(end)
            self.comparison.booked(end)
            if self.calls is not None:
                self.calls.put(end)
        except Exception:
            log.exception("call %s is booked, but missing in the metrics", end.opened.id)

    def refused(self, refusal: Refusal, path: str, request_id: str, to: RefusedTo) -> None:
        """A call was refused before anything of it was sent."""
        self.figures.refused(refusal.code, refusal.status)
        if self.refusals is not None:
            hour_us = time.time_ns() // 1000 // HOUR_US * HOUR_US
            known = path if path in ROUTES else OTHER
            self.refusals.add(
                Refused(hour_us, refusal.code, refusal.status, to.key_id, to.user, to.team, to.model, known, 0)
            )
        if self.calls is not None:
            endpoint = path if path in ROUTES else clean(path, PATH_CHARACTERS)
            who = {"key_id": to.key_id, "user": to.user, "team": to.team, "model": to.model}
            line = {"request_id": request_id, "endpoint": endpoint, "status": refusal.status, "code": refusal.code}
            self.calls.put_refusal({**line, **{name: value for name, value in who.items() if value}})

    async def metrics(self) -> bytes:
        """The text for Prometheus."""
        return await exposition(self.figures, self.comparison, self._state(time.time_ns() // 1000))

    def _state(self, now_us: int) -> State:
        reloads, is_config_ok = self.reloads()
        running, made_at_us = self.in_flight(), self.snapshot_made_at_us()
        recorder = read_recorder_status(self.status)
        is_alive = recorder is not None and now_us - recorder.updated_at_us <= STALE_S * 1_000_000
        return State(
            in_flight=len(running),
            drains=sum(each.is_draining for each in running),
            snapshot_age_s=max(0, now_us - made_at_us) / 1_000_000 if made_at_us else None,
            is_recorder_alive=is_alive,
            is_database_ok=is_alive and recorder is not None and recorder.is_database_ok,
            backlog_bytes=recorder.backlog_bytes if recorder else None,
            config_reloads=reloads,
            config_ok=is_config_ok,
            log_lines_dropped=self.calls.dropped if self.calls is not None else 0,
            store=self.gate.store_figures if self.gate is not None else None,
            unbooked=self.gate.unbooked if self.gate is not None else 0,
            counters=recorder.counters if recorder else None,
        )
