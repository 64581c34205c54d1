"""Who changed what: append-only."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from token_tracker.database.models.base import Base


class AuditEntry(Base):
    """One change. `actor`: a user's id, 'config' for proxy.yaml, 'system' for what nobody asked for; `via`: the id of
    the token it came by, or ''. `before`, `after`: the object's public fields that changed; None where there was none.
    """

    __tablename__ = "audit_log"
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(64))
    via: Mapped[str] = mapped_column(String(40))
    address: Mapped[str] = mapped_column(String(64))
    request_id: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(64))  # 'budget.create'
    object_type: Mapped[str] = mapped_column(String(32))
    object_id: Mapped[str] = mapped_column(String(255))
    before: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    after: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    __table_args__ = (Index(None, "at"), Index(None, "object_type", "object_id"), Index(None, "actor", "at"))
