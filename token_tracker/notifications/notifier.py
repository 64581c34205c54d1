"""Looks at the books once a second and sets the outbox to work, while this worker is the one at work."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from token_tracker.config.paths import webhook_secret
from token_tracker.config.values import Settings
from token_tracker.database.models import AlertRule, BudgetAlert, Report
from token_tracker.database.session import reading, transaction
from token_tracker.domain.alert_flow import Observation
from token_tracker.domain.alert_kinds import EXCEEDED
from token_tracker.notifications.channels import Channel
from token_tracker.notifications.channels.apprise import AppriseChannel
from token_tracker.notifications.channels.smtp import SmtpChannel
from token_tracker.notifications.channels.webhook import SlackChannel, WebhookChannel
from token_tracker.notifications.outbox import Drain
from token_tracker.services import alert_book, alert_digest, alert_reach, alert_rules, alert_watch, budget_alerts
from token_tracker.services.alert_watch import Look
from token_tracker.services.outage import Attempts, Outage

log = logging.getLogger("token_tracker.notifications")

LOOK_S = 1.0
CLOCKS_APART = timedelta(seconds=30)  # counters carry the time of the recorder that wrote them
ALL_EVERY = timedelta(minutes=1)  # windows that ended, limits that were raised
RULE_EVERY = timedelta(minutes=1)
STOP_WITHIN_S = 3.0


class Notifier:
    """Finds and sends, one step after the other."""

    def __init__(self, engine: Engine, drain: Drain) -> None:
        self._engine, self._drain = engine, drain
        self._looked_at_all: datetime | None = None
        self._since: datetime | None = None
        self._due: dict[str, datetime] = {}
        self._away_s = 0

    def step(self, at: datetime) -> None:
        """Find what is to be told, write it to the outbox, and send what is due."""
        self.look(at)
        self.watch(at)
        self._drain.start_due()

    def look(self, at: datetime) -> int:
        """At budgets; how many new messages there are."""
        is_full = self._looked_at_all is None or not self._looked_at_all <= at < self._looked_at_all + ALL_EVERY
        since = None if is_full else at - CLOCKS_APART
        with reading(self._engine) as session:
            found = budget_alerts.find(session, at=at, changed_since=since)
        new = 0
        if found:
            with transaction(self._engine) as session:  # found again: what was read may have changed
                found = budget_alerts.find(session, at=at, changed_since=since)
                new = budget_alerts.write(session, found, at=at)
        if is_full:
            self._looked_at_all = at
        return new

    def watch(self, at: datetime) -> int:
        """The rule whose turn it is, each once a minute: one a step, so that none delays what budgets have to say. How
        many new messages there are."""
        self._since = self._since or at
        with reading(self._engine) as session:
            rule = self._next_rule(session, at)
            if rule is None:
                return self._collect(session, at)
            look = Look(at, self._since, {"database": self._away_s})
            seen = alert_watch.observe(session, rule, look)
            has_steps = bool(alert_book.steps(session, rule, seen, at=at))
        self._due[rule.id] = at + RULE_EVERY
        if rule.kind == "store.away":
            self._away_s = 0
        if not has_steps:
            return 0
        with transaction(self._engine) as session:
            return alert_book.advance(session, rule, seen, at=at, facts=lambda each: _named(session, rule, each))

    def was_away(self, for_s: int) -> None:
        """The database did not answer for so long; told once it does."""
        self._away_s = max(self._away_s, for_s)

    def run(self, stop: threading.Event, is_active: Callable[[], bool]) -> None:
        """Until `stop`, whatever the database does meanwhile."""
        attempts = Attempts(Outage("alerts wait for it"), "alerts")
        answered_s = time.monotonic()
        while not stop.is_set():
            with attempts:
                if is_active():
                    self.step(datetime.now(UTC))
            if not attempts.wait_s:
                self.was_away(int(time.monotonic() - answered_s))
                answered_s = time.monotonic()
            stop.wait(attempts.wait_s or LOOK_S)
        self._drain.stop(STOP_WITHIN_S)

    def _next_rule(self, session: Session, at: datetime) -> AlertRule | None:
        enabled = select(AlertRule).where(AlertRule.enabled, AlertRule.kind != EXCEEDED)
        due = [rule for rule in session.scalars(enabled) if self._due.get(rule.id, at) <= at]
        return min(due, key=lambda rule: (self._due.get(rule.id, at), rule.id), default=None)

    def _collect(self, session: Session, at: datetime) -> int:
        if not alert_digest.is_due(session, at=at):
            return 0
        with transaction(self._engine) as writing:
            return alert_digest.collect(writing, at=at)


def _named(session: Session, rule: AlertRule, seen: Observation) -> Mapping[str, Any]:
    if "name" not in seen.facts:
        return seen.facts
    return {**seen.facts, "name": alert_rules.subject_name(session, rule, seen.subject)}


def make(engine: Engine, settings: Settings) -> Notifier:
    """With all channels, by the settings."""
    url = settings.dashboard_url or settings.dashboard.url
    channels: dict[str, Channel] = {
        "email": SmtpChannel(settings.mail, url),
        "slack": SlackChannel(url),
        "webhook": WebhookChannel(webhook_secret(settings)),
        "apprise": AppriseChannel(url),
    }
    return Notifier(engine, Drain(engine, channels, lambda: datetime.now(UTC)))


def warn_of_unreachable(engine: Engine, settings: Settings) -> None:
    """Says at start what would reach nobody, and what to do; the API and the dashboard say it too."""
    with transaction(engine) as session:
        alert_reach.note_mail(session, settings.mail)
        found = alert_reach.unreachable(session)
        waiting = session.scalar(select(func.count()).where(BudgetAlert.email.is_not(None))) or 0
        reports = session.scalar(select(func.count()).select_from(Report)) or 0
    if (waiting or reports) and not settings.mail.server:
        counts = ((waiting, "budget alert"), (reports, "report"))
        what = " and ".join(f"{count} {name}{'s' * (count > 1)}" for count, name in counts if count)
        log.warning("no mail goes out for %s: set SMTP_SERVER and SMTP_FROM_ADDRESS", what)
    for problem, names in found.items():
        log.warning("%s: %s", alert_reach.named(names), problem)
