"""What the gateway offers, as its configuration says: for the API, which reads no proxy.yaml."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from token_tracker.database.models.base import Base


class OfferedModel(Base):
    """A name that clients may ask for, or a prefix with '*'. `document`: `alias_of`, `deployments` (the fields of
    `config.values.Deployment` that differ from its defaults, without secrets) and `off`, why others are switched off.
    """

    __tablename__ = "offered_models"
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    source: Mapped[str] = mapped_column(String(16))  # config | environment
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    updated_at: Mapped[datetime]
