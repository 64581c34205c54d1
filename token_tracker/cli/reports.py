"""`reports`: what was spent, by mail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import click
from sqlalchemy.orm import Session

from token_tracker.cli import shown
from token_tracker.cli.context import actor, books, now, say, say_if_no_mail
from token_tracker.cli.keys import every
from token_tracker.cli.meant import Candidate, by_id
from token_tracker.cli.options import as_json
from token_tracker.database.models import Report
from token_tracker.database.session import reading, transaction
from token_tracker.domain.report_times import PERIODS
from token_tracker.services import reports as service
from token_tracker.services.pages import MAX_LIMIT

_COLUMNS = ("id", "name", "period", "timezone", "hour", "team", "recipients", "source")
_OPTIONS = (
    click.option("--timezone", help="Whose days: Europe/Berlin. Default: UTC."),
    click.option("--hour", type=int, help="Of the day after the period, by those clocks. Default: 7."),
    click.option("--team", help="Only what this team spent; '' for everybody."),
)


def _details(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group(no_args_is_help=True)
def reports() -> None:
    """Reports by mail: create, list, change, delete."""


@reports.command("list")
@as_json
def list_(as_json: bool) -> None:
    """List reports, newest first."""
    with books() as engine, reading(engine) as session:
        found = every(lambda cursor: service.list_reports(session, limit=MAX_LIMIT, cursor=cursor))
        items = [_document(report) for report in found]
    shown.listed(items, _COLUMNS, as_json)


@reports.command()
@click.argument("name")
@click.argument("period", type=click.Choice(sorted(PERIODS)))
@click.argument("recipients", nargs=-1, required=True)
@_details
@as_json
def create(name: str, period: str, recipients: tuple[str, ...], as_json: bool, **details: Any) -> None:
    """Tell RECIPIENTS what was spent, each PERIOD: reports create Core weekly ana@example.com --team core"""
    fields = {"name": name, "period": period, "recipients": list(recipients)} | _given(details)
    with books() as engine, transaction(engine) as session:
        document = _document(service.create(session, fields=fields, actor=actor(), at=now()))
    _tell(document, "made; the first comes at once, of the latest period that is over", as_json)


@reports.command()
@click.argument("report_id")
@click.option("--name", help="For people.")
@click.option("--period", type=click.Choice(sorted(PERIODS)), help="How often.")
@click.option("--to", "recipients", multiple=True, help="All that it goes to from now on; repeat.")
@_details
@as_json
def change(report_id: str, as_json: bool, **details: Any) -> None:
    """Change a report; what is not named stays."""
    changes = _given(details | {"recipients": list(details["recipients"]) or None})
    if not changes:
        raise click.UsageError("Say what to change: --name, --period, --to, --timezone, --hour or --team.")
    with books() as engine, transaction(engine) as session:
        with by_id("report", report_id, lambda: _called(session)):
            report = service.update(session, report_id=report_id, changes=changes, actor=actor(), at=now())
        document = _document(report)
    _tell(document, "changed", as_json)


@reports.command()
@click.argument("report_id")
def delete(report_id: str) -> None:
    """Delete a report."""
    with books() as engine, transaction(engine) as session, by_id("report", report_id, lambda: _called(session)):
        service.delete(session, report_id=report_id, actor=actor(), at=now())
    say(f"The report {report_id} is deleted.")


def _called(session: Session) -> Iterator[Candidate]:
    for each in every(lambda cursor: service.list_reports(session, limit=MAX_LIMIT, cursor=cursor)):
        yield each.id, each.period, (each.name,)


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _document(report: Report) -> dict[str, Any]:
    return {"id": report.id, "source": report.source} | service.public(report)


def _tell(document: dict[str, Any], done: str, as_json: bool) -> None:
    if as_json:
        shown.document(document)
    else:
        say(f"The report '{document['name']}' ({document['id']}) is {done}.")
    say_if_no_mail()
