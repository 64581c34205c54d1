"""Silence until a time: of a rule, of a subject, or of everything."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from token_tracker.database.models import AlertMute, AlertRule
from token_tracker.domain.problems import Invalid, NotFound
from token_tracker.services import audit, checks
from token_tracker.services.audit import Actor
from token_tracker.services.pages import DEFAULT_LIMIT, Page, newest_first

LONGEST = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Silence:
    """The mutes that hold at one moment."""

    mutes: Sequence[AlertMute]

    def covers(self, rule_id: str | None, subject: str) -> bool:
        """`rule_id` None: a budget's own threshold. A mute of a budget for each covers all of its members."""
        return any(
            mute.rule_id in (None, rule_id) and mute.subject in ("", subject, subject.partition("|")[0])
            for mute in self.mutes
        )


def silence(session: Session, *, at: datetime) -> Silence:
    return Silence(session.scalars(select(AlertMute).where(AlertMute.until > at)).all())


def mute(
    session: Session,
    *,
    until: object,
    reason: str,
    actor: Actor,
    at: datetime,
    rule: str | None = None,
    subject: str | None = None,
) -> AlertMute:
    """`rule`: an id or a name, None for all. Raises Invalid."""
    problems = checks.future("until", until, at) + checks.text("reason", reason, at_most=500, may_be_empty=True)
    if subject is not None:
        problems += checks.text("subject", subject, at_most=300)
    if isinstance(until, datetime) and not problems and until > at + LONGEST:
        problems.append(("until", f"must be at most {LONGEST.days} days ahead"))
    found = _rule(session, rule) if rule is not None else None
    if rule is not None and found is None:
        problems.append(("rule", "is no alert rule: give its id or its name"))
    if problems or not isinstance(until, datetime):
        raise Invalid(problems)
    made = AlertMute(
        id=f"mute_{secrets.token_hex(12)}",
        rule_id=found.id if found is not None else None,
        subject=subject or "",
        until=until,
        reason=reason,
        created_at=at,
        created_by=actor.user[:64],
    )
    session.add(made)
    session.flush()
    audit.record(session, actor, "alert_mute.create", made.id, at=at, after=public(made))
    return made


def list_mutes(
    session: Session, *, at: datetime, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[AlertMute]:
    """Those that still hold, newest first. Raises Invalid (limit, cursor)."""
    return newest_first(session, select(AlertMute).where(AlertMute.until > at), AlertMute, limit=limit, cursor=cursor)


def unmute(session: Session, *, mute_id: str, actor: Actor, at: datetime) -> None:
    """What still holds is told at the next look. Raises NotFound."""
    found = session.get(AlertMute, mute_id) if checks.may_be_stored(mute_id) else None
    if found is None:
        raise NotFound("mute", mute_id)
    audit.record(session, actor, "alert_mute.delete", found.id, at=at, before=public(found))
    session.delete(found)
    session.flush()


def public(found: AlertMute) -> dict[str, Any]:
    """What the audit log says of a mute."""
    fields = {name: getattr(found, name) for name in ("rule_id", "subject", "reason")}
    return fields | {"until": found.until.isoformat()}


def _rule(session: Session, named: str) -> AlertRule | None:
    if not checks.may_be_stored(named):
        return None
    return session.scalar(select(AlertRule).where((AlertRule.id == named) | (AlertRule.name == named)))
