"""Which reports are to be told now, and to whom: each period once to each recipient."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from token_tracker.database.models import AlertDelivery, Report
from token_tracker.domain.report_times import Period, latest
from token_tracker.services import outbox, rollups
from token_tracker.services.outbox import Notice
from token_tracker.services.report_figures import Wanted, figures

RULE = "report"


@dataclass(frozen=True, slots=True)
class Due:
    """A report that `recipients` have not been told."""

    report: Report
    period: Period
    recipients: tuple[str, ...]


def due(session: Session, *, at: datetime) -> list[Due]:
    """Of each report the latest period that is over, also where it was missed or the recipient is new; none that was
    over before the first call."""
    reports = session.scalars(select(Report).order_by(Report.id)).all()
    first = rollups.first_hour(session) if reports else None
    found = []
    for report in reports:
        period = latest(report.period, report.timezone, report.hour, at)
        if first is None or period.end <= first:
            continue
        missing = {notice.id: notice.recipient for notice in _notices(report, period, report.recipients)}
        told = session.scalars(select(AlertDelivery.id).where(AlertDelivery.id.in_(missing)))
        for delivery_id in told:
            missing.pop(delivery_id, None)
        if missing:
            found.append(Due(report, period, tuple(missing.values())))
    return found


def compose(session: Session, each: Due, *, at: datetime) -> list[Notice]:
    """One message for each recipient."""
    report = each.report
    wanted = Wanted(report.name, report.period, report.timezone, report.team)
    return _notices(report, each.period, each.recipients, figures(session, wanted, each.period, at=at))


def write(session: Session, notices: list[Notice], *, at: datetime) -> int:
    """Into the outbox, in the caller's transaction; how many were not there yet."""
    return len(outbox.enqueue(session, notices, at=at))


def _notices(
    report: Report, period: Period, recipients: list[str] | tuple[str, ...], facts: dict[str, object] | None = None
) -> list[Notice]:
    return [
        Notice(
            rule=RULE,
            event=f"{RULE}.{report.period}",
            subject=report.id,
            window=f"{report.period} {period.first}",
            threshold="",
            channel="email",
            recipient=recipient,
            facts=facts or {},
        )
        for recipient in recipients
    ]
