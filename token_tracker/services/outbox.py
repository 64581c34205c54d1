"""The outbox: a message is written once, sent by one at a time, tried again within bounds, and never forgotten."""

from __future__ import annotations

import hashlib
import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast
from urllib.parse import urlsplit

from sqlalchemy import ColumnElement, CursorResult, Table, or_, select, update
from sqlalchemy.orm import Session

from token_tracker.config.recipients import scheme_of
from token_tracker.database.models import AlertDelivery
from token_tracker.domain.problems import Conflict, NotFound
from token_tracker.services import bulk, checks
from token_tracker.services.pages import DEFAULT_LIMIT, Page, newest_first

MAX_ATTEMPTS = 12  # over some three hours
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 3600.0
CLAIM_LASTS = timedelta(minutes=3)  # longer than any channel takes to send or to give up
ANSWER_CHARACTERS = 1000
PENDING, COVERED, HELD, DIGESTED = "pending", "covered", "held", "digested"
TEST = "test"  # the event of a message that somebody asked for: tried once


@dataclass(frozen=True, slots=True)
class Notice:
    """What is to be told to one recipient. `channel`: 'email', 'slack', 'webhook', 'apprise'; `threshold` '' for none;
    `state`: 'covered' where it is only noted, as a message of a higher threshold says it too, 'held' for the daily
    digest."""

    rule: str
    event: str
    subject: str
    window: str
    threshold: str
    channel: str
    recipient: str
    facts: dict[str, Any]
    state: str = PENDING

    @property
    def id(self) -> str:
        """The same for the same rule, subject, window, threshold and recipient."""
        key = (self.rule, self.subject, self.window, self.threshold, self.channel, self.recipient)
        return hashlib.sha256("\n".join(key).encode("utf-8", "surrogatepass")).hexdigest()[:40]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a channel says of one attempt. `kind`: 'sent', 'retry' (it may work later) or 'dead' (it never will);
    `answer`: the other side's own words."""

    kind: str
    answer: str


def enqueue(session: Session, notices: Sequence[Notice], *, at: datetime) -> set[str]:
    """Write those that are not there yet; their ids."""
    rows = [
        {
            "id": notice.id,
            "rule": notice.rule,
            "event": notice.event,
            "subject": notice.subject,
            "window": notice.window,
            "threshold": notice.threshold,
            "channel": notice.channel,
            "recipient": notice.recipient,
            "lane": lane_of(notice.channel, notice.recipient),
            "facts": notice.facts,
            "state": notice.state,
            "attempts": 0,
            "answer": "",
            "created_at": at,
            "due_at": at,
        }
        for notice in notices
    ]
    return bulk.claim(session, cast(Table, AlertDelivery.__table__), rows) if rows else set()


def enqueue_test(session: Session, *, channel: str, recipient: str, by: str, at: datetime) -> str:
    """A marked message that is tried once; its id."""
    notice = Notice(TEST, TEST, secrets.token_hex(8), "", "", channel, recipient, {"asked_by": by})
    enqueue(session, [notice], at=at)
    return notice.id


def lane_of(channel: str, recipient: str) -> str:
    """What delays only itself when it is slow: the mail server, the host of a webhook, or the account of a service. It
    is shown, so that it holds no part of a service's URL but the first."""
    if channel == "email":
        return channel
    if channel == "apprise":
        return f"{channel}:{scheme_of(recipient)[:64]}:{hashlib.sha256(recipient.encode()).hexdigest()[:8]}"
    return f"{channel}:{urlsplit(recipient).netloc.rpartition('@')[2]}"[:255]


def due_lanes(session: Session, *, at: datetime) -> list[str]:
    """Lanes that have something to send now."""
    return list(session.scalars(select(AlertDelivery.lane).where(*_due(at)).distinct()))


def claim_next(session: Session, *, lane: str, at: datetime) -> AlertDelivery | None:
    """The oldest message of a lane that is due, for `CLAIM_LASTS` nobody else's; None: there is none."""
    oldest = select(AlertDelivery).where(AlertDelivery.lane == lane, *_due(at))
    found = session.scalar(
        oldest.order_by(AlertDelivery.due_at, AlertDelivery.id).limit(1).with_for_update(skip_locked=True)
    )
    if found is None:
        return None
    if found.attempts >= MAX_ATTEMPTS:  # each ended with its worker: it is not repeated for ever
        found.state, found.answer = "dead", "the worker ended in each attempt before it knew what came of it"
        session.flush()
        return claim_next(session, lane=lane, at=at)
    found.claimed_until = at + CLAIM_LASTS
    found.attempts += 1
    session.flush()
    return found


def finish(session: Session, *, delivery: AlertDelivery, outcome: Outcome, at: datetime) -> str:
    """Note what an attempt came to; the state after it. Where the claim was lost meanwhile only 'sent' is noted."""
    state, wait_s = _after(delivery, outcome)
    values = {
        "state": state,
        "answer": outcome.answer[:ANSWER_CHARACTERS].replace("\x00", ""),
        "due_at": at + timedelta(seconds=wait_s),
        "claimed_until": None,
        "sent_at": at if state == "sent" else None,
    }
    is_ours = AlertDelivery.claimed_until == delivery.claimed_until
    statement = update(AlertDelivery).where(AlertDelivery.id == delivery.id)
    session.execute(
        statement.where(or_(is_ours, AlertDelivery.state != "sent") if state == "sent" else is_ours).values(values)
    )
    return state


def list_deliveries(
    session: Session, *, state: str | None = None, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[AlertDelivery]:
    """Newest first. Raises Invalid."""
    statement = select(AlertDelivery)
    if state is not None:
        statement = statement.where(AlertDelivery.state == state)
    return newest_first(session, statement, AlertDelivery, limit=limit, cursor=cursor)


def get(session: Session, *, delivery_id: str) -> AlertDelivery:
    """Raises NotFound."""
    found = session.get(AlertDelivery, delivery_id) if checks.may_be_stored(delivery_id) else None
    if found is None:
        raise NotFound("delivery", delivery_id)
    return found


def send_again(session: Session, *, delivery_id: str, at: datetime) -> AlertDelivery:
    """Give a dead message all its attempts anew. Raises NotFound, Conflict (it is not dead)."""
    found = get(session, delivery_id=delivery_id)
    dead = update(AlertDelivery).where(AlertDelivery.id == found.id, AlertDelivery.state == "dead")
    changed = cast("CursorResult[Any]", session.execute(dead.values(state="pending", attempts=0, due_at=at)))
    if not changed.rowcount:
        raise Conflict(f"The delivery '{delivery_id}' is {found.state}; only a dead one can be sent again.")
    session.refresh(found)
    return found


def _due(at: datetime) -> tuple[ColumnElement[bool], ...]:
    is_free = or_(AlertDelivery.claimed_until.is_(None), AlertDelivery.claimed_until <= at)
    return AlertDelivery.state == "pending", AlertDelivery.due_at <= at, is_free


def _after(delivery: AlertDelivery, outcome: Outcome) -> tuple[str, float]:
    if outcome.kind != "retry":
        return outcome.kind, 0.0
    if delivery.event == TEST or delivery.attempts >= MAX_ATTEMPTS:
        return "dead", 0.0
    return "pending", wait_s(delivery.attempts)


def wait_s(attempts: int) -> float:
    """Doubles with each attempt, give or take a fifth, so that many do not come back at once."""
    backoff_s: float = min(FIRST_WAIT_S * 2.0 ** min(attempts - 1, 30), LONGEST_WAIT_S)
    return backoff_s * random.uniform(0.8, 1.2)  # noqa: S311
