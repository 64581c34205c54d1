"""Refused calls, added up before they are journalled: a flood of them makes a handful of records, not one each."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable

from token_tracker.proxy.books.journal import JournalUnavailable
from token_tracker.proxy.books.records import Refused

log = logging.getLogger("token_tracker.gateway")

FLUSH_S = 2.0  # what a killed gateway may lose of these counts
KINDS_MAX = 500  # different ones between two flushes; more are counted by code alone
HOUR_US = 3_600_000_000


class RefusalCounts:
    """`keep` writes a record to the journal, and raises JournalUnavailable: then the counts wait. Each record has a
    serial of its own under the name of its `writer`, so that the books take it once."""

    def __init__(self, keep: Callable[[Refused], None], writer: str) -> None:
        self._keep, self._writer, self._serial = keep, writer, 0
        self._counts: Counter[Refused] = Counter()

    def add(self, refused: Refused) -> None:
        """Count one, whose `calls` is 0 and whose hour is any time within it."""
        if refused not in self._counts and len(self._counts) >= KINDS_MAX:
            refused = Refused(refused.hour_us, refused.code, refused.status, "", "", "", "", "", 0)
        self._counts[refused] += 1

    def flush(self) -> None:
        """Write what was counted."""
        for refused, calls in list(self._counts.items()):
            # By the clock: a name that chance gives to a second worker begins above the first one's.
            self._serial = max(self._serial + 1, time.time_ns() // 1000)
            try:
                self._keep(refused.counted(calls, self._writer, self._serial))
            except JournalUnavailable:
                return
            del self._counts[refused]

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S)
            self.flush()
