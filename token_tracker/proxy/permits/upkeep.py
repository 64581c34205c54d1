"""What keeps a worker's gate up to date beside its calls: rules, what the books hold, signs of life."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from token_tracker.domain.limits import RENEW_S
from token_tracker.proxy.books.counters_reader import CountersReader
from token_tracker.proxy.books.snapshot import SnapshotReader
from token_tracker.proxy.gate.link import StoreUnavailable
from token_tracker.proxy.gate.store import Books
from token_tracker.proxy.permits.desk import Desk
from token_tracker.proxy.permits.restoring import left_entries

COMPARE_S = 60.0
LOOK_S = 0.5  # a change made through the API acts within 2 s in all
log = logging.getLogger("token_tracker.gateway")


@dataclass(slots=True)
class Upkeep:
    """`counters` None: the store is told by the recorder itself. `follow`: takes over what else a snapshot brings."""

    desk: Desk
    snapshot: SnapshotReader
    counters: CountersReader | None
    journal: Path
    follow: Callable[[], None] = lambda: None

    def begin(self) -> None:
        """What stands in the files, taken over before the first call: without a database, too."""
        self.snapshot.refresh()
        self.follow()
        self.desk.take_rules(self.snapshot.rules)
        books = (self.counters.read() if self.counters is not None else None) or Books()
        self.desk.gate.take_books(books)
        self.desk.gate.restore(left_entries(self.journal, books.positions))

    async def run(self) -> None:
        """Until it is cancelled."""
        beat_at_s, compare_at_s = time.monotonic() + RENEW_S, time.monotonic() + COMPARE_S
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._look()
                if time.monotonic() >= beat_at_s:
                    beat_at_s = time.monotonic() + RENEW_S
                    self.desk.gate.heartbeat(time.time_ns() // 1000)
                if time.monotonic() >= compare_at_s:
                    compare_at_s = time.monotonic() + COMPARE_S
                    await self.desk.gate.compare()
            except StoreUnavailable:  # which has been said already
                continue
            except Exception:
                log.exception("the gate could not be brought up to date; it is tried again")

    async def _look(self) -> None:
        """Rules first: what the books hold of a new one is then known to be its."""
        if self.snapshot.refresh():
            self.follow()
            self.desk.take_rules(self.snapshot.rules)
        if self.counters is not None and (books := await self.counters.refresh()) is not None:
            self.desk.gate.take_books(books)
