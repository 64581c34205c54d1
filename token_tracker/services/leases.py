"""Who does a job that only one process of the installation may do at a time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, Table, delete, or_, select, update
from sqlalchemy.orm import Session

from token_tracker.database.models import Lease
from token_tracker.services import bulk

WORKER = "worker"  # alerts, retention, checks: see `token_tracker.worker`


def acquire(session: Session, *, name: str, holder: str, at: datetime, lasts: timedelta) -> bool:
    """Take the lease, or renew it, until `at + lasts`; False while another holder's lasts."""
    until = at + lasts
    free = or_(Lease.holder == holder, Lease.expires_at <= at)
    renewal = update(Lease).where(Lease.name == name, free).values(holder=holder, expires_at=until)
    renewed = cast("CursorResult[Any]", session.execute(renewal.execution_options(synchronize_session=False)))
    if renewed.rowcount:
        return True
    row = {"name": name, "holder": holder, "expires_at": until}
    return bool(bulk.claim(session, cast(Table, Lease.__table__), [row]))


def release(session: Session, *, name: str, holder: str) -> None:
    """Give the lease back, so that the next holder need not wait for its end."""
    session.execute(delete(Lease).where(Lease.name == name, Lease.holder == holder))


def is_held(session: Session, *, name: str, at: datetime) -> bool:
    """Whether somebody does the job at `at`."""
    return session.scalar(select(Lease.name).where(Lease.name == name, Lease.expires_at > at)) is not None
