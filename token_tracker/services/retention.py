"""Removes old rows of the ledger in small steps; the hourly sums stay for ever."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from token_tracker.database.models import SystemState, TokenUsage
from token_tracker.services.rollups import hour_of
from token_tracker.services.usage_horizon import HORIZON, kept_from


def move_horizon(session: Session, *, keep_from: datetime) -> datetime:
    """Record from when on rows are kept, rounded down to the hour; it only moves forward. What is recorded now.

    To be committed before anything is deleted: the roll-up check trusts it and lets sums of older hours alone.
    """
    recorded, wanted = kept_from(session), hour_of(keep_from)
    if recorded is not None and recorded >= wanted:
        return recorded
    session.merge(SystemState(name=HORIZON, value=wanted.isoformat()))
    return wanted


def delete_older(session: Session, *, limit: int) -> int:
    """Delete at most `limit` rows, the oldest, from before the recorded horizon, with their tags; how many."""
    horizon = kept_from(session)
    if horizon is None:
        return 0
    oldest = select(TokenUsage.id).where(TokenUsage.timestamp < horizon)
    ids = session.scalars(oldest.order_by(TokenUsage.timestamp, TokenUsage.id).limit(limit)).all()
    if ids:
        session.execute(delete(TokenUsage).where(TokenUsage.id.in_(ids)).execution_options(synchronize_session=False))
    return len(ids)
