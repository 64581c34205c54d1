"""Reports by mail as the API sets them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from token_tracker.config.mail import is_address
from token_tracker.database.models import Report
from token_tracker.domain.problems import Conflict, Invalid, KeptInFile, NotFound
from token_tracker.domain.report_times import DEFAULT_HOUR, PERIODS
from token_tracker.services import audit, budget_fields, checks
from token_tracker.services.accounts import find_team
from token_tracker.services.audit import Actor
from token_tracker.services.budgets import API
from token_tracker.services.configured_reports import new_id
from token_tracker.services.configured_rules import SOURCE
from token_tracker.services.pages import DEFAULT_LIMIT, Page, newest_first

MOST_REPORTS, MOST_RECIPIENTS = 200, 100
FIELDS = ("name", "period", "timezone", "hour", "team", "recipients")
_DEFAULTS: Mapping[str, Any] = {"timezone": "UTC", "hour": DEFAULT_HOUR, "team": ""}


def create(session: Session, *, fields: Mapping[str, Any], actor: Actor, at: datetime) -> Report:
    """`name`, `period` and `recipients` are required; `team` '' or None for everybody. Raises Invalid, Conflict."""
    given = {**_DEFAULTS, **fields}
    columns = _checked(session, {name: given.get(name) for name in FIELDS})
    if (session.scalar(select(func.count()).select_from(Report)) or 0) >= MOST_REPORTS:
        raise Conflict(f"There are {MOST_REPORTS} reports, and there can be no more: delete one first.")
    report = Report(id=new_id(), source=API, created_at=at, **columns)
    session.add(report)
    _flush(session, report.name)
    audit.record(session, actor, "report.create", report.id, at=at, after=public(report))
    return report


def get(session: Session, *, report_id: str) -> Report:
    """Raises NotFound."""
    found = session.get(Report, report_id) if checks.may_be_stored(report_id) else None
    if found is None:
        raise NotFound("report", report_id)
    return found


def list_reports(session: Session, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> Page[Report]:
    """All, those of proxy.yaml included, newest first. Raises Invalid (limit, cursor)."""
    return newest_first(session, select(Report), Report, limit=limit, cursor=cursor)


def update(session: Session, *, report_id: str, changes: Mapping[str, Any], actor: Actor, at: datetime) -> Report:
    """Change the fields given. Raises NotFound, KeptInFile, Invalid, Conflict (the name is taken)."""
    report = _own(session, report_id)
    before = public(report)
    for name, value in _checked(session, {**before, **changes}).items():
        setattr(report, name, value)
    if audit.record(session, actor, "report.update", report.id, at=at, before=before, after=public(report)):
        report.updated_at = at
    _flush(session, report.name)
    return report


def delete(session: Session, *, report_id: str, actor: Actor, at: datetime) -> None:
    """What it has told stays among the deliveries. Raises NotFound, KeptInFile."""
    report = _own(session, report_id)
    audit.record(session, actor, "report.delete", report.id, at=at, before=public(report))
    session.delete(report)
    session.flush()


def public(report: Report) -> dict[str, Any]:
    """What the audit log says of a report."""
    return {name: getattr(report, name) for name in FIELDS}


def _own(session: Session, report_id: str) -> Report:
    report = get(session, report_id=report_id)
    if report.source == SOURCE:
        raise KeptInFile("report", report_id)
    return report


def _flush(session: Session, name: str) -> None:
    try:
        session.flush()
    except IntegrityError:
        raise Conflict(f"There is a report '{name}' already: change that one, or take another name.") from None


def _checked(session: Session, fields: Mapping[str, Any]) -> dict[str, Any]:
    """As columns. Raises Invalid with all problems."""
    timezone, problems = budget_fields.time_zone(fields["timezone"])
    problems += checks.text("name", fields["name"], at_most=100)
    if fields["period"] not in PERIODS:
        problems.append(("period", f"must be one of {', '.join(PERIODS)}"))
    problems += checks.whole("hour", fields["hour"], least=0, most=23)
    team = fields["team"] or ""
    if team and (not checks.may_be_stored(team) or find_team(session, team) is None):
        problems.append(("team", f"there is no team '{team}'"))
    recipients = fields["recipients"]
    found = checks.texts("recipients", recipients, each_at_most=320, at_most=MOST_RECIPIENTS)
    if not found and not all(map(is_address, recipients)):
        found = [("recipients", "must be addresses like someone@example.com")]
    if problems + found:
        raise Invalid(problems + found)
    return {**fields, "timezone": timezone, "team": team, "recipients": list(dict.fromkeys(recipients))}
