"""Refresh tokens: one use each, all of one login in a family that ends when any is used twice."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from token_tracker.database.models import RefreshToken, User

LOGIN_LIFETIME = timedelta(days=30)  # of a family; rotating does not lengthen it


def issue(session: Session, *, user_id: str, at: datetime) -> str:
    """The first token of a new login. Tokens past their end are deleted on the way, so the table stays small."""
    session.execute(delete(RefreshToken).where(RefreshToken.expires_at <= at))
    return _add(session, secrets.token_hex(16), user_id, at, at + LOGIN_LIFETIME)


def rotate(session: Session, *, token: str, at: datetime) -> tuple[User, str] | None:
    """The account and its next token, in exchange for this one; None if it is unknown, ended or of a disabled account.

    A second use ends the whole family: one of its two users is a thief. That must be committed, so it is an answer
    and not an exception.
    """
    found = session.get(RefreshToken, _hash(token), with_for_update=True)
    if found is None:
        return None
    if found.used_at is not None:
        _end_family(session, found.family, at)
        return None
    user = session.get_one(User, found.user_id)
    if found.revoked_at is not None or found.expires_at <= at or user.disabled_at is not None:
        return None
    found.used_at = at
    return user, _add(session, found.family, user.id, at, found.expires_at)


def revoke(session: Session, *, token: str, at: datetime) -> None:
    """End the login that `token` belongs to; unknown or ended ones are left as they are."""
    found = session.get(RefreshToken, _hash(token))
    if found is not None:
        _end_family(session, found.family, at)


def family_of(session: Session, *, token: str) -> str:
    """The name of the login that a token belongs to; '' for an unknown one."""
    found = session.get(RefreshToken, _hash(token))
    return found.family if found is not None else ""


def family_is_live(session: Session, *, family: str, user_id: str, at: datetime) -> bool:
    """Whether that login is the account's and has neither ended nor been ended."""
    live = select(RefreshToken.family).where(
        RefreshToken.family == family,
        RefreshToken.user_id == user_id,
        RefreshToken.revoked_at.is_(None),
        RefreshToken.expires_at > at,
    )
    return session.scalar(live.limit(1)) is not None


def login_of(token: str) -> str:
    """The name of the login that a first token stands for; of no use to somebody who reads it."""
    return _hash(token).hex()


def is_live(session: Session, *, login: str, user_id: str, at: datetime) -> bool:
    """Whether that login is the account's and has neither ended nor been ended."""
    found = session.get(RefreshToken, bytes.fromhex(login))
    return found is not None and found.user_id == user_id and found.revoked_at is None and found.expires_at > at


def end_login(session: Session, *, login: str, at: datetime) -> None:
    """End it; unknown or ended ones are left as they are."""
    found = session.get(RefreshToken, bytes.fromhex(login))
    if found is not None:
        _end_family(session, found.family, at)


def revoke_user(session: Session, *, user_id: str, at: datetime, but_family: str = "") -> None:
    """End all logins of an account, but the one in `but_family`."""
    tokens = update(RefreshToken).where(
        RefreshToken.user_id == user_id, RefreshToken.revoked_at.is_(None), RefreshToken.family != but_family
    )
    session.execute(tokens.values(revoked_at=at))


def _end_family(session: Session, family: str, at: datetime) -> None:
    tokens = update(RefreshToken).where(RefreshToken.family == family, RefreshToken.revoked_at.is_(None))
    session.execute(tokens.values(revoked_at=at))


def _add(session: Session, family: str, user_id: str, at: datetime, expires_at: datetime) -> str:
    token = secrets.token_urlsafe(32)
    session.add(RefreshToken(hash=_hash(token), family=family, user_id=user_id, created_at=at, expires_at=expires_at))
    session.flush()
    return token


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
