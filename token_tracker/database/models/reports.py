"""Reports by mail: what is told how often, to whom."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, String
from sqlalchemy.orm import Mapped, mapped_column

from token_tracker.database.models.base import Base


class Report(Base):
    """`period`: 'daily', 'weekly' or 'monthly', by the calendar of `timezone`; sent at `hour` o'clock of the day after
    it. `recipients`: mail addresses; `team` '' for everybody's spend; `source`: 'api' or 'config'."""

    __tablename__ = "reports"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    period: Mapped[str] = mapped_column(String(16))
    timezone: Mapped[str] = mapped_column(String(64))
    hour: Mapped[int]
    team: Mapped[str] = mapped_column(String(64))
    recipients: Mapped[list[str]] = mapped_column(JSON)
    source: Mapped[str] = mapped_column(String(8))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime | None]
