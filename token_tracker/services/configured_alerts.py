"""The alert rules and channels of proxy.yaml, and the rules that exist without it, as rows of source 'config'."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from token_tracker.config import recipients
from token_tracker.config.values import AlertRuleEntry, AlertSettings, ChannelEntry, Mail
from token_tracker.database.models import AlertChannel, AlertRule
from token_tracker.domain.alert_fields import FIELDS
from token_tracker.services import alert_reach, audit
from token_tracker.services.configured_rules import SOURCE
from token_tracker.services.fingerprints import Fingerprints


def follow_alerts(session: Session, settings: AlertSettings, mail: Mail, at: datetime) -> list[str]:
    """Make the rows follow the file; warns of entries that a rule made through the API stands against."""
    _follow_channels(session, {entry.name: entry for entry in settings.channels}, at)
    alert_reach.note_settings(session, settings, mail)
    return list(_follow_rules(session, {entry.name: entry for entry in settings.rules}, at))


def _follow_channels(session: Session, entries: dict[str, ChannelEntry], at: datetime) -> None:
    fingerprints = Fingerprints(session)
    rows = {row.name: row for row in session.scalars(select(AlertChannel))}
    for name in sorted(rows.keys() | entries.keys()):
        row, entry = rows.get(name), entries.get(name)
        before, after = (None if each is None else _channel_public(each, fingerprints) for each in (row, entry))
        verb = "create" if row is None else "delete" if entry is None else "update"
        audit.record(session, audit.CONFIGURATION, f"alert_channel.{verb}", name, at=at, before=before, after=after)
        if entry is not None:
            session.merge(AlertChannel(**_fields(entry)))
        else:
            session.delete(row)


def _channel_public(channel: AlertChannel | ChannelEntry, fingerprints: Fingerprints) -> dict[str, object]:
    (field,) = (field for field, kind in recipients.CHANNELS.items() if kind == channel.type)
    mark = "" if field == "email" else fingerprints.of(channel.recipient)
    return {"type": channel.type, "recipient": f"{recipients.shown(field, channel.recipient)}{mark}"}


def _follow_rules(session: Session, entries: dict[str, AlertRuleEntry], at: datetime) -> Iterator[str]:
    rows = {row.name: row for row in session.scalars(select(AlertRule))}
    for name, row in rows.items():
        if row.source == SOURCE and name not in entries:
            audit.record(session, audit.CONFIGURATION, "alert_rule.delete", row.id, at=at, before=_public(row))
            session.delete(row)
    for name, entry in entries.items():
        found = rows.get(name)
        if found is None:
            session.add(made := AlertRule(id=new_id(), source=SOURCE, created_at=at, **_fields(entry)))
            session.flush()
            audit.record(session, audit.CONFIGURATION, "alert_rule.create", made.id, at=at, after=_public(made))
        elif found.source == SOURCE:
            before = _public(found)
            for field, value in _fields(entry).items():
                setattr(found, field, value)
            after = _public(found)
            audit.record(session, audit.CONFIGURATION, "alert_rule.update", found.id, at=at, before=before, after=after)
        else:
            yield (
                f"The alert rule '{name}' ({found.id}) was made through the API and stands; the one of the same name "
                "in proxy.yaml is ignored. Rename one of the two."
            )


def new_id() -> str:
    return f"rule_{secrets.token_hex(12)}"


def _public(rule: AlertRule) -> dict[str, object]:
    return {name: getattr(rule, name) for name in FIELDS}


def _fields(entry: object) -> dict[str, object]:
    return asdict(entry)  # type: ignore[call-overload, no-any-return]
