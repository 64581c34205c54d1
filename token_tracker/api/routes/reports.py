"""Reports by mail. The first comes at once, of the latest period that is over."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from token_tracker.api.routing import Call, Route
from token_tracker.api.schemas import Identity, Input, PageQuery, given
from token_tracker.database.models import Report
from token_tracker.database.session import reading, transaction
from token_tracker.domain.access import Permission
from token_tracker.services import reports
from token_tracker.services.usage import format_time

ReportName = Annotated[str, Meta(min_length=1, max_length=100)]
Period = Literal["daily", "weekly", "monthly"]
Hour = Annotated[int, Meta(ge=0, le=23, description="of the day after the period, by the clocks of `timezone`")]
Recipients = Annotated[list[Annotated[str, Meta(max_length=320)]], Meta(min_length=1, max_length=100)]


class ReportChange(Input, frozen=True):
    """What is left out stays. `team` null: everybody's spend."""

    name: ReportName | UnsetType = UNSET
    period: Period | UnsetType = UNSET
    recipients: Recipients | UnsetType = UNSET
    timezone: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET
    hour: Hour | UnsetType = UNSET
    team: Identity | UnsetType | None = UNSET

    def fields(self) -> dict[str, Any]:
        return given(self)


class ReportSave(ReportChange, frozen=True, kw_only=True):
    """What is left out is UTC, 7 o'clock, everybody."""

    name: ReportName
    period: Period
    recipients: Recipients


class ReportShown(Struct, frozen=True):
    """`source` config: it comes from proxy.yaml and is changed there."""

    id: str
    name: str
    period: str
    timezone: str
    hour: int
    team: str | None
    recipients: list[str]
    source: str
    created_at: str
    updated_at: str | None


class ReportPage(Struct, frozen=True):
    items: list[ReportShown]
    next_cursor: str | None


def list_reports(call: Call, query: PageQuery) -> ReportPage:
    with reading(call.engine) as session:
        page = reports.list_reports(session, limit=query.limit, cursor=query.cursor)
        return ReportPage([_shown(report) for report in page.items], page.next_cursor)


def create(call: Call, body: ReportSave) -> ReportShown:
    with transaction(call.engine) as session:
        return _shown(reports.create(session, fields=body.fields(), actor=call.actor, at=call.at))


def show(call: Call, report_id: str) -> ReportShown:
    with reading(call.engine) as session:
        return _shown(reports.get(session, report_id=report_id))


def change(call: Call, report_id: str, body: ReportChange) -> ReportShown:
    with transaction(call.engine) as session:
        call.expect(_shown(reports.get(session, report_id=report_id)))
        changed = reports.update(session, report_id=report_id, changes=body.fields(), actor=call.actor, at=call.at)
        return _shown(changed)


def delete(call: Call, report_id: str) -> None:
    with transaction(call.engine) as session:
        reports.delete(session, report_id=report_id, actor=call.actor, at=call.at)


def _shown(report: Report) -> ReportShown:
    return ReportShown(
        id=report.id,
        name=report.name,
        period=report.period,
        timezone=report.timezone,
        hour=report.hour,
        team=report.team or None,
        recipients=report.recipients,
        source=report.source,
        created_at=format_time(report.created_at),
        updated_at=None if report.updated_at is None else format_time(report.updated_at),
    )


READ, MANAGE = Permission.ALERTS_READ, Permission.ALERTS_MANAGE
ONE = "/api/reports/{report_id}"
ROUTES = (
    Route("GET", "/api/reports", list_reports, READ, "Reports by mail, newest first", ReportPage, query=PageQuery),
    Route(
        "POST",
        "/api/reports",
        create,
        MANAGE,
        "Send a report by mail from now on",
        ReportShown,
        201,
        body=ReportSave,
        errors=(409,),
    ),
    Route("GET", ONE, show, READ, "One report", ReportShown),
    Route("PATCH", ONE, change, MANAGE, "Change a report", ReportShown, body=ReportChange, errors=(409, 412)),
    Route("DELETE", ONE, delete, MANAGE, "Send a report no more", status=204, errors=(409,)),
)
