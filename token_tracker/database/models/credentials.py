"""What opens doors: our own keys and tokens, only as hashes; providers' keys, encrypted."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, ForeignKey, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from token_tracker.database.models.base import Base


class ApiKey(Base):
    """A virtual key `sk-tt-…`: SHA-256 of 256 random bits, so nothing can be guessed back from `hash`."""

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    prefix: Mapped[str] = mapped_column(String(16))  # the first characters, to recognise a key by
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    team_id: Mapped[str | None] = mapped_column(ForeignKey("teams.id"), index=True)
    agent: Mapped[str] = mapped_column(String(200), default="")  # pinned agent; '' none
    models: Mapped[list[str]] = mapped_column(JSON)  # ["*"]: all
    permissions: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(64))
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    predecessor_id: Mapped[str | None] = mapped_column(ForeignKey("api_keys.id"))  # the key this one was rotated from


class RefreshToken(Base):
    """A refresh token, used once: a second use is theft or a bug, and ends the whole family."""

    __tablename__ = "refresh_tokens"
    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    family: Mapped[str] = mapped_column(String(40), index=True)  # one login
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class LoginFailures(Base):
    """Wrong passwords of late, of one account or from one address; `key` is a SHA-256 of which, in hex."""

    __tablename__ = "login_failures"
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    failures: Mapped[int]
    last_at: Mapped[datetime] = mapped_column(index=True)
    blocked_until: Mapped[datetime | None]


class ServiceToken(Base):
    """A token for programs that use the API: it acts as who made it, and may no more than its `permissions` say."""

    __tablename__ = "service_tokens"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    prefix: Mapped[str] = mapped_column(String(20))
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    permissions: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class ProviderCredential(Base):
    """A provider's key, encrypted (`config/encryption.py`); deployments name it as `litellm_credential_name`."""

    __tablename__ = "provider_credentials"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    provider: Mapped[str] = mapped_column(String(64))
    hint: Mapped[str] = mapped_column(String(16))  # its last characters, to recognise it by
    sealed: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(64))
    updated_at: Mapped[datetime | None]
