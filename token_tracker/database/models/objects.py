"""What is stored at providers under an id, and who owns it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from token_tracker.database.models.base import Base


class ProviderObject(Base):
    """A stored response, file or batch of the account (address and key) of a provider that made it.

    It belongs to `team`, or to `user` where the key that made it has no team. `call_id`: the call that made it.
    `is_background`: its usage is told only by a later retrieval; `metered_by`: the call that read it, '' for none yet.
    `node`: whose gateway learned of it last.
    """

    __tablename__ = "provider_objects"
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)  # 'response' | 'file' | 'batch'
    id: Mapped[str] = mapped_column(String(255), primary_key=True)
    account: Mapped[str] = mapped_column(String(40), primary_key=True)
    deployment: Mapped[str] = mapped_column(String(255))
    provider: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(String(255))
    team: Mapped[str] = mapped_column("team_id", String(64))
    user: Mapped[str] = mapped_column("user_id", String(64))
    key_id: Mapped[str] = mapped_column(String(40))
    call_id: Mapped[str] = mapped_column(String(40))
    is_background: Mapped[bool]
    metered_by: Mapped[str] = mapped_column(String(40))
    created_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]
    node: Mapped[str] = mapped_column(String(64))
    __table_args__ = (Index(None, "updated_at"), Index(None, "call_id"))
