"""The reports of proxy.yaml as rows of source 'config'; a report that keeps its name keeps what it has told."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from token_tracker.config.values import ReportEntry
from token_tracker.database.models import Report
from token_tracker.services.accounts import find_team
from token_tracker.services.configured_rules import SOURCE


def follow_reports(session: Session, entries: Sequence[ReportEntry], at: datetime) -> list[str]:
    """Make the rows follow the entries; warns of those that a report made through the API stands against."""
    return list(_follow(session, {entry.name: entry for entry in entries}, at))


def _follow(session: Session, entries: dict[str, ReportEntry], at: datetime) -> Iterator[str]:
    rows = {row.name: row for row in session.scalars(select(Report))}
    for entry in entries.values():
        if entry.team and find_team(session, entry.team) is None:
            yield f"The report '{entry.name}' is about the team '{entry.team}', which does not exist: it has no spend."
    for name, row in rows.items():
        if row.source == SOURCE and name not in entries:
            session.delete(row)
    for name, entry in entries.items():
        found = rows.get(name)
        if found is None:
            session.add(Report(id=new_id(), source=SOURCE, created_at=at, **_columns(entry)))
        elif found.source == SOURCE:
            for column, value in _columns(entry).items():
                setattr(found, column, value)
        else:
            yield (
                f"The report '{name}' ({found.id}) was made through the API and stands; the one of the same name in "
                "proxy.yaml is ignored. Rename one of the two."
            )


def new_id() -> str:
    return f"report_{secrets.token_hex(12)}"


def _columns(entry: ReportEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "period": entry.period,
        "timezone": entry.timezone,
        "hour": entry.hour,
        "team": entry.team,
        "recipients": list(entry.recipients),
    }
