"""Rows of the ledger as they are booked, each once."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from token_tracker.database.models import TokenUsage
from token_tracker.services.usage_filters import Filters, ledger_conditions
from token_tracker.services.usage_rows import UsageRow, rows_of

LONGEST = timedelta(hours=1)  # of a call: the index is by its beginning
# A row says when it was booked, and is seen once that is committed; also, clocks differ.
LATE = timedelta(seconds=30)
AT_ONCE = 1_000


class Newcomers:
    """What is booked from `at` on, of what `filters` let through, as far as a call took no longer than an hour."""

    def __init__(self, session: Session, filters: Filters, at: datetime) -> None:
        self._filters, self._looked_at = filters, at
        self._seen = set(self._recent(session))

    def look(self, session: Session, at: datetime) -> list[UsageRow]:
        """Those that came since the last look, the first booked first; at most 1,000, the others the next time."""
        recent = self._recent(session)
        fresh = [id for id in recent if id not in self._seen][:AT_ONCE]
        self._seen = self._seen.intersection(recent).union(fresh)
        if len(fresh) < AT_ONCE:
            self._looked_at = at
        return rows_of(session, fresh)

    def _recent(self, session: Session) -> list[str]:
        since = self._looked_at - LATE
        narrowed = self._filters.between(since - LONGEST, None)
        statement = select(TokenUsage.id).where(*ledger_conditions(narrowed), TokenUsage.booked_at >= since)
        order = (TokenUsage.booked_at, TokenUsage.timestamp, TokenUsage.id)
        return list(session.scalars(statement.order_by(*order)))
