"""What a new installation begins with, and the way back in for an administrator who lost the password."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from token_tracker.config.values import Secret
from token_tracker.database.models import User
from token_tracker.domain.access import Role
from token_tracker.domain.problems import Invalid
from token_tracker.services import accounts, keys, passwords, refresh_tokens

ADMIN = "admin"
FIRST_KEY_NAME = "first key"


@dataclass(frozen=True, slots=True)
class FirstStart:
    """Secrets that exist from now on and are shown once; None where none was made.

    `admin_password` is None too where TOKEN_TRACKER_ADMIN_PASSWORD names it: its owner knows it.
    """

    admin_password: str | None = None
    first_key: str | None = None


def begin(session: Session, *, admin_password: Secret | None, at: datetime) -> FirstStart | None:
    """The account `admin` and a first key of its own for all models; None, and no change, where any account exists.

    Raises Invalid for an admin password that is too short.
    """
    if session.scalars(select(User.id).limit(1)).first() is not None:
        return None
    password = _password(admin_password)
    accounts.create_user(session, name=ADMIN, password=password, role=Role.ADMIN, at=at)
    _, key = keys.create(session, user=ADMIN, created_by=ADMIN, name=FIRST_KEY_NAME, at=at)
    return FirstStart(password if admin_password is None else None, key)


def reset_admin(session: Session, *, admin_password: Secret | None, at: datetime) -> str | None:
    """Give `admin` a new password, its role and its access back, and end its logins; a generated password, or None.

    Raises Invalid for an admin password that is too short.
    """
    password = _password(admin_password)
    user = session.get(User, ADMIN)
    if user is None:
        accounts.create_user(session, name=ADMIN, password=password, role=Role.ADMIN, at=at)
    else:
        accounts.set_password(session, user_id=ADMIN, password=password)
        user.role, user.disabled_at = Role.ADMIN.value, None
        refresh_tokens.revoke_user(session, user_id=ADMIN, at=at)
    return password if admin_password is None else None


def _password(chosen: Secret | None) -> str:
    password = chosen.value if chosen is not None else passwords.generate()
    if problems := passwords.problems("TOKEN_TRACKER_ADMIN_PASSWORD", password):
        raise Invalid(problems)
    return password
