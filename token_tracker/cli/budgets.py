"""`budgets`: what may be spent, and what is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click
from sqlalchemy.orm import Session

from token_tracker.cli import shown
from token_tracker.cli.context import actor, books, now, say, say_if_no_mail
from token_tracker.cli.keys import every
from token_tracker.cli.meant import Candidate, by_id, scope_name, scope_names
from token_tracker.cli.options import AHEAD, as_json, placed, scope
from token_tracker.database.models import ApiKey, Budget
from token_tracker.database.session import reading, transaction
from token_tracker.domain.money import format_usd
from token_tracker.domain.problems import Invalid
from token_tracker.domain.rules import EACH
from token_tracker.domain.windows import PERIODS
from token_tracker.services import budget_fields, budget_status
from token_tracker.services import budgets as service
from token_tracker.services.budget_status import BudgetStatus, Measure
from token_tracker.services.pages import MAX_LIMIT
from token_tracker.services.usage import format_time

_AMOUNTS = ("limit", "spent", "held", "unproven", "remaining")
_NUMBERS = ("limit", "spent", "held", "left")
_NAME_IS_MISSING = (("name", "is required"),)


@click.group(no_args_is_help=True)
def budgets() -> None:
    """Budgets: set, list, top up, delete."""


@budgets.command("list")
@as_json
def list_(as_json: bool) -> None:
    """List budgets with what is spent in their windows; those for each ('*') member by member."""
    at = now()
    with books() as engine, reading(engine) as session:
        found = every(lambda cursor: service.list_budgets(session, limit=MAX_LIMIT, cursor=cursor))
        statuses = [status for budget in found for status in _statuses(session, budget, at)]
        items = [_document(status) for status in statuses]
    if as_json:
        shown.document(items)
    else:
        headers = ("id", "name", "scope", "model", "period", "enforcement", *_NUMBERS, "")
        shown.table(headers, (row for status in statuses for row in _rows(status)), right=_NUMBERS)


def _statuses(session: Session, budget: Budget, at: datetime) -> Iterator[BudgetStatus]:
    if budget.scope_id != EACH:
        yield budget_status.status(session, budget_id=budget.id, at=at)
        return
    cursor = None
    while True:
        page = budget_status.members(session, budget_id=budget.id, at=at, limit=MAX_LIMIT, cursor=cursor)
        yield from page.items
        if (cursor := page.next_cursor) is None:
            return


def _rows(status: BudgetStatus) -> Iterator[tuple[object, ...]]:
    """One for each measure: money, tokens."""
    budget = status.budget
    name = budget.scope_id if budget.scope_id != EACH else status.member_id
    scoped = scope_name(budget.scope_type, name)
    state = "building" if status.is_building else budget.enforcement
    about = (budget.id, budget.name, scoped, budget.model, budget.period, state)
    if (usd := status.usd) is not None:
        yield (*about, *(shown.usd(each) for each in (usd.limit, usd.spent, usd.held, usd.remaining)), _bar(usd))
    if (tokens := status.tokens) is not None:
        yield (
            *about,
            *(f"{each:,}" for each in (tokens.limit, tokens.spent, tokens.held, tokens.remaining)),
            _bar(tokens),
        )


def _bar(measure: Measure) -> str:
    return shown.bar(measure.spent + measure.held + measure.unproven, measure.limit, 12)


def _document(status: BudgetStatus) -> dict[str, Any]:
    """The budget as the audit log has it, and its window's amounts by the names of the API."""
    usd, tokens = status.usd, status.tokens
    amounts: dict[str, Any] = {
        f"{name}_usd": None if usd is None else format_usd(getattr(usd, name)) for name in _AMOUNTS
    }
    amounts |= {f"{name}_tokens": None if tokens is None else getattr(tokens, name) for name in _AMOUNTS}
    end = status.window_end
    window = {"start": format_time(status.window_start), "end": None if end is None else format_time(end)}
    about = {"id": status.budget.id, "source": status.budget.source, "member_id": status.member_id or None}
    return about | budget_fields.public(status.budget) | amounts | {"window": window, "is_building": status.is_building}


