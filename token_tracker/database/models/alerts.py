"""The outbox: what people are told, to whom, and what became of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from token_tracker.database.models.base import Base


class AlertDelivery(Base):
    """One message to one recipient. `id` is made of rule, subject, window, threshold and channel, so that there is
    only one row of each however often it is found; `subject`: what it is about ('budget_…', with '|member').

    `channel`: 'email', 'slack', 'webhook' or 'apprise'; `lane`: what drains one after the other (a mail server, a
    host). `state`: 'pending', 'sent', 'dead', 'covered' where a message of a higher threshold told it too, 'held' for
    the daily digest, 'digested' once that told it. `facts`: what the message is composed from. `claimed_until`: nobody
    else sends it before. `recovered_at`: the threshold was passed downwards again.
    """

    __tablename__ = "alert_deliveries"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    rule: Mapped[str] = mapped_column(String(32))
    event: Mapped[str] = mapped_column(String(32))
    subject: Mapped[str] = mapped_column(String(300), index=True)
    window: Mapped[str] = mapped_column(String(64))
    threshold: Mapped[str] = mapped_column(String(32))
    channel: Mapped[str] = mapped_column(String(16))
    recipient: Mapped[str] = mapped_column(String(2000))
    lane: Mapped[str] = mapped_column(String(255))
    facts: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int]
    answer: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(index=True)
    due_at: Mapped[datetime]
    claimed_until: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]
    recovered_at: Mapped[datetime | None]
    __table_args__ = (Index("ix_alert_deliveries_state_due_at", "state", "due_at"),)
