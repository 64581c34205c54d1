"""The daily digest: what cooldowns and quiet hours held back, one message a recipient."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from token_tracker.database.models import AlertDelivery
from token_tracker.domain.alert_fields import quiet_time
from token_tracker.services.alert_reach import Post, post_of
from token_tracker.services.outbox import DIGESTED, HELD, Notice, enqueue
from token_tracker.services.usage_export import format_time

EVENT = "alert.digest"
SHOWN = 50
MOST = 10_000


def moment(post: Post, at: datetime) -> datetime:
    """The last time that a digest was due."""
    local = at.astimezone(ZoneInfo(post.timezone))
    due = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    due = due.replace(hour=quiet_time(post.digest_at).hour, minute=quiet_time(post.digest_at).minute)
    return due if due <= local else due - timedelta(days=1)


def is_due(session: Session, *, at: datetime) -> bool:
    due = moment(post_of(session), at)
    held = select(AlertDelivery.id).where(AlertDelivery.state == HELD, AlertDelivery.created_at < due)
    return session.scalar(held.limit(1)) is not None


def collect(session: Session, *, at: datetime) -> int:
    """What was held before the last due time, in the caller's transaction; how many digests are new."""
    due = moment(post_of(session), at)
    held = select(AlertDelivery).where(AlertDelivery.state == HELD, AlertDelivery.created_at < due)
    rows = session.scalars(held.order_by(AlertDelivery.created_at, AlertDelivery.id).limit(MOST).with_for_update())
    by_recipient: defaultdict[tuple[str, str], list[AlertDelivery]] = defaultdict(list)
    for row in rows:
        by_recipient[row.channel, row.recipient].append(row)
    notices = [
        Notice(
            EVENT,
            EVENT,
            "",
            f"{due:%Y-%m-%d}#{found[0].id[:12]}",
            "",
            channel,
            recipient,
            _facts(found, post_of(session)),
        )
        for (channel, recipient), found in by_recipient.items()
    ]
    ids = [row.id for found in by_recipient.values() for row in found]
    session.execute(update(AlertDelivery).where(AlertDelivery.id.in_(ids)).values(state=DIGESTED))
    return len(enqueue(session, notices, at=at))


def _facts(held: list[AlertDelivery], post: Post) -> dict[str, object]:
    items = [
        {"event": row.event, "subject": row.subject, "created_at": format_time(row.created_at), "facts": row.facts}
        for row in held[:SHOWN]
    ]
    return {"count": len(held), "items": items, "timezone": post.timezone}
