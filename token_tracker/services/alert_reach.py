"""Whom a rule reaches: its channels' names as recipients, and what is to be done where a name reaches nobody."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from token_tracker.config.values import AlertSettings, Mail
from token_tracker.database.models import AlertChannel, AlertRule, SystemState
from token_tracker.domain.alert_fields import EMAIL

_STATE = "alerts"
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Post:
    """What the installation's settings say of outgoing messages, so that every process knows it alike."""

    has_server: bool = False
    recipient: str = ""  # NOTIFICATION_EMAIL
    digest_at: str = "08:00"
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Recipient:
    """`channel`: 'email', 'slack', 'webhook'."""

    channel: str
    address: str


def note_settings(session: Session, settings: AlertSettings, mail: Mail) -> None:
    """What proxy.yaml and the environment say."""
    _keep(session, Post(bool(mail.server), mail.recipient, settings.digest_at, settings.timezone))


def note_mail(session: Session, mail: Mail) -> None:
    """What the environment of the worker says: it sends."""
    _keep(session, replace(post_of(session), has_server=bool(mail.server), recipient=mail.recipient))


def _keep(session: Session, post: Post) -> None:
    value = json.dumps(asdict(post))
    state = session.get(SystemState, _STATE)
    if state is None:
        session.add(SystemState(name=_STATE, value=value))
    elif state.value != value:
        state.value = value
    session.flush()


def post_of(session: Session) -> Post:
    state = session.get(SystemState, _STATE)
    return Post(**json.loads(state.value)) if state is not None else Post()


class Directory:
    """All channels by name, read once."""

    def __init__(self, session: Session) -> None:
        self.post = post_of(session)
        rows = session.scalars(select(AlertChannel))
        self._by_name = {row.name: Recipient(row.type, row.recipient) for row in rows}
        if self.post.recipient:
            self._by_name[EMAIL] = Recipient(EMAIL, self.post.recipient)

    def recipients(self, names: Sequence[str]) -> list[Recipient]:
        """Each once, in the order of the names; names that are no channel reach nobody."""
        return list(dict.fromkeys(self._by_name[name] for name in names if name in self._by_name))

    def warnings(self, rule: AlertRule) -> list[str]:
        """What keeps the rule from reaching somebody, each with its remedy."""
        if not rule.enabled:
            return []
        if not rule.channels:
            return ["It names no channel, so it reaches nobody: add one to its 'channels'."]
        return [problem for name in rule.channels if (problem := self._problem(name))]

    def _problem(self, name: str) -> str:
        found = self._by_name.get(name)
        if found is None and name == EMAIL:
            return "The channel 'email' reaches nobody: set NOTIFICATION_EMAIL."
        if found is None:
            return f"There is no channel '{name}': add it under alerts.channels in proxy.yaml."
        if found.channel == EMAIL and not self.post.has_server:
            return f"The channel '{name}' cannot send mail: set SMTP_SERVER, and SMTP_FROM_ADDRESS."
        return ""


def unreachable(session: Session) -> dict[str, list[str]]:
    """What keeps rules from reaching somebody, with its remedy, and the names of the rules."""
    directory = Directory(session)
    found: dict[str, list[str]] = {}
    for rule in session.scalars(select(AlertRule).order_by(AlertRule.name)):
        for problem in directory.warnings(rule):
            found.setdefault(problem, []).append(rule.name)
    return found


def named(names: Sequence[str]) -> str:
    """`"alert rules 'Unpriced traffic' and 'Unusual spend'"`; of more than three only how many."""
    if len(names) > _MOST_NAMED:
        return f"{len(names)} alert rules"
    return f"alert rule{'s' if len(names) > 1 else ''} {' and '.join(repr(name) for name in names)}"
