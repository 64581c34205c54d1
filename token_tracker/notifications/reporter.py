"""Looks every few seconds which reports are due and writes them to the outbox, while this worker is the one at work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import Engine

from token_tracker.database.session import reading, transaction
from token_tracker.services import report_posts
from token_tracker.services.outage import Attempts, Outage

LOOK_S = 5.0


class Reporter:
    """Beside the alerts: adding up a month of a large ledger delays none of them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def look(self, at: datetime) -> int:
        """How many new messages there are."""
        new = 0
        with reading(self._engine) as session:
            found = report_posts.due(session, at=at)
        for each in found:
            with reading(self._engine) as session:
                notices = report_posts.compose(session, each, at=at)
            with transaction(self._engine) as session:
                new += report_posts.write(session, notices, at=at)
        return new

    def run(self, stop: threading.Event, is_active: Callable[[], bool]) -> None:
        """Until `stop`, whatever the database does meanwhile."""
        attempts = Attempts(Outage("reports wait for it"), "reports")
        while not stop.is_set():
            pause_s = 1.0
            with attempts:
                if is_active():
                    self.look(datetime.now(UTC))
                    pause_s = LOOK_S
            stop.wait(attempts.wait_s or pause_s)