@budgets.command("set")
@click.argument("of", metavar="SCOPE")
@click.argument("period", metavar="PERIOD", type=click.Choice(sorted(PERIODS)))
@click.argument("usd", required=False)
@click.option("--tokens", type=int, help="A limit of tokens, beside or instead of dollars.")
@click.option("--model", help="Only calls of this model.")
@click.option("--name", help="For people; a new budget is named by its scope.")
@click.option("--enforcement", type=click.Choice(["hard", "soft", "alert"]), help="hard (default): never overspent.")
@click.option("--timezone", help="Whose days and months: Europe/Berlin. Default: UTC.")
@click.option("--alert", "alerts", multiple=True, help="Tell somebody: 80=ops@example.com, or 80=https://… ; repeat.")
@as_json
def set_(
    of: str,
    period: str,
    usd: str | None,
    tokens: int | None,
    model: str | None,
    name: str | None,
    enforcement: str | None,
    timezone: str | None,
    alerts: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make the budget of a SCOPE and period, or change it: budgets set team:core monthly 500 --alert 80=a@example.com

    SCOPE: global, team:ID, user:ID, key:ID, agent:NAME, tag:NAME, session:ID, end_user:ID, provider:NAME or model:NAME;
    '*' as ID gives each a budget of its own. PERIOD: hourly, daily, weekly, monthly, rolling_24h, rolling_30d or total.
    """
    given = {
        "name": name,
        "limit_usd": usd,
        "limit_tokens": tokens,
        "enforcement": enforcement,
        "timezone": timezone,
        "alerts": [_alert(each) for each in alerts] or None,
    }
    fields: Any = {field: value for field, value in given.items() if value is not None}
    with books() as engine, transaction(engine) as session:
        budget, is_new = _save(session, of, period, model, fields)
        document = {"id": budget.id} | budget_fields.public(budget)
    if as_json:
        shown.document(document)
    else:
        done = "made" if is_new else "set"
        say(f"The budget '{budget.name}' ({budget.id}) is {done}; gateways follow within seconds.")
    if any("email" in each for each in fields.get("alerts", ())):
        say_if_no_mail()


def _save(session: Session, of: str, period: str, model: str | None, fields: dict[str, Any]) -> tuple[Budget, bool]:
    scope_type, scope_id = scope(of)
    about: Any = {"scope_type": scope_type, "scope_id": scope_id, "period": period, "model": model}
    try:
        return service.save(session, **about, actor=actor(), at=now(), **fields)
    except Invalid as error:
        if error.problems != _NAME_IS_MISSING:
            raise
        key = session.get(ApiKey, scope_id) if scope_type == "key" else None
        whose = of if key is None else f"key {key.name}"
        name = f"{period} of {whose}" + (f", {model}" if model else "")
        return service.save(session, **about, actor=actor(), at=now(), **fields, name=name[:200])


def _alert(text: str) -> dict[str, str]:
    threshold, separator, recipient = text.partition("=")
    if not separator:
        raise click.UsageError(f"--alert '{text}' is not like 80=ops@example.com.")
    if not recipient.startswith(("http://", "https://")):
        return {"threshold": threshold, "email": recipient}
    is_slack = recipient.startswith("https://hooks.slack.com/")
    return {"threshold": threshold, "slack_webhook" if is_slack else "webhook": recipient}


@budgets.command("top-up")
@click.argument("budget_id")
@click.argument("usd")
@click.option("--until", type=AHEAD, help="By default the end of the window.")
def top_up(budget_id: str, usd: str, until: datetime | None) -> None:
    """Raise a budget's limit by USD until then."""
    with books() as engine, transaction(engine) as session:
        with by_id("budget", budget_id, lambda: _called(session)):
            made = service.top_up(
                session, budget_id=budget_id, amount_usd=usd, until=placed(until, UTC), actor=actor(), at=now()
            )
        said = format_usd(made.amount_nano_usd)
    say(f"{said} USD more for {budget_id}; gateways follow within seconds.")


@budgets.command()
@click.argument("budget_id")
def delete(budget_id: str) -> None:
    """Delete a budget with its counters; the calls stay in the ledger."""
    with books() as engine, transaction(engine) as session, by_id("budget", budget_id, lambda: _called(session)):
        service.delete(session, budget_id=budget_id, actor=actor(), at=now())
    say(f"The budget {budget_id} is deleted.")


def _called(session: Session) -> Iterator[Candidate]:
    for each in every(lambda cursor: service.list_budgets(session, limit=MAX_LIMIT, cursor=cursor)):
        yield each.id, f"{each.period}, '{each.name}'", (each.name, *scope_names(each))
