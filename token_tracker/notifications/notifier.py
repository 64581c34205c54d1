"""Looks at the books once a second and sets the outbox to work, while this worker is the one at work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, func, select

from token_tracker.config.paths import webhook_secret
from token_tracker.config.values import Settings
from token_tracker.database.models import BudgetAlert
from token_tracker.database.session import reading, transaction
from token_tracker.notifications.channels import Channel
from token_tracker.notifications.channels.smtp import SmtpChannel
from token_tracker.notifications.channels.webhook import SlackChannel, WebhookChannel
from token_tracker.notifications.outbox import Drain
from token_tracker.services import budget_alerts
from token_tracker.services.outage import Attempts, Outage

log = logging.getLogger("token_tracker.notifications")

LOOK_S = 1.0
CLOCKS_APART = timedelta(seconds=30)  # counters carry the time of the recorder that wrote them
ALL_EVERY = timedelta(minutes=1)  # windows that ended, limits that were raised
STOP_WITHIN_S = 3.0


class Notifier:
    """`notify`: the address of all that no budget sends to people of its own, '' for nobody."""

    def __init__(self, engine: Engine, drain: Drain, notify: str) -> None:
        self._engine, self._drain, self._notify = engine, drain, notify
        self._looked_at_all: datetime | None = None

    def step(self, at: datetime) -> None:
        """Find what is to be told, write it to the outbox, and send what is due."""
        self.look(at)
        self._drain.start_due()

    def look(self, at: datetime) -> int:
        """How many new messages there are."""
        is_full = self._looked_at_all is None or not self._looked_at_all <= at < self._looked_at_all + ALL_EVERY
        since = None if is_full else at - CLOCKS_APART
        with reading(self._engine) as session:
            found = budget_alerts.find(session, at=at, notify=self._notify, changed_since=since)
        new = 0
        if found:
            with transaction(self._engine) as session:  # found again: what was read may have changed
                found = budget_alerts.find(session, at=at, notify=self._notify, changed_since=since)
                new = budget_alerts.write(session, found, at=at)
        if is_full:
            self._looked_at_all = at
        return new

    def run(self, stop: threading.Event, is_active: Callable[[], bool]) -> None:
        """Until `stop`, whatever the database does meanwhile."""
        attempts = Attempts(Outage("alerts wait for it"), "alerts")
        while not stop.is_set():
            with attempts:
                if is_active():
                    self.step(datetime.now(UTC))
            stop.wait(attempts.wait_s or LOOK_S)
        self._drain.stop(STOP_WITHIN_S)


def make(engine: Engine, settings: Settings) -> Notifier:
    """With all channels, by the settings."""
    url = settings.dashboard_url or settings.dashboard.url
    channels: dict[str, Channel] = {
        "email": SmtpChannel(settings.mail, url),
        "slack": SlackChannel(url),
        "webhook": WebhookChannel(webhook_secret(settings)),
    }
    return Notifier(engine, Drain(engine, channels, lambda: datetime.now(UTC)), settings.mail.recipient)


def warn_of_unreachable(engine: Engine, settings: Settings) -> None:
    """Says at start which alerts would reach nobody, and what to set."""
    if settings.mail.server:
        return
    with reading(engine) as session:
        waiting = session.scalar(select(func.count()).where(BudgetAlert.email.is_not(None))) or 0
    if waiting or settings.mail.recipient:
        log.warning("%d budget alerts go by mail, but SMTP_SERVER is not set: set it, and SMTP_FROM_ADDRESS", waiting)
