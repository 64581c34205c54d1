"""Who uses the gateway: users and teams."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from token_tracker.database.models.base import Base


class Team(Base):
    """A team; `id` is its immutable short name, used in rows, filters and scopes."""

    __tablename__ = "teams"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime]


class User(Base):
    """An account; `id` is the immutable user name. Roles are those of `domain/access.py`."""

    __tablename__ = "users"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    password_hash: Mapped[str] = mapped_column(String(255))  # argon2id
    role: Mapped[str] = mapped_column(String(16))
    team_id: Mapped[str | None] = mapped_column(ForeignKey("teams.id"))
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]
    single_sign_on: Mapped[str | None] = mapped_column(String(512))  # '<issuer> <subject>'; None: by password
    __table_args__ = (Index("ix_users_single_sign_on", "single_sign_on", unique=True),)


class SingleSignOnAttempt(Base):
    """A login that was sent to the provider and has not come back; used once. `state` is a SHA-256, in hex."""

    __tablename__ = "single_sign_on_attempts"
    state: Mapped[str] = mapped_column(String(64), primary_key=True)
    verifier: Mapped[str] = mapped_column(String(128))
    nonce: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(index=True)
