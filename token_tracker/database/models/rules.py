"""Rate limits and budgets as configured. Nothing enforces them yet; the start says so."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import BigInteger, ForeignKey, Numeric, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from token_tracker.database.models.base import Base


class RateLimit(Base):
    """`source` 'config' rows are changed only by editing proxy.yaml. `scope_id`, `model`: '' for none."""

    __tablename__ = "rate_limits"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    scope_type: Mapped[str] = mapped_column(String(16))
    scope_id: Mapped[str] = mapped_column(String(255), default="")
    model: Mapped[str] = mapped_column(String(255), default="")
    unit: Mapped[str] = mapped_column(String(16))
    limit: Mapped[int] = mapped_column(BigInteger)
    period: Mapped[str] = mapped_column(String(16))
    on_store_error: Mapped[str] = mapped_column(String(8))
    source: Mapped[str] = mapped_column(String(8))
    created_at: Mapped[datetime]
    __table_args__ = (UniqueConstraint("scope_type", "scope_id", "model", "unit", "period"),)


class Budget(Base):
    """A spending limit for a scope, model and period."""

    __tablename__ = "budgets"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    scope_type: Mapped[str] = mapped_column(String(16))
    scope_id: Mapped[str] = mapped_column(String(255), default="")
    model: Mapped[str] = mapped_column(String(255), default="")
    period: Mapped[str] = mapped_column(String(16))
    timezone: Mapped[str] = mapped_column(String(64))
    limit_nano_usd: Mapped[int] = mapped_column(BigInteger)
    enforcement: Mapped[str] = mapped_column(String(8))
    source: Mapped[str] = mapped_column(String(8))
    starts_at: Mapped[datetime]
    created_at: Mapped[datetime]
    alerts: Mapped[list[BudgetAlert]] = relationship(
        back_populates="budget", cascade="all, delete-orphan", order_by="BudgetAlert.threshold_percent"
    )
    __table_args__ = (UniqueConstraint("scope_type", "scope_id", "model", "period"),)


class BudgetAlert(Base):
    """A threshold of a budget and whom to tell; exactly one of the three recipients is set."""

    __tablename__ = "budget_alerts"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    budget_id: Mapped[str] = mapped_column(ForeignKey("budgets.id", ondelete="CASCADE"), index=True)
    threshold_percent: Mapped[Decimal] = mapped_column(Numeric(9, 3))
    email: Mapped[str | None] = mapped_column(String(320))
    slack_webhook: Mapped[str | None] = mapped_column(String(2000))
    webhook: Mapped[str | None] = mapped_column(String(2000))
    budget: Mapped[Budget] = relationship(back_populates="alerts")
