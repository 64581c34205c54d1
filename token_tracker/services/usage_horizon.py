"""How far back the ledger's rows are kept; roll-ups are kept for ever."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from token_tracker.database.models import SystemState

HORIZON = "ledger_kept_from"


def kept_from(session: Session) -> datetime | None:
    """Rows older than this may have been removed; None: all are kept."""
    state = session.get(SystemState, HORIZON)
    return datetime.fromisoformat(state.value) if state else None
