"""How far each journal segment is booked; saved in the transaction that books its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast

from sqlalchemy import Table, delete, select
from sqlalchemy.orm import Session

from token_tracker.database.models import JournalOffset
from token_tracker.services import bulk

_OFFSETS = cast(Table, JournalOffset.__table__)


def load(session: Session) -> dict[str, int]:
    """Offset in bytes by segment name, of all nodes."""
    return {row.segment: row.offset for row in session.scalars(select(JournalOffset))}


def save(session: Session, offsets: Mapping[str, int], *, at: datetime) -> None:
    if offsets:
        rows = [{"segment": name, "offset": offset, "updated_at": at} for name, offset in sorted(offsets.items())]
        bulk.replace(session, _OFFSETS, rows, ("offset", "updated_at"))


def forget(session: Session, segments: Sequence[str]) -> None:
    """Segments that were deleted."""
    if segments:
        session.execute(delete(JournalOffset).where(JournalOffset.segment.in_(segments)))
