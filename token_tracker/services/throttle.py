"""Guessing passwords gets slower with each wrong one, by account and by address."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import Table, delete
from sqlalchemy.orm import Session

from token_tracker.database.models import LoginFailures
from token_tracker.services import bulk

# So many wrong ones are free; after that each doubles the wait. An address may serve a whole office.
FREE_BY_ACCOUNT, FREE_BY_ADDRESS = 5, 20
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=2), timedelta(minutes=15)
FORGOTTEN_AFTER = timedelta(hours=1)
_DOUBLINGS = 10


def begin(session: Session, *, username: str, address: str, at: datetime) -> timedelta | None:
    """Note an attempt before its password is looked at, so that many at once count one by one; how long to wait if it
    may not be made. An unknown name waits like a known one."""
    session.execute(delete(LoginFailures).where(LoginFailures.last_at < at - FORGOTTEN_AFTER))
    found = [(_locked(session, key, at), free) for key, free in _keys(username, address)]
    waits = [row.blocked_until - at for row, _ in found if row.blocked_until is not None and row.blocked_until > at]
    if waits:
        return max(waits)
    for row, free in found:
        row.failures, row.last_at = row.failures + 1, at
        if row.failures >= free:
            row.blocked_until = at + min(FIRST_WAIT * 2 ** min(row.failures - free, _DOUBLINGS), LONGEST_WAIT)
    session.flush()
    return None


def succeeded(session: Session, *, username: str, address: str) -> None:
    """The attempt that was noted was right: the account starts anew, the address is not blamed for it."""
    account, by_address = (session.get(LoginFailures, key) for key, _ in _keys(username, address))
    if account is not None:
        session.delete(account)
    if by_address is not None:
        by_address.failures = max(0, by_address.failures - 1)
        by_address.blocked_until = None
    session.flush()


def _keys(username: str, address: str) -> list[tuple[str, int]]:
    """In one order for all, so that two attempts never wait for each other."""
    return sorted([(_hash(f"account {username}"), FREE_BY_ACCOUNT), (_hash(f"address {address}"), FREE_BY_ADDRESS)])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _locked(session: Session, key: str, at: datetime) -> LoginFailures:
    bulk.insert_missing(session, cast(Table, LoginFailures.__table__), [{"key": key, "failures": 0, "last_at": at}])
    return session.get_one(LoginFailures, key, with_for_update=True, populate_existing=True)
