"""Alert rules as the API sets them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from token_tracker.database.models import AlertEpisode, AlertRule, ApiKey, Budget
from token_tracker.domain import alert_fields
from token_tracker.domain.alert_fields import FIELDS
from token_tracker.domain.alert_kinds import KINDS
from token_tracker.domain.problems import Conflict, Invalid, KeptInFile, NotFound, Unchangeable
from token_tracker.services import audit, checks
from token_tracker.services.audit import Actor
from token_tracker.services.budgets import API
from token_tracker.services.configured_alerts import new_id
from token_tracker.services.configured_rules import SOURCE
from token_tracker.services.pages import DEFAULT_LIMIT, Page, newest_first

MOST_RULES = 500
MOST_FIRING = 1_000


def create(session: Session, *, fields: Mapping[str, Any], actor: Actor, at: datetime) -> AlertRule:
    """What is left out is as the kind has it. Raises Invalid (also for a rule that can never fire), Conflict (the name
    is taken, or there are too many)."""
    columns = _checked(session, fields, at)
    if _named(session, columns["name"]) is not None:
        raise Conflict(f"There is an alert rule '{columns['name']}' already: change that one, or take another name.")
    if (session.scalar(select(func.count()).select_from(AlertRule)) or 0) >= MOST_RULES:
        raise Conflict(f"There are {MOST_RULES} alert rules, and there can be no more: delete one first.")
    rule = AlertRule(id=new_id(), source=API, created_at=at, **columns)
    session.add(rule)
    try:
        session.flush()
    except IntegrityError:
        raise Conflict("Somebody else has just made a rule of this name. Look at it, and try again.") from None
    audit.record(session, actor, "alert_rule.create", rule.id, at=at, after=public(rule))
    return rule


def get(session: Session, *, rule_id: str) -> AlertRule:
    """By its id. Raises NotFound."""
    found = session.get(AlertRule, rule_id) if checks.may_be_stored(rule_id) else None
    if found is None:
        raise NotFound("alert rule", rule_id)
    return found


def list_rules(session: Session, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> Page[AlertRule]:
    """All, newest first, those of proxy.yaml and the ones that exist by themselves included. Raises Invalid."""
    return newest_first(session, select(AlertRule), AlertRule, limit=limit, cursor=cursor)


def update(session: Session, *, rule_id: str, changes: Mapping[str, Any], actor: Actor, at: datetime) -> AlertRule:
    """Raises NotFound, KeptInFile, Unchangeable (the kind), Invalid, Conflict."""
    rule = get(session, rule_id=rule_id)
    if rule.source == SOURCE:
        raise KeptInFile("alert rule", rule.id)
    if changes.get("kind", rule.kind) != rule.kind:
        raise Unchangeable([("kind", "cannot be changed: make another rule")])
    columns = _checked(session, {**public(rule), **changes}, at)
    other = _named(session, columns["name"])
    if other is not None and other.id != rule.id:
        raise Conflict(f"There is an alert rule '{columns['name']}' already: take another name.")
    before = public(rule)
    for name, value in columns.items():
        setattr(rule, name, value)
    if audit.record(session, actor, "alert_rule.update", rule.id, at=at, before=before, after=public(rule)):
        rule.updated_at = at
    session.flush()
    return rule


def delete(session: Session, *, rule_id: str, actor: Actor, at: datetime) -> None:
    """What was told stays in the deliveries. Raises NotFound, KeptInFile."""
    rule = get(session, rule_id=rule_id)
    if rule.source == SOURCE:
        raise KeptInFile("alert rule", rule.id)
    audit.record(session, actor, "alert_rule.delete", rule.id, at=at, before=public(rule))
    session.delete(rule)
    session.flush()


def firing(session: Session) -> list[tuple[AlertRule, AlertEpisode]]:
    """What rules fire for at this moment, the newest first, at most `MOST_FIRING`."""
    statement = select(AlertRule, AlertEpisode).join(AlertEpisode, AlertEpisode.rule_id == AlertRule.id)
    newest = (AlertEpisode.since.desc(), AlertRule.name, AlertEpisode.subject)
    is_open = (AlertEpisode.threshold != "", AlertRule.enabled)
    rows = session.execute(statement.where(*is_open).order_by(*newest).limit(MOST_FIRING))
    return [(rule, episode) for rule, episode in rows]


def subject_name(session: Session, rule: AlertRule, subject: str) -> str:
    """What people call it: of a budget and a key the name instead of the id."""
    if KINDS[rule.kind].subject == "budget":
        budget_id, _, member = subject.partition("|")
        budget = session.get(Budget, budget_id)
        return f"{budget.name if budget else budget_id} {member}".strip()
    if KINDS[rule.kind].subject == "key" or rule.options.get("by") == "key":
        key = session.get(ApiKey, subject)
        return key.name if key is not None else subject
    return subject


def public(rule: AlertRule) -> dict[str, Any]:
    """What the audit log says of a rule, and what a change begins with."""
    return {name: getattr(rule, name) for name in FIELDS}


def _named(session: Session, name: str) -> AlertRule | None:
    return session.scalar(select(AlertRule).where(AlertRule.name == name))


def _checked(session: Session, fields: Mapping[str, Any], at: datetime) -> dict[str, Any]:
    """Raises Invalid."""
    columns, problems = alert_fields.completed(fields)
    if not problems and columns["subject"]:
        problems = _subject_problems(session, columns["kind"], columns["subject"], at)
    if problems:
        raise Invalid(problems)
    return columns


def _subject_problems(session: Session, kind: str, subject: str, at: datetime) -> checks.Problems:
    """A rule about what is not there, or cannot come to pass, could never fire."""
    if KINDS[kind].subject == "key":
        key = session.get(ApiKey, subject)
        if key is None:
            return [("subject", "is no key: give the id of one, or leave it out for all")]
        if key.expires_at is None or key.revoked_at is not None or key.expires_at <= at:
            return [("subject", "is a key that does not expire any more, so the rule can never fire")]
    if KINDS[kind].subject == "budget":
        budget = session.get(Budget, subject)
        if budget is None:
            return [("subject", "is no budget: give the id of one, or leave it out for all")]
        if kind == "budget.forecast" and budget.period == "hourly":
            return [("subject", "is an hourly budget, which is over before a rate says anything")]
        if kind == "budget.unproven" and budget.enforcement != "hard":
            return [("subject", "is a budget that holds nothing, so nothing of it is ever unproven")]
    if kind == "spend.unusual" and subject == "all":
        return [("subject", "must be a name that 'by' tells apart; leave it out for all together")]
    return []
