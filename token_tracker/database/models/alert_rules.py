"""Alert rules, the channels they name, their silences, and where each stands with each of its subjects."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from token_tracker.database.models.base import Base


class AlertRule(Base):
    """As `domain/alert_fields.py` completes it. `source` 'config': of proxy.yaml, or there by itself; changed only by
    editing the file."""

    __tablename__ = "alert_rules"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    kind: Mapped[str] = mapped_column(String(32))
    subject: Mapped[str] = mapped_column(String(255), default="")
    thresholds: Mapped[list[str]] = mapped_column(JSON)
    options: Mapped[dict[str, Any]] = mapped_column(JSON)
    severity: Mapped[str] = mapped_column(String(16))
    cooldown_s: Mapped[int]
    quiet_hours: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    channels: Mapped[list[str]] = mapped_column(JSON)
    enabled: Mapped[bool]
    source: Mapped[str] = mapped_column(String(8))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime | None]


class AlertChannel(Base):
    """A channel of proxy.yaml by its name. `type`: 'email', 'slack', 'webhook'; `recipient`: address or URL."""

    __tablename__ = "alert_channels"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    type: Mapped[str] = mapped_column(String(16))
    recipient: Mapped[str] = mapped_column(String(2000))


class AlertMute(Base):
    """Silence until a time. `rule_id` None: of all rules and of budgets' own thresholds; `subject` '': of any."""

    __tablename__ = "alert_mutes"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    rule_id: Mapped[str | None] = mapped_column(ForeignKey("alert_rules.id", ondelete="CASCADE"), index=True)
    subject: Mapped[str] = mapped_column(String(300), default="")
    until: Mapped[datetime]
    reason: Mapped[str] = mapped_column(String(500))
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(64))


class AlertEpisode(Base):
    """Where a rule stands with a subject (`domain/alert_flow.py`). `threshold` '': it is over; `told` '': nobody
    was told; `sent`: threshold to the time it was last told, RFC 3339."""

    __tablename__ = "alert_episodes"
    rule_id: Mapped[str] = mapped_column(ForeignKey("alert_rules.id", ondelete="CASCADE"), primary_key=True)
    subject: Mapped[str] = mapped_column(String(300), primary_key=True)
    window: Mapped[str] = mapped_column(String(64))
    number: Mapped[int]
    threshold: Mapped[str] = mapped_column(String(32))
    told: Mapped[str] = mapped_column(String(32))
    since: Mapped[datetime | None]
    seen_at: Mapped[datetime | None]
    is_held: Mapped[bool]
    sent: Mapped[dict[str, str]] = mapped_column(JSON)
