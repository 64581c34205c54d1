"""Budgets as the API sets them: made, changed, deleted, topped up; what is spent stays spent."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Unpack, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from token_tracker.database.models import Budget, BudgetAlert, BudgetTopUp
from token_tracker.database.models.rules import ALERT_COLUMNS
from token_tracker.domain.access import EVERYTHING, Scope
from token_tracker.domain.money import format_usd
from token_tracker.domain.problems import Invalid, KeptInFile, NotFound, Unchangeable
from token_tracker.services import alert_book, audit, budget_fields, checks, counters, scopes
from token_tracker.services.audit import Actor
from token_tracker.services.budget_fields import AlertFields, BudgetFields
from token_tracker.services.configured_rules import SOURCE
from token_tracker.services.counters import measures_of
from token_tracker.services.pages import DEFAULT_LIMIT, Page, newest_first
from token_tracker.services.rule_reach import within
from token_tracker.services.rule_rows import rule_of

API = "api"
_LEAST_TOP_UP = Decimal("0.000000001")


class BudgetChanges(BudgetFields, total=False):
    """With what cannot be changed, so that it can be said so: a value equal to what is there is no change."""

    scope_type: str
    scope_id: str | None
    model: str | None
    period: str
    timezone: str
    starts_at: datetime | None


def save(
    session: Session,
    *,
    scope_type: str,
    period: str,
    actor: Actor,
    at: datetime,
    scope_id: str | None = None,
    model: str | None = None,
    timezone: str | None = None,
    starts_at: datetime | None = None,
    **fields: Unpack[BudgetFields],
) -> tuple[Budget, bool]:
    """The budget of this scope, model and period, and whether it was made now; one that is there is changed.

    Needed are `name` and a limit, for a new one. `starts_at` goes with `total` (default: `at`). A new budget's
    counters stand once a recorder has built them. Raises Invalid with all problems, Unchangeable (time zone or start
    of one that is there), KeptInFile.
    """
    scope, problems = scopes.read(session, scope_type, scope_id, model)
    problems += budget_fields.period(period) + budget_fields.starts_at(starts_at, period)
    zone, zone_problems = budget_fields.time_zone("UTC" if timezone is None else timezone)
    problems += zone_problems
    found = None
    if not problems:
        counters.lock_exclusive(session)  # also against another who makes the same at this moment
        found = _same(session, scope, period)
    if found is not None and "alerts" in fields:
        fields["alerts"] = budget_fields.with_urls(fields["alerts"], found.alerts)
    columns, field_problems = budget_fields.read(fields)
    problems += field_problems
    if problems:
        raise Invalid(problems)
    if found is not None:
        changes = cast(BudgetChanges, dict(fields))
        if timezone is not None:
            changes["timezone"] = zone
        if starts_at is not None:
            changes["starts_at"] = starts_at
        return update(session, budget_id=found.id, actor=actor, at=at, **changes), False
    if "name" not in fields:
        problems.append(("name", "is required"))
    columns = budget_fields.DEFAULTS | columns
    entries = budget_fields.alerts(fields.get("alerts", ()))
    problems += budget_fields.together(columns, scope.model) + budget_fields.unreachable(columns, entries)
    if problems:
        raise Invalid(problems)
    budget = Budget(
        id=f"budget_{secrets.token_hex(12)}",
        scope_type=scope.type,
        scope_id=scope.id,
        model=scope.model,
        period=period,
        timezone=zone,
        starts_at=starts_at or at,
        source=API,
        created_at=at,
        **columns,
    )
    _set_alerts(budget, fields.get("alerts", ()))
    session.add(budget)
    session.flush()
    audit.record(session, actor, "budget.create", budget.id, at=at, after=budget_fields.public(budget))
    return budget, True


def get(session: Session, *, budget_id: str, scope: Scope = EVERYTHING) -> Budget:
    """Raises NotFound, also for one outside `scope`."""
    budget = None
    if checks.may_be_stored(budget_id):
        budget = session.scalar(select(Budget).where(Budget.id == budget_id, within(scope, Budget)))
    if budget is None:
        raise NotFound("budget", budget_id)
    return budget


def list_budgets(
    session: Session, *, scope: Scope = EVERYTHING, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[Budget]:
    """All, those of proxy.yaml included, newest first. Raises Invalid (limit, cursor)."""
    return newest_first(session, select(Budget).where(within(scope, Budget)), Budget, limit=limit, cursor=cursor)


def update(session: Session, *, budget_id: str, actor: Actor, at: datetime, **changes: Unpack[BudgetChanges]) -> Budget:
    """Change the fields given. A limit of a measure that it did not limit before: its counters are built anew first.

    Raises NotFound, KeptInFile, Unchangeable (scope, model, period, time zone, start), Invalid with all problems.
    """
    counters.lock_exclusive(session)
    budget = get(session, budget_id=budget_id)
    if budget.source == SOURCE:
        raise KeptInFile("budget", budget_id)
    _check_kept(session, budget, changes)
    if "alerts" in changes:
        changes["alerts"] = budget_fields.with_urls(changes["alerts"], budget.alerts)
    fields: Any = {name: value for name, value in changes.items() if name in BudgetFields.__annotations__}
    columns, problems = budget_fields.read(fields)
    if not problems:
        now = {name: getattr(budget, name) for name in budget_fields.COLUMNS}
        entries = budget_fields.alerts(changes["alerts"]) if "alerts" in changes else _present_alerts(budget)
        problems = budget_fields.together(now | columns, budget.model)
        problems += budget_fields.unreachable(now | columns, entries)
    if problems:
        raise Invalid(problems)
    before, measures = budget_fields.public(budget), measures_of(rule_of(budget, ()))
    for name, value in columns.items():
        if getattr(budget, name) != value:
            setattr(budget, name, value)
    if "alerts" in changes:
        _set_alerts(budget, changes["alerts"])
    if not set(measures_of(rule_of(budget, ()))) <= set(measures):
        budget.counter_built_at = None
    if audit.record(
        session, actor, "budget.update", budget.id, at=at, before=before, after=budget_fields.public(budget)
    ):
        budget.updated_at = at
    session.flush()
    return budget


def delete(session: Session, *, budget_id: str, actor: Actor, at: datetime) -> None:
    """With its counters, alerts, also those that fire, top-ups and releases. Raises NotFound, KeptInFile."""
    counters.lock_exclusive(session)  # a recorder that counts for it would fail on a row that is gone
    budget = get(session, budget_id=budget_id)
    if budget.source == SOURCE:
        raise KeptInFile("budget", budget_id)
    audit.record(session, actor, "budget.delete", budget.id, at=at, before=budget_fields.public(budget))
    alert_book.forget(session, budget.id)
    session.delete(budget)
    session.flush()


def top_up(
    session: Session,
    *,
    budget_id: str,
    amount_usd: Decimal | int | float | str,
    actor: Actor,
    at: datetime,
    until: datetime | None = None,
) -> BudgetTopUp:
    """Raise the limit from now until then (None: the end of the window that now lies in). Also for a budget of the
    file, whose entry stays as it is. Raises NotFound, Invalid."""
    budget = get(session, budget_id=budget_id)
    nano_usd, problems = budget_fields.usd("amount_usd", amount_usd, least=_LEAST_TOP_UP)
    if budget.limit_nano_usd is None:
        problems.append(("amount_usd", "cannot be added: this budget limits tokens only"))
    if until is not None:
        problems += checks.future("until", until, at)
    if problems:
        raise Invalid(problems)
    top_up = BudgetTopUp(
        id=f"topup_{secrets.token_hex(12)}",
        budget_id=budget_id,
        amount_nano_usd=nano_usd,
        until=until,
        created_at=at,
        created_by=actor.user[:64],
    )
    session.add(top_up)
    session.flush()
    said = {"amount_usd": format_usd(nano_usd), "until": None if until is None else until.isoformat()}
    audit.record(session, actor, "budget.top_up", budget_id, at=at, after=said)
    return top_up


def _same(session: Session, scope: scopes.Scope, period: str) -> Budget | None:
    return session.scalars(
        select(Budget).where(
            Budget.scope_type == scope.type,
            Budget.scope_id == scope.id,
            Budget.model == scope.model,
            Budget.period == period,
        )
    ).first()


def _check_kept(session: Session, budget: Budget, changes: BudgetChanges) -> None:
    """Raises Unchangeable or Invalid."""
    asked: dict[str, object] = {name: changes[name] for name in ("period", "timezone", "starts_at") if name in changes}
    if asked.get("starts_at", budget) is None:
        del asked["starts_at"]
    if changes.keys() & {"scope_type", "scope_id", "model"}:
        given = (changes.get("scope_type", budget.scope_type), changes.get("scope_id", budget.scope_id))
        model = changes.get("model", None if given[0] == scopes.MODEL else budget.model)
        scope, problems = scopes.read(session, *given, model)
        if problems:
            raise Invalid(problems)
        asked |= {"scope": (scope.type, scope.id), "model": scope.model}
    kept = {
        "scope": (budget.scope_type, budget.scope_id),
        "model": budget.model,
        "period": budget.period,
        "timezone": budget.timezone,
        "starts_at": budget.starts_at,
    }
    if different := [name for name, value in asked.items() if value != kept[name]]:
        raise Unchangeable([(name, "cannot be changed: make another budget") for name in different])


def _present_alerts(budget: Budget) -> list[dict[str, Any]]:
    """As columns."""
    return [dict(zip(ALERT_COLUMNS, alert.said, strict=True)) for alert in budget.alerts]


def _set_alerts(budget: Budget, entries: Sequence[AlertFields]) -> None:
    """Those that stay keep their rows, so that nobody is told twice."""
    wanted = {tuple(alert[name] for name in ALERT_COLUMNS): alert for alert in budget_fields.alerts(entries)}
    present = {alert.said: alert for alert in budget.alerts}
    for key in present.keys() - wanted.keys():
        budget.alerts.remove(present[key])
    for key in sorted(wanted.keys() - present.keys(), key=str):
        budget.alerts.append(BudgetAlert(**wanted[key]))
