"""What rules observe becomes episodes and messages: in one transaction, each once, however many look."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

from sqlalchemy import Table, delete, or_, select
from sqlalchemy.orm import Session

from token_tracker.database.models import AlertEpisode, AlertRule
from token_tracker.domain.alert_fields import number_text, quiet_time
from token_tracker.domain.alert_flow import FORGOTTEN, RESOLVED, Episode, Message, Observation, Policy, Quiet, step
from token_tracker.domain.alert_kinds import EXCEEDED, KINDS
from token_tracker.services import bulk
from token_tracker.services.alert_mutes import Silence, silence
from token_tracker.services.alert_reach import Directory
from token_tracker.services.outbox import HELD, PENDING, Notice, enqueue
from token_tracker.services.usage_export import format_time

RECOVERED, OVER = "budget.recovered", "alert.resolved"
_SEEN_AGAIN = FORGOTTEN / 4
_EPISODES = cast(Table, AlertEpisode.__table__)
_VALUES = tuple(column.name for column in _EPISODES.columns if not column.primary_key)
Facts = Callable[[Observation], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Step:
    """What changes for one subject."""

    seen: Observation
    before: Episode
    after: Episode
    message: Message | None


def policy_of(rule: AlertRule) -> Policy:
    kind, quiet = KINDS[rule.kind], rule.quiet_hours
    hours = quiet and Quiet(quiet_time(quiet["from"]), quiet_time(quiet["to"]), quiet["timezone"])
    return Policy(
        thresholds=tuple(map(Decimal, rule.thresholds)),
        cooldown=timedelta(seconds=rule.cooldown_s),
        severity=rule.severity,
        quiet=hours or None,
        resolves=kind.resolves,
        is_below=kind.is_below,
    )


def steps(
    session: Session,
    rule: AlertRule,
    seen: Sequence[Observation],
    *,
    at: datetime,
    is_complete: bool = True,
    mutes: Silence | None = None,
) -> list[Step]:
    """Those that change something. `is_complete`: an open episode that is not among `seen` has nothing to show. A rule
    that reaches nobody is silent: it speaks once somebody can hear."""
    policy, episodes = policy_of(rule), _episodes(session, rule.id)
    is_calm = all(policy.passed(each.value) is None for each in seen)
    if is_calm and all(each.threshold is None for each in episodes.values()):
        return []
    mutes = mutes or silence(session, at=at)
    is_heard = bool(Directory(session).recipients(rule.channels))
    looked: dict[str, Observation | None] = {each.subject: each for each in seen}
    if is_complete:
        looked |= {name: None for name, each in episodes.items() if each.threshold is not None and name not in looked}
    found = []
    for subject, observation in looked.items():
        before = episodes.get(subject, Episode())
        is_silent = not is_heard or mutes.covers(rule.id, subject)
        after, message = step(before, observation, policy, at, is_silent=is_silent)
        if message is not None or _differs(before, after):
            found.append(Step(observation or Observation(subject, Decimal(0)), before, after, message))
    return found


def advance(
    session: Session,
    rule: AlertRule,
    seen: Sequence[Observation],
    *,
    at: datetime,
    facts: Facts,
    is_complete: bool = True,
) -> int:
    """Write what changes, in the caller's transaction; how many messages are new. Others who do the same wait."""
    lock = select(AlertRule.id).where(AlertRule.id == rule.id).with_for_update()
    if session.scalar(lock) is None:  # deleted meanwhile
        return 0
    found = steps(session, rule, seen, at=at, is_complete=is_complete)
    if found:
        rows = [_row(rule.id, each.seen.subject, each.after) for each in found]
        bulk.replace(session, _EPISODES, rows, _VALUES)
    recipients = Directory(session).recipients(rule.channels)
    notices = []
    for each in found:
        if each.message is None:
            continue
        said = _said(rule, each.message, each.seen, facts(each.seen), at)
        for to in recipients:
            notices.append(_notice(rule, each.message, each.seen.subject, to.channel, to.address, said))
    return len(enqueue(session, notices, at=at))


def forget(session: Session, subject: str) -> None:
    """End what fires for a subject that goes (a budget: and for its members), without a word to anybody."""
    of_member = AlertEpisode.subject.startswith(f"{subject}|", autoescape=True)
    session.execute(delete(AlertEpisode).where(or_(AlertEpisode.subject == subject, of_member)))


def _notice(
    rule: AlertRule, message: Message, subject: str, channel: str, recipient: str, facts: dict[str, Any]
) -> Notice:
    event = rule.kind
    if message.what == RESOLVED:
        event = RECOVERED if rule.kind == EXCEEDED else OVER
    return Notice(
        rule=rule.id,
        event=event,
        subject=subject,
        window=message.key if message.what != RESOLVED else f"{message.key} over",
        threshold=number_text(message.threshold),
        channel=channel,
        recipient=recipient,
        facts=facts,
        state=HELD if message.is_held else PENDING,
    )


def _said(
    rule: AlertRule, message: Message, seen: Observation, facts: Mapping[str, Any], at: datetime
) -> dict[str, Any]:
    return {
        **facts,
        "rule": rule.name,
        "kind": rule.kind,
        "severity": rule.severity,
        "value": number_text(seen.value.quantize(Decimal("0.001"))),
        "threshold": number_text(message.threshold),
        "threshold_unit": KINDS[rule.kind].unit,
        "at": format_time(at),
    }


def _differs(before: Episode, after: Episode) -> bool:
    """Not only by when it was last seen, unless that is long ago."""
    if before.seen_at is not None and after.seen_at is not None and after.seen_at - before.seen_at < _SEEN_AGAIN:
        after = replace(after, seen_at=before.seen_at)
    return before != after


def _episodes(session: Session, rule_id: str) -> dict[str, Episode]:
    rows = session.execute(select(_EPISODES).where(_EPISODES.c.rule_id == rule_id))
    return {
        row.subject: Episode(
            threshold=Decimal(row.threshold) if row.threshold else None,
            told=Decimal(row.told) if row.told else None,
            window=row.window,
            number=row.number,
            since=row.since,
            seen_at=row.seen_at,
            is_held=row.is_held,
            sent={Decimal(threshold): datetime.fromisoformat(at) for threshold, at in row.sent.items()},
        )
        for row in rows
    }


def _row(rule_id: str, subject: str, episode: Episode) -> dict[str, Any]:
    return {
        "rule_id": rule_id,
        "subject": subject,
        "window": episode.window,
        "number": episode.number,
        "threshold": "" if episode.threshold is None else number_text(episode.threshold),
        "told": "" if episode.told is None else number_text(episode.told),
        "since": episode.since,
        "seen_at": episode.seen_at,
        "is_held": episode.is_held,
        "sent": {number_text(threshold): at.astimezone(UTC).isoformat() for threshold, at in episode.sent.items()},
    }
